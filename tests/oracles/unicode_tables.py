"""Writes runtime/text/unicode_tables.h from Python's own character database.

    python tests/oracles/unicode_tables.py runtime/text/unicode_tables.h      (Python 3.11: Unicode 14)
"""
import unicodedata, sys
out=[]
def ranges(pred):
    r=[];s=None
    for c in range(0x110000):
        if 0xD800<=c<=0xDFFF: ok=False
        else: ok=pred(chr(c))
        if ok and s is None: s=c
        if not ok and s is not None: r.append((s,c-1)); s=None
    if s is not None: r.append((s,0x10FFFF))
    return r
sp=[]
for c in range(0x110000):
    if 0xD800<=c<=0xDFFF: continue
    ch=chr(c)
    l,t,u=ch.lower(),ch.title(),ch.upper()
    if max(len(l),len(t),len(u))>1: sp.append((c,l,t,u))
cat=unicodedata.category
lo=ranges(lambda ch: ch.islower() and cat(ch)!='Ll')
up=ranges(lambda ch: ch.isupper() and cat(ch)!='Lu')
notlo=ranges(lambda ch: not ch.islower() and cat(ch)=='Ll')
notup=ranges(lambda ch: not ch.isupper() and cat(ch)=='Lu')
dg=ranges(lambda ch: ch.isdigit() and not ch.isdecimal())
nm=ranges(lambda ch: ch.isnumeric() and not ch.isdecimal() and cat(ch) not in('Nl','No'))
notnm=ranges(lambda ch: not ch.isnumeric() and cat(ch) in('Nl','No'))
dec=ranges(lambda ch: ch.isdecimal() != (cat(ch)=='Nd'))
alpha=ranges(lambda ch: ch.isalpha() != (cat(ch)[0]=='L'))
space=ranges(str.isspace)
prt=ranges(lambda ch: ch.isprintable() != (ch==' ' or cat(ch) not in('Cc','Cf','Cs','Co','Cn','Zl','Zp','Zs')))
def fmt(r):
    s='';line='   '
    for a,b in r:
        t=f' {{0x{a:X}, 0x{b:X}}},'
        if len(line)+len(t)>110: s+=line+'\n'; line='   '
        line+=t
    return s+line+'\n'
def u(x,n=3):
    v=[hex(ord(k)).replace('0x','0x').upper().replace('0X','0x') for k in x]
    return '{'+', '.join(v)+'}'
h='''// What Unicode 14 says of letters and numbers beyond utf8proc's categories and simple case mappings, as Python's
// str methods see it; written by tests/oracles/unicode_tables.py.
#pragma once

#include <array>
#include <cstdint>

namespace linnet::text {

struct CodePointRange {
  char32_t first, last;
};

// Lower case though not of category Ll, upper case though not of Lu (Other_Lowercase, Other_Uppercase).
inline constexpr CodePointRange kOtherLower[] = {
'''+fmt(lo)+'''};
inline constexpr CodePointRange kOtherUpper[] = {
'''+fmt(up)+'''};
// Numeric_Type=Digit.
inline constexpr CodePointRange kDigits[] = {
'''+fmt(dg)+'''};
// Numbers among the letters (Numeric_Type=Numeric, categories other than Nl and No).
inline constexpr CodePointRange kNumericLetters[] = {
'''+fmt(nm)+'''};

// SpecialCasing.txt without conditions: mappings to several characters; 0 ends them.
struct SpecialCase {
  char32_t c;
  char32_t lower[3], title[3], upper[3];
};
inline constexpr SpecialCase kSpecialCases[] = {
'''+''.join(f'    {{0x{c:X}, {u(l)}, {u(t)}, {u(up_)}}},\n' for c,l,t,up_ in sp)+'''};

}  // namespace linnet::text
'''
open(sys.argv[1],'w').write(h)
