"""Real chat templates through transformers' sandbox and through this repository's engine, as template_fuzz.py.

    python tests/oracles/template_real.py RENDER [FOLDER] [--show 10] [--keep FILE.jsonl]

FOLDER holds .jinja files, such as those of checkpoints. Each is rendered over conversations with and without
system message, tools, calls and answers of tools, documents, thoughts, content parts, empty texts, and with the
variables that templates ask for. Without FOLDER: the templates of text_templates.py and templates/, which
--keep writes for tests/text/template_golden_test.cc.
"""
import argparse
import collections
import itertools
import json
import pathlib

import template_fuzz
import text_templates
from transformers.utils import chat_template_utils

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "The \"weather\" of a <city>\nby day.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Its name", "enum": ["Köln", "Rom"]},
        "days": {"type": ["integer", "null"], "default": 1},
        "opt": {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "number"}}}}}, "required": ["city"]},
    "return": {"type": "string", "description": "text"}}}
OTHER = {"type": "function", "function": {"name": "f", "description": "none", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "abcdef123", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 3, "deep": {"a": [1, None, True]}}}}
CALL_TEXT = {"id": "abcdef124", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Rom\"}"}}


def user(content):
    return {"role": "user", "content": content}


def said(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def answer(content, call):
    return {"role": "tool", "content": content, "name": "get_weather", "tool_call_id": call}


def part(text):
    return {"type": "text", "text": text}


CHATS = [
    [user("Hello!")],
    [system("Be brief."), user("What is 2+2?")],
    [user("  padded \n"), said(" Sure. "), user("Naïve café 🐦 漢字\u3000\n\tcode: `x = {\"a\": 1}`")],
    [system(""), user(""), said(""), user("<|im_end|> {{ 7 * 7 }} {% if x %}")],
    [user("a"), said("<think>\nhm\n</think>\n\nb"), user("c"), said("<think>\nx</think>d"), user("e")],
    [user("one"), user("two")],
    [said("I begin."), user("ok")],
    [user("q"), said("the last word is mine")],
    [user([part("look "), part("here")]), said([part("seen")]), user([part("and?")])],
    [system([part("sys")]), user([{"type": "image"}, part("what")])],
    [user("weather?"), said("", tool_calls=[CALL]), answer("{\"t\": 21}", "abcdef123")],
    [system("S"), user("weather?"), said("I ask.", tool_calls=[CALL, CALL_TEXT], reasoning_content="thinking\nhard", thinking="thinking\nhard"),
     answer("21", "abcdef123"), answer("22", "abcdef124"), said("21 and 22"), user("thanks")],
    [{"role": "developer", "content": "D"}, user("x")],
    [user("a"), said("b", reasoning_content="r"), user("c")],
    [],
]
VARIABLES = [
    {},
    {"enable_thinking": False},
    {"enable_thinking": True, "reasoning_effort": "high", "add_generation_prompt": False},
    {"tools": [TOOL]},
    {"tools": [TOOL, OTHER], "documents": [{"title": "T", "text": "x\ny", "doc_id": 1, "contents": "z"}], "thinking": True},
    {"documents": [{"title": "T", "text": "x"}], "controls": ["length long"], "date_string": "1 May 2025", "custom_tools": [TOOL], "tools_in_user_message": False,
     "add_generation_prompt": False},
]


def contexts():
    out = []
    for chat, variables in itertools.product(CHATS, VARIABLES):
        out.append({"messages": chat, "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
                    "pad_token": "<pad>", "unk_token": "<unk>", **variables})
    return out


def main():
    options = argparse.ArgumentParser()
    options.add_argument("render")
    options.add_argument("folder", nargs="?")
    options.add_argument("--show", type=int, default=10)
    options.add_argument("--keep")
    options = options.parse_args()
    chat_template_utils.datetime = template_fuzz.Frozen
    if options.folder:
        templates = {f.stem: open(f, newline="").read() for f in sorted(pathlib.Path(options.folder).glob("*.jinja"))}
    else:
        templates = {**text_templates.TEMPLATES, **text_templates.read_templates(pathlib.Path(__file__).parent / "templates")}
    engine = template_fuzz.Engine(options.render)
    compiled = {}
    original = chat_template_utils._cached_compile_jinja_template
    chat_template_utils._cached_compile_jinja_template = lambda t: compiled[t] if t in compiled else compiled.setdefault(t, original(t))
    counts, shown, kept, broken = collections.Counter(), 0, [], collections.Counter()
    all_contexts = contexts()
    for index, (name, template) in enumerate(templates.items()):
        for number, context in enumerate(all_contexts):
            difference, text = template_fuzz.judge(template, context, engine, counts)
            if difference:
                counts["DIFFERENT"] += 1
                broken[name] += 1
                if broken[name] == 1 and shown < options.show:
                    shown += 1
                    print("====", name, number, json.dumps(difference, ensure_ascii=False)[:1500], flush=True)
            elif options.keep and number % 3 == index % 3:
                kept.append({"of": index, "context": number, **({"text": text} if text is not None else {})})
    if options.keep:
        with open(options.keep, "w") as file:
            head = {"now": template_fuzz.NOW, "templates": list(templates.values()), "contexts": [json.dumps(c, ensure_ascii=False) for c in all_contexts]}
            for line in [head, *kept]:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(len(templates), "templates,", len(all_contexts), "contexts;", len(broken), "templates differ:", dict(broken.most_common(20)))
    for name, count in counts.most_common():
        print(f"{count:7d}  {name}")


if __name__ == "__main__":
    main()
