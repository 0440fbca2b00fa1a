"""Random chat templates through transformers' own sandbox and through this repository's engine.

    python tests/oracles/template_fuzz.py RENDER [--count 20000] [--seed 1] [--keep FILE.jsonl] [--show 10]

RENDER is the program of tests/tools/template_render.cc (target linnet_template_render). Templates are random
sentences of Jinja's grammar over every filter, test and method that chat templates use and those at the edges;
contexts hold conversations, tools, documents and strings at the edges of Unicode. Both sides must give the same
text, or both an error. What the engine refuses by name (kUnsupported, or a bound) is counted apart, and so is
what depends on addresses in memory. --keep writes cases for tests/text/template_golden_test.cc.
"""
import argparse
import collections
import warnings
import datetime
import json
import random
import subprocess

from transformers.utils import chat_template_utils

NOW = 1700000000
warnings.filterwarnings("ignore")
STRINGS = ["", " ", "a", "Hello", "hello world", "  padded \n", "\u00a0\u3053\u3093\u3000", "x\x1cy\x85z", "line one\nline two\r\nthree\n", "Straße ŉ ΑΣ ǆ İ",
           "ﬁx ª ²", "<think>\nhm\n</think>\n\nyes", "</think>", "a,b,,c", "%s and %d", "{} {0}", "it's \"quoted\"", "tab\tnew\\n", "0x1F", " 42 ", "-3.5e2", "1_000", "٣٤",
           "é", "e\u0301", "🐦漢字", "<b>&amp;</b>", "user", "assistant", "UPPER lower Title", "a-b (c) [d]", "one two  three", "\ufeff", "\u200b", "inf", "true", "{\"a\": 1}", "ꟸ", "aAbB"]
CONTEXTS = []


def contexts():
    calls = [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 3}}}]
    tool = {"type": "function", "function": {"name": "get_weather", "description": "The \"weather\" of <a> city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"], "default": 1}}, "required": ["city"]}}}
    base = {"s": "Hello World", "e": "", "u": "\u00a0Straße\u3000\n", "n": 7, "f": 2.5, "z": 0, "neg": -3, "t": True, "no": False, "nil": None,
            "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "ll": [[1, 2], [3], []], "d": {"b": 1, "a": [1, 2], "C": None, "items": 5}, "dd": [{"k": "x", "v": 1}, {"k": "Y", "v": 2.0}, {"k": "x", "v": None}, {"w": 0}],
            "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": None, "documents": None}
    chats = [[{"role": "user", "content": "Hello!"}],
             [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "<think>\nsum\n</think>\n\n4"}, {"role": "user", "content": " next\u3000"}],
             [{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image"}, {"type": "text", "text": "this"}]}, {"role": "assistant", "content": "ok"}],
             [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": calls, "reasoning_content": "hm"}, {"role": "tool", "content": "{\"t\": 21}", "name": "get_weather"}],
             []]
    for i, chat in enumerate(chats):
        more = {"tools": [tool] if i % 2 else None, "documents": [{"title": "T", "text": "x\ny"}] if i == 2 else None, "add_generation_prompt": i != 1}
        CONTEXTS.append({**base, **more, "messages": chat})


class Gen:
    """Sentences that mostly make sense: each place has a type in mind (s text, n number, l list, d dict, b truth, a
    any), and takes another one now and then."""

    TYPED = {"s": ["s", "e", "u", "bos_token", "s"], "n": ["n", "f", "z", "neg", "n"], "l": ["l", "ls", "ll", "dd", "messages", "ls"], "d": ["d", "messages[0]", "dd[0]"], "b": ["t", "no", "nil"]}

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.vars = {k: list(v) for k, v in self.TYPED.items()}
        self.macros = []
        self.loops = 0
        self.budget = self.r.randint(3, 30)
        self.wild = self.r.choice([0, 0, .02, .08])  # how often a place takes what does not fit

    def pick(self, *xs):
        return self.r.choice(xs)

    def string(self):
        s = self.r.choice(STRINGS)
        if self.r.random() < .5:
            s = s[:self.r.randint(0, 4)]
        q = self.pick("'", '"')
        out = ""
        for c in s:
            if c in "\\" + q:
                out += "\\" + c
            elif c == "\n" and self.r.random() < .7:
                out += "\\n"
            elif ord(c) > 126 and self.r.random() < .1 and ord(c) < 0x10000:
                out += "\\u%04x" % ord(c)
            else:
                out += c
        return q + out + q

    def part(self):
        """A short text that is likely to be in another."""
        return self.pick("'l'", "'a'", "' '", "'o'", "','", "'</think>'", "'\\n'", "'s'", "''", "'e'", "'x'", "'H'", "'ll'", self.string())

    def integer(self):
        return self.pick("0", "1", "2", "3", "-1", "-2", "5", "10", "1_000", "0x1f", "100", "n")

    def atom(self, t="a"):
        if t == "a" or self.r.random() < self.wild:
            t = self.pick("s", "s", "n", "l", "d", "b", "l", "u")
        k = self.r.random()
        if t == "u":
            return self.pick("undefd", "d.nope", "none", "messages[9]", "s.nope")
        if self.loops and t == "n" and k < .25:
            return "loop." + self.pick("index", "index0", "length", "revindex", "revindex0", "depth", "depth0")
        if self.loops and t == "b" and k < .4:
            return "loop." + self.pick("first", "last", "changed(n)", "changed(s)", "previtem is defined", "nextitem is defined")
        if k < .5 and self.vars[t]:
            return self.r.choice(self.vars[t])
        if t == "s":
            if self.loops and k < .53:
                return "loop.cycle('a', 'b')"
            return self.string()
        if t == "n":
            return self.integer() if self.r.random() < .7 else self.pick("0.5", "2.0", "1e3", "-1.25", "1e-7", "1e16", "3.14159", "1_0.5", "2.5", "true")
        if t == "b":
            return self.pick("true", "false", "True", "False", "none", "None")
        if t == "d":
            if k < .6:
                return self.pick("namespace(a=1, b='x')", "dict(a=1, b=2)", "dict(d, x=3)", "dict([('a', 1), ('b', none)])")
            return "{" + ", ".join(f"{self.pick(self.string(), self.string(), self.integer(), 'none', 'true', '1.0', '(1, 2)')}: {self.atom()}" for _ in range(self.r.randint(0, 3))) + "}"
        inner = self.pick("s", "n", "a", "d", "l") if self.budget > 0 else "n"
        items = [self.atom(inner) for _ in range(self.r.randint(0, 4))]
        if k < .65:
            return "(" + "".join(i + ", " for i in items) + ")"
        if k < .72:
            return self.pick("range(3)", "range(1, 5, 2)", "range(5, 0, -2)", "range(0)", "d.items()", "d.keys()", "d.values()")
        return "[" + ", ".join(items) + "]"

    def expr(self, t="a", depth=0):
        self.budget -= 1
        if t == "a" or self.r.random() < self.wild:
            t = self.pick("s", "s", "s", "n", "l", "l", "d", "b", "b")
        if depth > 4 or self.budget < 0 or self.r.random() < .15:
            return self.atom(t)
        e = lambda t: self.expr(t, depth + 1)
        k = self.r.random()
        if k < .06:
            return f"({e(t)} if {e('b')} else {e(t)})" if self.r.random() < .8 else f"({e(t)} if {e('b')})"
        if k < .10:
            return f"({e(t)} {self.pick('and', 'or')} {e(t)})"
        if k < .13:
            return f"({e(self.pick(t, 'a'))} | {self.pick('default', 'd')}({self.atom(t)}{self.pick('', ', true', ', boolean=true', ', false')}))"
        return {"s": self.text, "n": self.numeric, "l": self.listed, "d": self.dicted, "b": self.truth}[t](depth)

    def index(self):
        b = lambda: self.pick("", "", "0", "1", "2", "-1", "-2", "10", "none", "n")
        if self.r.random() < .6:
            return f"[{b()}:{b()}]"
        return f"[{b()}:{b()}:{self.pick('', '1', '-1', '2', '-2', '3')}]"

    def text(self, depth):
        e = lambda t: self.expr(t, depth + 1)
        p, i, t = self.part, self.integer, lambda: self.pick("true", "false")
        k = self.r.random()
        if k < .30:
            f = self.pick("trim", f"trim({p()})", "upper", "lower", "title", "capitalize", "string", "reverse", f"replace({p()}, {p()})", f"replace({p()}, {p()}, {i()})", "replace('', '-')",
                          f"indent({self.pick('2', '0', repr('> '), '-1', 'width=3')})", f"indent(2, {t()}, {t()})", "indent(first=true)", "indent", f"truncate({self.pick('3', '5', '8', '20')})", f"truncate(5, true, '..', 0)", f"truncate(8, false, {p()}, 1)", "truncate(length=4, end='', leeway=0)",
                          f"center({self.pick('5', '12', '21', '20')})", "urlencode", "e", "escape", "safe", "forceescape", "safe|upper", "e|trim", "tojson", "tojson(ensure_ascii=true)", "first", "last", "list|join('.')", f"format({self.atom()})", "wordcount|string", "safe + '<'", "e ~ '<'", "map('upper')|join", "attr('upper')|default('z')")
            return f"({e('s')})|{f}"
        if k < .58:
            m = self.pick("upper()", "lower()", "strip()", f"strip({p()})", "lstrip()", f"rstrip({p()})", f"lstrip({p()})", f"replace({p()}, {p()})", f"replace({p()}, {p()}, {i()})", f"join({self.atom('s')})", f"join({self.pick('ls', e('l'))}|map('string'))", "title()", "capitalize()", "casefold()", "swapcase()", f"center({i()})", f"ljust({i()}, '*')", "rjust(8)", f"zfill({i()})", "expandtabs()", "expandtabs(4)",
                          f"removeprefix({p()})", f"removesuffix({p()})", f"split({p()})[0]", f"split({p()})[-1]", f"split()[-1]", f"partition({p()})[2]", f"rpartition({p()})[0]", f"split({p()})|last|trim", f"rsplit({p()}, 1)[0]", "splitlines()|join('/')")
            return f"({e('s')}).{m}"
        if k < .66:
            return f"({e('s')}){self.pick(self.index(), '[0]', '[-1]', '[n]')}"
        if k < .72:
            return f"({e('s')} {self.pick('+', '~', '~')} {e('s')})"
        if k < .75:
            return f"{e('s')} ~ {e('a')}"
        if k < .78:
            return f"({e('s')} * {self.pick('0', '1', '2', '3', '-1', 'true')})"
        if k < .83:
            return self.formatted()
        if k < .88:
            return self.braces()
        if k < .93:
            j = self.pick("tojson", f"tojson(indent={self.pick('0', '2', '4', 'none', 'true')})", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "tojson(false, 2)", "tojson(indent=1, sort_keys=true, separators=[', ', '= '])", f"tojson(indent={self.pick(repr('--'), '-1')})", "tojson(ensure_ascii=true)", "string", "join", "join(', ')", "join(d='-')", "string|length|string")
            return f"({e(self.pick('l', 'd', 'a'))})|{j}"
        if k < .95 and self.macros:
            return self.macro_call()
        return self.pick("messages[0].role", "messages[-1]['role']", "messages[0].content|string", "(messages|first).role", "d.b|string", "dd[1].k", "strftime_now('%d %b %Y')", "cycler('a', 'b').next()", "joiner('|')()", "bos_token", "(tools|tojson)", "s.nope", "undefd", "(undefd|string)", "documents[0].title|default('none')", "namespace(x='v').x", "ns_a|default('')", "filesizeformat"[:0] + "(n * 1000)|filesizeformat", "d|xmlattr", "dict(a=s)|urlencode")

    def macro_call(self):
        args = [self.atom() for _ in range(self.r.randint(0, 2))]
        if self.r.random() < .3:
            args.append(self.pick("x", "y", "zz") + "=" + self.atom())
        if self.r.random() < .1:
            args.append(self.pick("*l", "*ls", "**{'y': 1}"))
        return f"{self.r.choice(self.macros)}({', '.join(args)})"

    def numeric(self, depth):
        e = lambda t: self.expr(t, depth + 1)
        k = self.r.random()
        if k < .35:
            op = self.pick("+", "-", "*", "/", "//", "%", "+", "-", "*", "**")
            return f"({e('n')} {op} {e('n') if op not in ('**',) else self.pick('2', '3', '0.5', '-1', '0')})"
        if k < .40:
            return self.pick("-", "+") + self.atom("n")
        if k < .65:
            f = self.pick("abs", "round", f"round({self.pick('1', '2', '-1', '0')})", f"round({self.pick('1', '0', '2')}, {self.pick(repr('ceil'), repr('floor'))})", "int", "float", "int|abs", "string|int", "string|float", "round|int")
            return f"({e('n')})|{f}"
        if k < .75:
            return f"({e(self.pick('s', 'l', 'd'))})|{self.pick('length', 'count')}"
        if k < .82:
            return f"({self.atom('s')})|{self.pick('int', 'float', 'int(7)', 'float(1.5)', 'int(0, 16)', 'int(base=0)', 'wordcount', 'int(default=none)')}"
        if k < .92:
            return f"({e('s')}).{self.pick(f'find({self.part()})', f'rfind({self.part()})', f'count({self.part()})', f'find({self.part()}, 1)', f'find({self.part()}, 1, {self.integer()})', f'index({self.part()})', f'rfind({self.part()}, 0, -1)')}"
        return f"({self.pick('l', '[1, 2, 3]', 'range(4)', '[2.5, 1]', self.atom('l'))})|{self.pick('sum', 'min', 'max', 'first', 'last', 'sum(start=10)')}"

    def listed(self, depth):
        e = lambda t: self.expr(t, depth + 1)
        a, i, t = self.atom, self.integer, lambda: self.pick("true", "false")
        attr = lambda: self.pick("'role'", "'k'", "'v'", "'content'", "'k'", "'role'", "'w'", "'k.x'")
        k = self.r.random()
        if k < .18:
            return f"({e('s')}).{self.pick('split()', f'split({self.part()})', f'split({self.part()}, {i()})', f'split(sep={self.part()}, maxsplit={i()})', f'rsplit({self.part()}, 1)', 'rsplit(none, 1)', f'split(none, {i()})', 'splitlines()', 'splitlines(true)', f'partition({self.part()})')}"
        if k < .50:
            name = self.pick("'string'", "'tojson'", "'length'", "'default', 'x'", "'string'", "'list'")
            tst = self.pick("'string'", "'number'", "'defined'", "'none'", "'equalto', 'x'", "'eq', 1", "'ne', 'user'", "'in', [1, 'x', 'a']", "'mapping'", "'iterable'", "'sequence'", "'boolean'", "'=='[:0]"[:0] or "'sameas', none", "'string'")
            f = self.pick("list", "reverse|list", "reverse", f"batch({self.pick('1', '2', '3')})|list", f"batch(2, {a()})|list", f"slice({self.pick('1', '2', '3')})|list", f"slice(2, {a()})|list", f"map({name})|list", f"select({tst})|list", f"reject({tst})|list", "select|list", "reject|list", "unique|list", "first|list"[:0] + "list|reverse|list", "map('string')|unique(true)|list", "map('string')|sort", "map('string')|map('upper')|sort(reverse=true)")
            return f"({e('l')})|{f}"
        if k < .72:
            src = self.pick("dd", "messages", "dd", "[{'k': 1, 'v': 'b'}, {'k': 0, 'v': 'A'}]", "tools or dd", "d|dictsort", "[(1, 'x'), (0, 'y')]")
            f = self.pick(f"map(attribute={attr()})|list", f"map(attribute={attr()}, default={a()})|list", f"selectattr({attr()})|list", f"selectattr({attr()}, 'defined')|list", f"selectattr({attr()}, 'equalto', {self.pick(repr('x'), repr('user'), '1')})|list", f"rejectattr({attr()}, 'eq', 'user')|list", f"rejectattr({attr()})|list", f"sort(attribute={attr()})", f"groupby({attr()})|list", f"groupby({attr()}, default='')|map('first')|list", f"groupby('role', case_sensitive=true)|map(attribute='list')|list", f"unique(attribute={attr()})|list", f"map(attribute={attr()})|select('defined')|map('string')|join(',')", "map(attribute=0)|list", f"min(attribute={attr()})", f"sum(attribute='v')", f"groupby('k', default='zz')|map(attribute='grouper')|list", "selectattr('k', 'in', ['x', 'y'])|map(attribute='k')|map('lower')|list")
            return f"({src})|{f}"
        if k < .80:
            return f"({self.pick('l', 'ls', '[3, 1.5, 2]', '[' + a('s') + ', ' + a('s') + ']', '(2, 1)', 's', a('l'))})|{self.pick('sort', f'sort({t()})', f'sort(case_sensitive={t()})', 'sort(reverse=true, case_sensitive=true)', 'unique|list', 'unique(case_sensitive=true)|list')}"
        if k < .86:
            return f"({e('d')})|{self.pick('items|list', 'dictsort', 'list', 'dictsort(true)', 'dictsort(reverse=true)', 'dictsort(by=' + repr('value') + ')')}"
        if k < .92:
            return f"({e('l')}|list){self.index()}"
        if k < .96:
            return f"({e('l')}|list + {e('l')}|list)"
        return f"({self.atom('l')} * {self.pick('2', '0', '1')})"

    def dicted(self, depth):
        return self.pick("dd[0]", "messages[0]", "d.copy()", "dict(" + self.atom("d") + ")", "dict(d, **{'q': 1})", "dict.fromkeys(ls, 1)", "(messages|last)", "tools[0].function", "d", self.atom("d"), "{'a': " + self.expr("a", depth + 1) + "}", "(messages[0].tool_calls[0].function or d)")

    def truth(self, depth):
        e = lambda t: self.expr(t, depth + 1)
        a = self.atom
        k = self.r.random()
        if k < .25:
            t = self.pick("s", "n", "s")
            op = self.pick("==", "!=", "<", ">", "<=", ">=")
            return f"({e(t)} {op} {e(t)})" if self.r.random() < .8 else f"({a(t)} {op} {a(t)} {self.pick('==', '<', '!=')} {a(t)})"
        if k < .33:
            return f"({e('a')} {self.pick('==', '!=')} {e('a')})"
        if k < .45:
            return f"({e('s')} {self.pick('in', 'not in')} {self.pick(e('s'), a('l'), a('d'), 'ls')})"
        if k < .50:
            return f"(not {e('a')})"
        if k < .75:
            t = self.pick("defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "true", "false", "integer", "float", "lower", "upper", "callable", "escaped", f"eq({a()})", f"equalto {a()}", f"ne({a()})", f"in({a('l')})", f"in {self.pick('l', 'd', 'ls')}", f"sameas {self.pick('true', 'none', 'false')}", "defined and t", "not defined", "not none")
            return f"({e('a')} is {self.pick('', '', 'not ') if not t.startswith('not') else ''}{t})"
        if k < .82:
            return f"({e('n')} is {self.pick('odd', 'even', f'divisibleby({self.integer()})', 'divisibleby 3', f'gt({a(chr(110))})', 'lt 3', 'ge(1)', 'le(n)', 'greaterthan(1)', 'lessthan(2)')})"
        if k < .94:
            return f"({e('s')}).{self.pick(f'startswith({self.part()})', f'endswith({self.part()})', f'startswith((chr, {self.part()}))'.replace('chr', repr('a')), f'startswith({self.part()}, {self.integer()})', f'endswith({self.part()}, 0, {self.integer()})', 'isalpha()', 'isdigit()', 'isalnum()', 'isspace()', 'isupper()', 'islower()', 'istitle()', 'isnumeric()', 'isdecimal()', 'isascii()', 'isprintable()', 'isidentifier()')}"
        return self.pick("add_generation_prompt", "tools is none", "tools", "messages[0].role == 'system'", "'content' in messages[0]", "messages[0].content is string", "messages[0]['tool_calls'] is defined", "d.items is callable", "l.append is defined", "s.upper is defined", "'upper' is filter", "'odd' is test", "d.get('a')", "d.get('zz', s)")

    def formatted(self):
        spec, t = self.r.choice([("%s", "a"), ("%d", "n"), ("%5d", "n"), ("%-5d|", "n"), ("%05d", "n"), ("%+d", "n"), ("%x", "n"), ("%#x", "n"), ("%o", "n"), ("%e", "n"), ("%.2f", "n"), ("%8.3f", "n"), ("%g", "n"), ("%r", "a"), ("%5s", "s"), ("%-5s|", "s"), ("%.2s", "s"), ("%c", "n"), ("%i", "n"), ("%X", "n"), ("% d", "n"), ("%G", "n"), ("%a", "s"), ("%.3d", "n"), ("%*d", "n"), ("%#g", "n"), ("%%", "x")])
        if spec == "%%":
            return "('%%' % ())"
        if spec == "%*d":
            return f"('%*d' % (5, {self.atom('n')}))"
        k = self.r.random()
        if k < .4:
            return f"('{spec}' % {self.atom(t)})"
        if k < .7:
            return f"('{spec}-%s' % ({self.atom(t)}, {self.atom()}))"
        if k < .85:
            return f"('{spec}'|format({self.atom(t)}))"
        return f"('%(a){spec[1:]}' % {{'a': {self.atom(t)}}})"

    def braces(self):
        spec, t = self.r.choice([("", "a"), (":>8", "s"), (":<8", "s"), (":^9", "s"), (":*^9", "s"), (":05d", "n"), (":,", "n"), (":.2f", "n"), (":e", "n"), (":x", "n"), (":#x", "n"), (":b", "n"), (":+", "n"), (":8.3f", "n"), (":%", "n"), (":g", "n"), (":s", "s"), (":.3", "s"), (":.3", "n"), ("!r", "a"), ("!s:>6", "a"), ("!a", "s"), (":_", "n"), (":=+8", "n"), (":c", "n"), (":10", "n"), (":08.2f", "n"), (":#o", "n"), (":,.1f", "n"), ("[a]", "d"), ("[0]", "l"), (":>{1}", "s"), (":05", "s"), (":.0f", "n"), (":^7", "n"), (":010,", "n"), (":.10g", "n")])
        first = self.pick("", "0", "a") if "{1}" not in spec else "0"
        return f"'[{{{first}{spec}}}]'.format({self.atom(t)}, {self.pick('5', '9')}, a={self.atom(t)})"

    def target(self):
        return self.pick("x", "y", "i", "v", "w")

    def tag(self, body):
        l = self.pick("", "", "", "-", "-", "+")
        r = self.pick("", "", "", "-", "-", "+")
        return f"{{%{l} {body} {r}%}}"

    def out(self):
        l, r = self.pick("", "", "-"), self.pick("", "", "-")
        return f"{{{{{l} {self.expr()} {r}}}}}"

    def data(self):
        return self.pick("", " ", "\n", "text", "  \n", "a\n  ", "\t", "\r\n", "x y", "\n\n", " \u3000", "{", "}", "# not", "%", "é")

    def block(self, depth):
        out = ""
        for _ in range(self.r.randint(1, 3)):
            out += self.data() + self.statement(depth)
        return out + self.data()

    def statement(self, depth):
        self.budget -= 1
        if depth > 3 or self.budget < 0:
            return self.out()
        k = self.r.random()
        t = self.tag
        if k < .38:
            return self.out()
        if k < .50:
            out = t("if " + self.expr("b")) + self.block(depth + 1)
            for _ in range(self.r.choice([0, 0, 1])):
                out += t("elif " + self.expr("b")) + self.block(depth + 1)
            if self.r.random() < .4:
                out += t("else") + self.block(depth + 1)
            return out + t("endif")
        if k < .68:
            x = self.target()
            source, kind = self.r.choice([("l", "n"), ("ls", "s"), ("messages", "d"), ("d", "s"), ("d.items()", None), ("dd", "d"), ("range(3)", "n"), ("s[:3]", "s"), ("ll", "l"), ("messages[::-1]", "d"), ("d|dictsort", None), ("dd|groupby('k', default='')", None), ("undefd", "s"), ("messages[1:]", "d"), ("e", "s"), ("dd|map(attribute='k')", "s"), (self.expr("l", 2), "s"), ("[(1, 2), (3, 4)]", None)])
            cond = f" if {self.expr('b', 2)}" if self.r.random() < .2 else ""
            rec = " recursive" if self.r.random() < .08 else ""
            targets, added = x, []
            if kind is None:
                targets, added = self.pick("a, b", "(a, b)", "a,b"), [("s", "a"), ("n", "b")]
            else:
                added = [(kind, x)]
            for kind_, name in added:
                self.vars[kind_].append(name)
            self.loops += 1
            body = self.block(depth + 1)
            if rec:
                body += "{{ loop(" + self.pick("[]", "l if loop.depth < 2 else []", "ls[loop.index:]") + ") }}"
            if self.r.random() < .15:
                body += t("if " + self.pick("loop.index > 1", self.expr("b", 3))) + t(self.pick("break", "continue")) + t("endif")
                body += self.data()
            self.loops -= 1
            if self.r.random() < .8:
                for kind_, name in added:
                    self.vars[kind_].remove(name)
            other = t("else") + self.block(depth + 1) if self.r.random() < .2 else ""
            return t(f"for {targets} in {source}{cond}{rec}") + body + other + t("endfor")
        if k < .82:
            x = self.target()
            kind = self.pick("s", "s", "n", "l", "d", "b")
            j = self.r.random()
            if j < .55:
                out = t(f"set {x} = {self.expr(kind)}")
                self.vars[kind].append(x)
                return out
            if j < .65:
                out = t(f"set {x}, {self.target()} = {self.pick('(1, 2)', self.atom('n') + ', ' + self.atom(), '[1, 2]', repr('ab'))}")
                self.vars["n"].append(x)
                return out
            if j < .78:
                f = self.pick("", " | upper", " | trim", " | replace('a', 'b')", " | trim | lower")
                out = t(f"set {x}{f}") + self.block(depth + 1) + t("endset")
                self.vars["s"].append(x)
                return out
            kind = self.pick("s", "n")
            out = t(f"set ns = namespace({self.pick('', 'b=1, ')}a={self.atom(kind)})")
            self.vars[kind].append("ns.a")
            return out + self.block(depth + 1) + t(f"set ns.{self.pick('a', 'b')} = {self.expr(kind, 2)}") + "{{ ns.a }}"
        if k < .89:
            m = self.pick("m1", "m2")
            params = self.pick("", "x", "x, y=1", "x, y=x", "x='d'", "x, y")
            use = self.pick("", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller else '' }}", "{{ x }}{{ y }}", "{{ caller(s) if caller else '-' }}")
            saved = {k_: list(v) for k_, v in self.vars.items()}
            self.vars["s"] += ["x"]
            loops, self.loops = self.loops, 0
            body = self.block(depth + 1)
            self.vars, self.loops = saved, loops
            self.macros.append(m)
            return t(f"macro {m}({params})") + body + use + t("endmacro") + ("{{ " + self.macro_call() + " }}" if self.r.random() < .5 else "")
        if k < .91 and self.macros:
            p = self.pick("", "", "(q)", "(q='d')")
            return t(f"call{p} {self.r.choice(self.macros)}({self.pick('', self.atom())})") + self.block(depth + 1) + t("endcall")
        if k < .94:
            x = self.target()
            head = t(f"with {x} = {self.expr('s')}" + (f", y = {self.pick(x, self.atom())}" if self.r.random() < .3 else ""))
            self.vars["s"].append(x)
            return head + self.block(depth + 1) + t("endwith")
        if k < .96:
            return t("filter " + self.pick("upper", "trim", "indent(2)", "replace('a', 'b')|upper", "length", "e", "trim|title")) + self.block(depth + 1) + t("endfilter")
        if k < .97:
            return t("generation") + self.block(depth + 1) + t("endgeneration")
        if k < .98:
            return "{#" + self.pick("", "-", "+") + self.data() + self.pick("-", "+", "") + "#}"
        if k < .99:
            return t("raw").replace("+%}", "%}") + "{{ x }} {% y %}" + self.data() + t("endraw")
        return t("print " + self.expr() + self.pick("", ", " + self.atom()))

    def template(self):
        out = self.block(0)
        for _ in range(self.r.randint(0, 3)):
            out += self.block(0)
        return out


class Engine:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template, variables):
        line = json.dumps({"template": template, "variables": json.dumps(variables), "now": NOW})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW)


def expected(template, variables):
    """(text, None), or (None, the error)."""
    try:
        compiled = chat_template_utils._cached_compile_jinja_template(template)
        text = compiled.render(**json.loads(json.dumps(variables)))
        text.encode()
        return text, None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    except RecursionError as error:
        return None, f"RecursionError: {error}"


def judge(template, variables, engine, counts):
    """None where both agree, else what differs."""
    text, error = expected(template, variables)
    if error and ("Exceeds the limit" in error or "statically nested" in error or "too many nested" in error or "RecursionError" in error
                  or "NameError" in error):  # Jinja folds ''inf'|float' into the name inf
        counts["python gives up"] += 1
        return None, text
    if text is not None and (" at 0x" in text or "at%200x" in text or "at+0x" in text or "generator object" in text):
        counts["an address in memory"] += 1
        return None, None
    ours = engine.render(template, variables)
    if "text" in ours:
        if error is None and ours["text"] == text:
            counts["same text"] += 1
            return None, text
        return {"expected": text, "error": error, "ours": ours["text"]}, text
    if error is not None:
        counts["both an error"] += 1
        return None, text
    message = ours["error"]
    if "is not supported" in message or "bits" in message:
        counts["refused by name"] += 1
        counts["refused: " + message.split(": ", 1)[-1][:60]] += 1
        return None, None
    return {"expected": text, "error": None, "ours": "ERROR " + message}, text


def main():
    options = argparse.ArgumentParser()
    options.add_argument("render")
    options.add_argument("--count", type=int, default=20000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--keep")
    options.add_argument("--keep-every", type=int, default=1)
    options.add_argument("--show", type=int, default=10)
    options = options.parse_args()
    chat_template_utils.datetime = Frozen
    contexts()
    engine = Engine(options.render)
    counts, shown, kept = collections.Counter(), 0, []
    for i in range(options.count):
        template = Gen(options.seed * 1000003 + i).template()
        which = i % len(CONTEXTS)
        try:
            difference, text = judge(template, CONTEXTS[which], engine, counts)
        except Exception as error:
            print("CRASH", i, repr(template), error, engine.process.poll())
            engine = Engine(options.render)
            counts["crash"] += 1
            continue
        if difference:
            counts["DIFFERENT"] += 1
            if shown < options.show:
                shown += 1
                print("====", i, json.dumps(template, ensure_ascii=False), "\n   ", json.dumps(difference, ensure_ascii=False)[:600], flush=True)
        elif text is not None and options.keep and i % options.keep_every == 0 and len(text) < 2000:
            kept.append({"template": template, "context": which, "text": text})
    if options.keep:
        with open(options.keep, "w") as file:
            file.write(json.dumps({"now": NOW, "contexts": [json.dumps(c, ensure_ascii=False) for c in CONTEXTS]}, ensure_ascii=False) + "\n")
            for case in kept:
                file.write(json.dumps(case, ensure_ascii=False) + "\n")
    for name, count in counts.most_common():
        print(f"{count:7d}  {name}")


if __name__ == "__main__":
    main()
