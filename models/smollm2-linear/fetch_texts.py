#!/usr/bin/env python3
"""Plain text from Debian packages, for texts.py. usage: fetch_texts.py OUT_DIR (needs apt-get, dpkg, amd64)

bible-kjv-text: the King James Bible, public domain. python3.11-doc: Python's documentation, PSF licence. rust-doc: The Rust
Programming Language (the book), MIT or Apache-2.0.
"""
import glob
import html
import os
import re
import subprocess
import sys


def tidy(text):
    return re.sub(r'\n{3,}', '\n\n', text).strip()


def bible(root):
    run = subprocess.run([root + '/usr/bin/bible', '-p', root + '/usr/lib', '-d', 'bible.data', 'gen1:1-rev22:21'],
                         stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    text = re.sub(r'\n\s+(?=\S)', ' ', run.stdout)
    text = re.sub(r'  *(\d+) (?=[A-Z\[\(])', ' ', text)  # verse numbers
    return re.sub(r'(?<!\n)\n(?!\n)', ' ', re.sub(r'[ \t]+', ' ', text))


def python(root):
    parts = []
    for part in ('tutorial', 'howto', 'faq', 'reference', 'library'):
        for path in sorted(glob.glob(root + '/usr/share/doc/python3.11/html/_sources/%s/*' % part)):
            text = open(path, encoding='utf-8', errors='ignore').read()
            text = re.sub(r'^\.\. .*$', '', text, flags=re.M)
            parts.append(tidy(re.sub(r':[\w:]+:`~?([^`<]*?)(?: <[^`]*>)?`', r'\1', text).replace('``', '`')))
    return '\n\n'.join(parts)


def rust(root):
    parts = []
    for path in sorted(glob.glob(root + '/usr/share/doc/rust-doc/html/book/ch*.html')):
        body = re.search(r'<main>(.*?)</main>', open(path, encoding='utf-8').read(), re.S)
        if body:
            text = re.sub(r'<(style|script).*?</\1>', '', body[1], flags=re.S)
            parts.append(tidy(html.unescape(re.sub(r'<[^>]+>', '', text))))
    return '\n\n'.join(parts)


def main():
    out = os.path.abspath(sys.argv[1])
    root = os.path.join(out, 'root')
    os.makedirs(root, exist_ok=True)
    subprocess.run(['apt-get', 'download', 'bible-kjv', 'bible-kjv-text', 'python3.11-doc', 'rust-doc'], cwd=out, check=True)
    for deb in glob.glob(out + '/*.deb'):
        subprocess.run(['dpkg', '-x', deb, root], check=True)
    for name, make in (('kjv', bible), ('python', python), ('rust-book', rust)):
        with open(os.path.join(out, name + '.txt'), 'w', encoding='utf-8') as f:
            f.write(make(root))


if __name__ == '__main__':
    main()
