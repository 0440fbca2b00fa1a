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
import datetime
import json
import random
import subprocess

from transformers.utils import chat_template_utils

NOW = 1700000000
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
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.names = ["s", "e", "u", "n", "f", "z", "neg", "t", "no", "nil", "l", "ls", "ll", "d", "dd", "messages", "tools", "documents", "bos_token", "undefd"]
        self.macros = []
        self.loops = 0
        self.budget = self.r.randint(8, 60)

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

    def integer(self):
        return self.pick("0", "1", "2", "3", "-1", "-2", "5", "10", "1_000", "0x1f", "100")

    def number(self):
        return self.integer() if self.r.random() < .7 else self.pick("0.5", "2.0", "1e3", "-1.25", "1e-7", "1e16", "3.14159", "1_0.5")

    def args(self, *options):
        return "(" + ", ".join(self.r.choice(options) if isinstance(o, str) else o for o in options[:0]) + ")"

    def expr(self, depth=0):
        self.budget -= 1
        if depth > 4 or self.budget < 0:
            return self.atom()
        k = self.r.random()
        e = lambda: self.expr(depth + 1)
        if k < .22:
            return self.atom()
        if k < .46:
            return self.filtered(depth)
        if k < .58:
            return self.method(depth)
        if k < .66:
            return f"{e()}{self.pick(*self.ATTRS)}" if self.r.random() < .7 else f"({e()}){self.index(depth)}"
        if k < .76:
            return f"({e()} {self.pick('+', '-', '*', '/', '//', '%', '**', '~', '~', '+', '*', '%')} {e()})" if self.r.random() < .7 else f"{e()} {self.pick('+', '~', '*', '-', '%')} {e()}"
        if k < .84:
            op = lambda: self.pick("==", "!=", "<", ">", "<=", ">=", "in", "not in", "in")
            return f"({e()} {op()} {e()})" if self.r.random() < .8 else f"({self.atom()} {op()} {self.atom()} {op()} {e()})"
        if k < .88:
            return f"({e()} {self.pick('and', 'or')} {e()})"
        if k < .90:
            return f"(not {e()})"
        if k < .93:
            return f"({e()} if {e()} else {e()})" if self.r.random() < .8 else f"({e()} if {e()})"
        if k < .97:
            return f"({e()} is {self.pick('', 'not ')}{self.test(depth)})"
        if self.macros and self.r.random() < .6:
            return f"{self.r.choice(self.macros)}({', '.join(self.atom() for _ in range(self.r.randint(0, 3)))}{self.pick('', '', ', ' + self.pick('x', 'y') + '=' + self.atom()) if self.r.random() < .3 else ''})".replace("(, ", "(")
        return self.call(depth)

    ATTRS = [".role", ".content", ".k", ".v", ".0", "[0]", "[-1]", "['role']", "['content']", "[1]", ".function", ".name", ".upper", ".items", "['a']", ".b", "['items']", ".append", ".x", "[nil]", "[f]", "['k']", "[t]", ".text", ".real", "[1:]"]

    def index(self, depth):
        b = lambda: self.pick("", "", "0", "1", "2", "-1", "-2", "10", "nil", "n")
        k = self.r.random()
        if k < .5:
            return f"[{b()}:{b()}]"
        if k < .8:
            return f"[{b()}:{b()}:{self.pick('', '1', '-1', '2', '-2', '3')}]"
        return f"[{self.atom()}]"

    def atom(self):
        k = self.r.random()
        if k < .35:
            return self.r.choice(self.names)
        if k < .58:
            return self.string()
        if k < .72:
            return self.number()
        if k < .78:
            return self.pick("true", "false", "none", "True", "None")
        if k < .86:
            return "[" + ", ".join(self.atom() for _ in range(self.r.randint(0, 3))) + "]"
        if k < .90:
            n = self.r.randint(0, 3)
            return "(" + "".join(self.atom() + ", " for _ in range(n)) + ")"
        if k < .95:
            return "{" + ", ".join(f"{self.pick(self.string(), self.integer(), 'none', 'true', '1.0')}: {self.atom()}" for _ in range(self.r.randint(0, 3))) + "}"
        if self.loops:
            return "loop." + self.pick("index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem", "nextitem", "depth", "depth0", "cycle('a', 'b')", "changed(n)", "cycle()")
        return self.pick("range(3)", "range(1, 5, 2)", "range(5, 0, -2)", "namespace(a=1, b='x')", "dict(a=1, b=2)", "dict(d, x=3)", "messages[0]")

    def test(self, depth):
        a = self.atom
        return self.pick("defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "true", "false", "integer", "float", "odd", "even", "lower", "upper", "callable", "escaped",
                         f"divisibleby({self.integer()})", f"divisibleby {self.pick('2', '3')}", f"eq({a()})", f"equalto({a()})", f"ne({a()})", f"gt({a()})", f"lt({a()})", f"ge({a()})", f"le({a()})", f"in({a()})", f"in {self.pick('l', 's', 'd', 'ls')}", f"sameas({self.pick('true', 'none', 'false', 'nil')})", "filter", "test", f"lessthan({a()})", "=="[:0] + "greaterthan(1)")

    def filtered(self, depth):
        a = self.atom
        s, i, t = self.string, self.integer, lambda: self.pick("true", "false")
        attr = lambda: self.pick("'role'", "'k'", "'v'", "'content'", "0", "'0'", "'function.name'", "'w'", "1", "'k,v'", "'v.x'")
        name = lambda: self.pick("'upper'", "'lower'", "'trim'", "'length'", "'string'", "'int'", "'list'", "'first'", "'tojson'", "'abs'", "'title'", "'default', 'x'", "'replace', 'a', 'b'", "'join', '-'", "'capitalize'", "'indent', 2", "'round', 1")
        tst = lambda: self.pick("'string'", "'number'", "'odd'", "'defined'", "'none'", "'equalto', 'x'", "'eq', 1", "'ne', 'user'", "'in', [1, 'x']", "'gt', 1", "'mapping'", "'lower'", "'divisibleby', 2", "'iterable'", "'=='[:0]"[:0] or "'boolean'")
        f = self.pick(
            "trim", f"trim({s()})", "upper", "lower", "title", "capitalize", "length", "count", "string", "list", "first", "last", "reverse", "reverse|list", "sort", f"sort(reverse={t()})", f"sort(attribute={attr()})", f"sort(case_sensitive={t()})", f"sort({t()}, {t()}, {attr()})",
            "unique|list", f"unique(attribute={attr()})|list", f"unique(true)|join(',')", "min", "max", f"min(attribute={attr()})", f"max(case_sensitive=true)", "sum", f"sum(attribute={attr()})", f"sum(start={a()})", f"sum({attr()}, 1)",
            "join", f"join({s()})", f"join(', ', attribute={attr()})", f"join(d='-')", f"default({a()})", f"default({a()}, true)", f"d('x', {t()})", "default", f"default(boolean=true, default_value='q')",
            "tojson", f"tojson(indent={self.pick('0', '2', '4', 'none', 'true')})", "tojson(ensure_ascii=true)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "tojson(false, 2)", "tojson(indent=1, sort_keys=true, separators=[', ', '= '])", f"tojson(indent={self.pick(chr(39)+'--'+chr(39), '-1')})",
            f"replace({s()}, {s()})", f"replace({s()}, {s()}, {i()})", f"replace('', '-')", f"indent({self.pick('2', '0', chr(39) + '> ' + chr(39))})", f"indent(2, {t()}, {t()})", "indent(first=true)", "indent",
            "int", f"int({a()})", "int(0, 16)", "int(base=0)", "float", f"float({a()})", "round", f"round({self.pick('1', '2', '-1', '0')})", f"round({self.pick('1', '0', '2')}, {self.pick(chr(39)+'ceil'+chr(39), chr(39)+'floor'+chr(39))})", "abs",
            f"map({name()})|list", f"map({name()})|join('|')", f"map(attribute={attr()})|list", f"map(attribute={attr()}, default={a()})|list", f"select({tst()})|list", f"reject({tst()})|list", "select|list", f"selectattr({attr()})|list", f"selectattr({attr()}, {tst()})|list", f"rejectattr({attr()}, {tst()})|list", f"rejectattr({attr()})|map(attribute={attr()})|list",
            f"batch({self.pick('1', '2', '3')})|list", f"batch(2, {a()})|list", f"slice({self.pick('1', '2', '3')})|list", f"slice(2, {a()})|list", f"groupby({attr()})", f"groupby({attr()}, default={a()})", f"groupby({attr()}, case_sensitive=true)|list", "dictsort", f"dictsort({t()})", f"dictsort(by='value')", f"dictsort(reverse=true)", "items|list", "items",
            "wordcount", f"truncate({self.pick('3', '5', '8', '20')})", f"truncate(5, true, '..', 0)", f"truncate(8, false, {s()}, 1)", f"center({self.pick('5', '12', '20')})", f"format({a()})", f"format({a()}, {a()})", "urlencode", "filesizeformat", "filesizeformat(true)", "xmlattr", "attr('upper')" if False else f"attr({self.pick(chr(39)+'x'+chr(39), chr(39)+'append'+chr(39), chr(39)+'real'+chr(39))})",
            "e", "escape", "safe", "forceescape", "safe|upper", "e|length", "length(1)", "upper(1)", "trim|length", "list|length", "string|length")
        return f"({self.expr(depth + 1)})|{f}" if self.r.random() < .7 else f"{self.atom()}|{f}"

    def method(self, depth):
        a, s, i = self.atom, self.string, self.integer
        m = self.pick("upper()", "lower()", "strip()", f"strip({s()})", "lstrip()", f"rstrip({s()})", f"lstrip({s()})", "split()", f"split({s()})", f"split({s()}, {i()})", f"split(sep={s()}, maxsplit={i()})", f"rsplit({s()}, 1)", "rsplit(none, 1)", f"split(none, {i()})", "splitlines()", "splitlines(true)",
                      f"startswith({s()})", f"endswith({s()})", f"startswith(('a', {s()}))", f"startswith({s()}, {i()})", f"endswith({s()}, 0, {i()})", f"replace({s()}, {s()})", f"replace({s()}, {s()}, {i()})", f"find({s()})", f"rfind({s()})", f"index({s()})", f"rindex({s()}, 1)", f"find({s()}, {i()})", f"find({s()}, 1, {i()})", f"count({s()})", f"count({a()})",
                      f"join({a()})", "join(ls)", "title()", "capitalize()", "casefold()", "swapcase()", f"center({i()})", f"ljust({i()}, '*')", f"rjust(8)", f"zfill({i()})", "expandtabs()", "expandtabs(4)", f"partition({s()})", f"rpartition({s()})", f"removeprefix({s()})", f"removesuffix({s()})",
                      "isalpha()", "isdigit()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()", "isnumeric()", "isdecimal()", "isascii()", "isprintable()", "isidentifier()", f"format({a()})", f"format({a()}, {a()})", f"format(a={a()})", "get('a')", f"get({s()}, {a()})", "get('role')", "items()", "keys()", "values()", "items()|list", "keys()|list", "values()|list", "copy()", f"index({a()})", f"count({a()})", "pop()", "append(1)", "update({})", "bit_length()", "is_integer()")
        o = self.expr(depth + 1) if self.r.random() < .5 else self.pick("s", "u", "l", "ls", "d", "messages[0]", "messages[0].content", self.string(), self.atom())
        return f"({o}).{m}"

    def formatted(self):
        spec = self.pick("%s", "%d", "%5d", "%-5d|", "%05d", "%+d", "%x", "%#x", "%o", "%e", "%.2f", "%8.3f", "%g", "%r", "%5s", "%-5s|", "%.2s", "%c", "%%", "%(a)s", "%i", "%X", "% d", "%G", "%a")
        return f"('{spec}{self.pick('', ' ', '-%s')}' % {self.pick(self.atom(), '(' + self.atom() + ',)', '(' + self.atom() + ', ' + self.atom() + ')', '{' + chr(39) + 'a' + chr(39) + ': ' + self.atom() + '}')})"

    def braces(self):
        spec = self.pick("", ":>8", ":<8", ":^9", ":*^9", ":05d", ":,", ":.2f", ":e", ":x", ":#x", ":b", ":+", ":8.3f", ":%", ":g", ":s", ":.3", "!r", "!s:>6", "!a", ":_", ":=+8", ":c", ":10", ":08.2f", ":#o", ":,.1f", ".a", "[a]", "[0]", ":>{1}")
        first = self.pick("", "0", "a") if "{1}" not in spec else "0"
        return f"'[{{{first}{spec}}}]'.format({self.atom()}, {self.pick('5', self.atom())}, a={self.atom()})"

    def call(self, depth):
        return self.pick(self.formatted(), self.formatted(), self.braces(), self.braces(), f"range({self.integer()}, {self.integer()})|list", f"namespace(x={self.atom()}).x", f"dict({self.atom()})", "dict.fromkeys(ls, 1)", "strftime_now('%Y')", "cycler('a', 'b').next()", f"{self.atom()}({self.atom()})")

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
        if k < .40:
            return self.out()
        if k < .52:
            out = t("if " + self.expr()) + self.block(depth + 1)
            for _ in range(self.r.choice([0, 0, 1])):
                out += t("elif " + self.expr()) + self.block(depth + 1)
            if self.r.random() < .4:
                out += t("else") + self.block(depth + 1)
            return out + t("endif")
        if k < .68:
            x = self.target()
            targets = x if self.r.random() < .8 else f"{x}, {self.pick('a', 'b')}"
            source = self.pick("l", "ls", "messages", "d", "d.items()", "dd", self.expr(2), "range(3)", "s[:3]", "ll")
            cond = f" if {self.expr(3)}" if self.r.random() < .2 else ""
            rec = " recursive" if self.r.random() < .08 else ""
            self.names.append(x)
            self.loops += 1
            body = self.block(depth + 1)
            if rec:
                body += "{{ loop(" + self.pick("[]", "l if loop.depth < 2 else []", x) + ") }}"
            if self.r.random() < .15:
                body += t("if " + self.pick("loop.index > 1", self.expr(3))) + t(self.pick("break", "continue")) + t("endif")
            self.loops -= 1
            if self.r.random() < .8:
                self.names.remove(x)
            other = t("else") + self.block(depth + 1) if self.r.random() < .2 else ""
            return t(f"for {targets} in {source}{cond}{rec}") + body + other + t("endfor")
        if k < .80:
            x = self.target()
            self.names.append(x)
            j = self.r.random()
            if j < .6:
                return t(f"set {x} = {self.expr()}")
            if j < .7:
                return t(f"set {x}, {self.target()} = {self.pick(self.expr(), '(1, 2)', self.atom() + ', ' + self.atom())}")
            if j < .8:
                f = self.pick("", " | upper", " | trim | length", " | replace('a', 'b')")
                return t(f"set {x}{f}") + self.block(depth + 1) + t("endset")
            self.names.append("ns")
            self.names.append("ns.a")
            return t(f"set ns = namespace(a={self.atom()})") + self.block(depth + 1) + t(f"set ns.{self.pick('a', 'b')} = {self.expr(2)}")
        if k < .88:
            m = self.pick("m1", "m2")
            params = self.pick("", "x", "x, y=1", "x, y=x", "x='d'", "x, y")
            use = self.pick("", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller else '' }}", "{{ x }}{{ y }}")
            saved = list(self.names)
            self.names += ["x"]
            body = self.block(depth + 1)
            self.names = saved
            self.macros.append(m)
            return t(f"macro {m}({params})") + body + use + t("endmacro")
        if k < .91 and self.macros:
            p = self.pick("", "(q)")
            return t(f"call{p} {self.r.choice(self.macros)}({self.pick('', self.atom())})") + self.block(depth + 1) + t("endcall")
        if k < .94:
            x = self.target()
            return t(f"with {x} = {self.expr()}" + (f", y = {self.pick(x, self.atom())}" if self.r.random() < .3 else "")) + self.block(depth + 1) + t("endwith")
        if k < .96:
            return t("filter " + self.pick("upper", "trim", "indent(2)", "replace('a', 'b')|upper", "length")) + self.block(depth + 1) + t("endfilter")
        if k < .97:
            return t("generation") + self.block(depth + 1) + t("endgeneration")
        if k < .98:
            return "{#" + self.pick("", "-", "+") + self.data() + self.pick("-", "+", "") + "#}"
        if k < .99:
            return t("raw").replace("+%}", "%}") + "{{ x }} {% y %}" + t("endraw")
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
    if error and ("Exceeds the limit" in error or "statically nested" in error or "too many nested" in error or "RecursionError" in error):
        counts["python gives up"] += 1
        return None, text
    if text is not None and (" at 0x" in text or "generator object" in text):
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
