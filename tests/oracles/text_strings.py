"""Texts that trip tokenizers: many scripts, emoji, combining marks, code, whitespace, special-token texts, controls.

Everything follows from the seed. All texts are valid Unicode.
"""
import random
import unicodedata

WORDS = {
    'english': 'the of and to in is that it was for on are with they be at one have this from had by words but what '
               'some we can out other were all there when up use your how said an each she which do their time will '
               'way about many then them would write like so these her long make thing see him two has look more day '
               'could go come did number sound no most people my over know water than call first who may down side '
               "been now find don't I'll we've it's they're HE'LL I'M can't rock'n'roll o'clock".split(),
    'german': 'der die das und ist nicht über für größe straße Füße schön übermäßig Donaudampfschifffahrt ß ẞ'.split(),
    'french': "l'été où déjà garçon cœur naïve ça être aujourd'hui qu'il n'est Noël œuvre à côté".split(),
    'polish': 'zażółć gęślą jaźń źdźbło chrząszcz brzmi w trzcinie'.split(),
    'turkish': 'İstanbul ılık ışık çağrı şöyle göz İIıi'.split(),
    'vietnamese': 'tiếng Việt đường phố người không được những một cũng'.split(),
    'russian': 'привет мир как дела хорошо ёлка съешь ещё этих мягких французских булок да выпей чаю'.split(),
    'ukrainian': 'їжак ґанок щастя єдність'.split(),
    'greek': 'καλημέρα κόσμε τι κάνεις φιλοσοφία Ἀθῆναι ὀξυγόνο ς Σ σ'.split(),
    'hebrew': 'שלום עולם מה שלומך בְּרֵאשִׁית'.split(),
    'arabic': 'مرحبا بالعالم كيف حالك السَّلَامُ عَلَيْكُمْ ٱلرَّحِيمِ لا'.split(),
    'persian': 'سلام می‌خواهم کتاب‌ها'.split(),
    'hindi': 'नमस्ते दुनिया कैसे हैं क्षत्रिय ज्ञान हिन्दी ़क क़'.split(),
    'bengali': 'নমস্কার বিশ্ব কেমন আছেন ড়'.split(),
    'tamil': 'வணக்கம் உலகம் எப்படி கொ'.split(),
    'thai': 'สวัสดีชาวโลก สบายดีไหม น้ำ กำ'.split(),
    'lao': 'ສະບາຍດີ ຊາວໂລກ ຳ'.split(),
    'khmer': 'សួស្តី​ពិភពលោក ក្រុម'.split(),
    'burmese': 'မင်္ဂလာပါ ကမ္ဘာ'.split(),
    'tibetan': 'བཀྲ་ཤིས་བདེ་ལེགས། ཨོཾ'.split(),
    'georgian': 'გამარჯობა მსოფლიო ᲒᲐᲛᲐᲠᲯᲝᲑᲐ'.split(),
    'armenian': 'Բարեւ աշխարհ և'.split(),
    'amharic': 'ሰላም ልዑል ፩ ፪'.split(),
    'mongolian': 'ᠮᠣᠩᠭᠣᠯ\u180eᠠ сайн байна уу'.split(' '),
    'chinese': '你好 世界 我们 今天 天气 很好 學習 漢字 龍 𠮷野家 𪚥 〇 々'.split(),
    'japanese': 'こんにちは 世界 カタカナ ｶﾞｷﾞ がぎぐ パピプ 東京都 ゟ ヿ ー ～ ㍿ ㌔'.split(),
    'korean': '안녕하세요 세계 한국어 값 각 ㄱㄴㄷ ᄒ\u1161ᆫ'.split(),
    'cherokee': 'ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ꭰꭱ'.split(),
    'math': '𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛 ½ ¾ ² ³ ₂ ⅷ Ⅻ ∑ ∫ √2 ℝ ℵ₀ x² ﬁ ﬂ ﬃ ① ⑳ Ⓐ ㋿ №5 ™ ℠ µm μm Å Å Ω Ω ⟨ψ|φ⟩'.split(),
    'digits': '0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 -42 +7 0x1F 1e-9 १२३ ٤٥٦ 七八九 ༣ 99% $5 #1'.split(),
}
EMOJI = ('😀 😂 👍 👍🏽 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️ ❤ ☺︎ 🇩🇪 🇯🇵🇰🇷 1️⃣ #️⃣ 🫠 🧑🏿‍🚀 ✅ ⚠️ © ® ™️').split()
MARKS = '\u0300\u0301\u0302\u0303\u0308\u030a\u0327\u0328\u0323\u0331\u0345\u0483\u05b0\u064b\u093c\u3099\u309a\u20e3\u1ab0'
SPACES = [' ', '  ', '   ', '    ', ' ' * 9, '\t', '\t\t', '\n', '\n\n', '\r\n', '\r\n\r\n', '\r', ' \n', '\n ', ' \t ',
          '\u00a0', '\u3000', '\u2003', '\u2028', '\u2029', '\u200b', '\u200a', '\u202f', '\u205f', '\u1680', '\u0085',
          '\u180e', '\u000b', '\u000c', '\ufeff', ' \u00a0 ', '\u2009\u2009', ' \r\n  ', '\n\n\n\n']
CODE = ['def f(x):\n    return x**2 + 1\n', 'for (int i = 0; i < n; ++i) {\n\t\ta[i] += b[i];\n}', 'if(!x||y&&z){return;}',
        '<div class="a b">&nbsp;</div>', 'SELECT * FROM t WHERE id=10;', '#include <vector>', '// TODO: fix',
        'x = {"key": [1, 2.5, null], \'k2\': "v\\n"}', 'a->b::c<d>()', '/* c */', '```python\nprint("hi")\n```',
        'https://example.com/path?q=1&r=%20#frag', 'user@host.org', 'C:\\Users\\name', '$HOME/.config', 'snake_case_name',
        'camelCaseName', 'SCREAMING_CASE', '__init__', 'x===y', '!=', '...', '…', '--', '—', '-----', '=====', '"""',
        "'''", '\\\\', '\\u0041', '%d%%', '<<EOF', '| a | b |\n|---|---|', '$$\\frac{a}{b}$$', '{{ x }}', '[[y]]', ';;', '@@']
PUNCTUATION = list('.,;:!?-_()[]{}"\'/\\|@#$%^&*+=<>~`') + ['。', '、', '！', '？', '「', '」', '¿', '¡', '«', '»', '“', '”', '’',
                                                        '‘', '‹', '–', '·', '•', '§', '¶', '†', '؟', '।', '၊']
CONTROLS = [chr(c) for c in (0, 1, 2, 7, 8, 0x1b, 0x1f, 0x7f, 0x80, 0x8f, 0x9f, 0xad, 0x200c, 0x200d, 0x200e, 0x200f,
                             0x202e, 0x2060, 0xfffd, 0xfffe, 0xffff, 0xfdd0, 0xe000, 0xe0001, 0xf0000, 0x10ffff, 0x2581)]
SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<s>', '</s>', '<unk>', '<pad>', '<mask>', '<|eot_id|>',
           '<|begin_of_text|>', '<|start_header_id|>', '<user>', '<|im_start', 'im_end|>', '<|', '|>', '<0x0A>', '<0xFF>',
           '<word>', '<left>', '<right>', 'Å<norm>', 'A\u030a<norm>', '<|im_start|>user\n', '<|im_end|>\n', '▁', '▁the', 'Ġ', 'Ċ']
RANGES = [(0x20, 0x7e), (0xa1, 0x24f), (0x370, 0x52f), (0x590, 0x6ff), (0x900, 0xdff), (0xe00, 0xfff), (0x1000, 0x18af),
          (0x1e00, 0x206f), (0x2070, 0x2bff), (0x2e80, 0x33ff), (0x3400, 0x9fff), (0xa000, 0xabff), (0xac00, 0xd7a3),
          (0xf900, 0xfdff), (0xfe00, 0xffff), (0x10000, 0x1018f), (0x1d400, 0x1d7ff), (0x1f000, 0x1faff), (0x20000, 0x2a6df)]


def assigned(c):
    """Characters that Unicode 9 did not have yet normalise and classify by the library's age; leave them out."""
    return unicodedata.category(c) not in ('Cn', 'Cs', 'Co') and unicodedata.ucd_3_2_0.category(c) != 'Cn'


def random_char(r):
    while True:
        low, high = r.choice(RANGES)
        c = chr(r.randint(low, high))
        if assigned(c):
            return c


def sentence(r):
    words = WORDS[r.choice(list(WORDS))] if r.random() < .6 else WORDS['english']
    out = []
    for _ in range(r.randint(1, 8)):
        word = r.choice(words)
        out.append(word.upper() if r.random() < .05 else word.capitalize() if r.random() < .1 else word)
    return ' '.join(out) + r.choice(['', '', '.', '!', '?', ',', '\n'])


def fragment(r):
    kind = r.random()
    if kind < .30:
        return sentence(r)
    if kind < .38:
        return r.choice(WORDS[r.choice(list(WORDS))])
    if kind < .44:
        return r.choice(EMOJI)
    if kind < .49:
        return ''.join(c + ''.join(r.choice(MARKS) for _ in range(r.randint(0, 3))) for c in r.choice(WORDS['english']))
    if kind < .56:
        return r.choice(CODE)
    if kind < .70:
        return r.choice(SPACES)
    if kind < .77:
        return ''.join(r.choice(PUNCTUATION) for _ in range(r.randint(1, 4)))
    if kind < .83:
        return r.choice(SPECIAL)
    if kind < .86:
        return r.choice(CONTROLS)
    if kind < .90:
        return str(r.randint(0, 10 ** r.randint(1, 12)))
    if kind < .94:
        return r.choice('aA. 0\u4e00-=é') * r.randint(2, 24)
    return ''.join(random_char(r) for _ in range(r.randint(1, 6)))


def strings(count, seed):
    r = random.Random(seed)
    out = ['', ' ', '  ', '\n', 'a', ' a', 'a ', '\0']
    while len(out) < count:
        text = ''
        for _ in range(r.choice([1, 1, 2, 3, 4, 6])):
            text += fragment(r) + (' ' if r.random() < .4 else '')
        text = text[:r.choice([8, 30, 60, 90])]
        out.append(unicodedata.normalize('NFD', text) if r.random() < .05 else text)
    return out
