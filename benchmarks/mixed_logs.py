"""Logs made to be hard to search: many scripts beside and within one another, and every field with some values. Seeded."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tunemill.schemas.records import Edit, LogRecord, Message, Said, Tag, TaggedLog, ToolCall, Usage

NEW_YEAR_MS = 1_767_225_600_000  # 2026-01-01
YEAR_MS = 365 * 86_400_000
T = TypeVar("T")

_WORDS = {
    "english": (
        "the of and to explain division divisions divided refund refunds refunded calculate calculating calculation "
        "organize organization generalization universities running ran easily happily evening skies skiing dying "
        "news proceed exceed innings outing canning herring earring lying only gently ugly early singly generate "
        "generous generic communism commune arsenal arsenic isn't don't O'Neil's dogs' x-ray well-known state-of-the-art"
    ),
    "code": (
        "def foo_bar(x): return x.append(v1.2) numpy.linalg.norm __init__ self._value a.b.c f(x)[0] i++ C++ C# .NET "
        "node.js user@example.org https://example.org/a?b=c&d=e#f 192.168.0.1 0xFF 3.14e-5 12,345.67 1_000 --flag -v "
        "$HOME ~/path/to /usr/bin {'k':1} <div> &amp; \\n \"quoted\" 'single' `tick` a:b a::b 2026-01-02T03:04:05Z x=y;z gpt-4o-mini"
    ),
    "german": "Straße Straßen über Fluß Köln naïve Çedilla Äpfel äpfel Œuvre größer GRÖSSE Übergrößen Maße Donaudampfschiff",
    "turkish": "İstanbul ISPARTA ışık Diyarbakır iyi İyi kapı",
    "chinese": "微积分 基本 定理 数学 数 问题 请解释 一下 很难 的 中文 龍 龙 𠀋 㐂 〇",
    "japanese": "東京 タワー ﾀﾜｰ らーめん ビタミンC 教えて ください 時々 々 ガ ｶﾞ が ゔ ー ｰ カタカナ ヱ 〆切",
    "korean": "한국어 문장을 번역해 주세요 API를 한 글 ᄒᆞᆫ ㄱㄴ ﾡﾢ 수학",
    "arabic": "مرحبا كيف يمكنني حساب المساحة؟ ١٢٣ ۴۵ مَرْحَبًا لا ـــ",
    "hebrew": "שלום עולם צה\"ל ג'ורג' מתמטיקה",
    "indic": "हिन्दी में लिखो க்ஷ தமிழ் বাংলা ক্ষ ไทย สวัสดีครับ ภาษา ລາວ ສະບາຍດີ ខ្មែរ မြန်မာ",
    "slavic": "Привет как посчитать интеграл ёлка Ёлка Γειά σου Κόσμε ΣΟΦΟΣ σοφός Հայերեն ქართული",
    "emoji": "🎉 👍🏽 👩‍👩‍👧 🇩🇪 🇩🇪🇫🇷 1️⃣ ©️ ™ ☺ ☺️ ❤️‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👋👋 🧑‍🚀",
    "odd": (
        "ＦＵＬＬ ｗｉｄｔｈ １２３ ½ ² ① Ⅷ ﬁne ﬀ ℃ ㎏ ㍿ e\u0301 é n\u0303 数\u0301 か\u3099 a\u200db a\u200cb a\u00adb "
        "\ufeffbom \u202eabc \u2067x\u2069 _ __ ___ _x_ a_b_ 。 、 「数」 “smart” ‘it’s’ – — … · • ※ ＿ a·b l’eau 3‘000"
    ),
    "long": " ".join(
        ("a" * 254, "b" * 255, "c" * 256, "x" * 600, "数" * 300, "ab." * 100, "1," * 200 + "1", "word_" * 60)
    ),
}
POOLS: Mapping[str, Sequence[str]] = {name: words.split() for name, words in _WORDS.items()}
_GLUE = (" ", " ", " ", " ", "", "\n", ", ", "-", "/", "_", ".", "'", "\u3000", "\u00a0", "\t", "。", "، ")
_APPS, _MODELS = ("tutor", "shop", "my app", "ide", "数学"), ("gpt-4o", "gpt-4o-mini", "llama 3", "Llama-3")
_TAGS = ("topic:math", "topic:code", "topic:billing", "pii:email", "n:1", "n:10", "ünï:x")


def mixed_logs(count: int, *, seed: int) -> list[TaggedLog]:
    """So many logs with ids `mixed-0`, `mixed-1`, ...; the same for the same seed."""
    chance = random.Random(seed)
    return [_log(f"mixed-{at}", chance) for at in range(count)]


def _log(log_id: str, chance: random.Random) -> TaggedLog:
    messages = (
        *((Message(role="system", content=_text(chance)),) if chance.random() < 0.2 else ()),
        Message(role="user", content=_text(chance), parts=chance.choice((None, None, [{"type": "image_url"}]))),
        *((Message(role="tool", content=_text(chance)),) if chance.random() < 0.15 else ()),
    )
    record = LogRecord(
        log_id=log_id,
        ts_ms=NEW_YEAR_MS + chance.randrange(YEAR_MS) // 1000 * chance.choice((1, 1000)),
        messages=messages,
        output=() if chance.random() < 0.1 else (_answer(chance),),
        app=_some(chance, lambda: chance.choice(_APPS)),
        model=_some(chance, lambda: chance.choice(_MODELS)),
        provider=_some(chance, lambda: chance.choice(("openai", "local"))),
        finish_reason=_some(chance, lambda: chance.choice(("stop", "length", "tool_calls"))),
        status=chance.choice(("ok", "ok", "ok", "error")),
        usage=Usage(input_tokens=_some(chance, lambda: chance.randrange(5000)), output_tokens=chance.randrange(50)),
        latency_ms=_some(chance, lambda: round(chance.expovariate(0.001), chance.choice((0, 3)))),
        cost_usd=_some(chance, lambda: chance.choice((0.0, -0.0, 0.1, 0.25, 1e-9, 3.0, chance.random()))),
        session_id=_some(chance, lambda: f"s-{chance.randrange(30)}"),
        user_id=_some(chance, lambda: f"u {chance.randrange(30)}"),
        trace_id=_some(chance, lambda: f"t-{chance.randrange(99)}"),
        response_id=_some(chance, lambda: f"r-{log_id}"),
        metadata={
            key: chance.choice(("prod", "test", "a:b", "数", "")) for key in chance.sample(("env", "e v", "k.l"), 2)
        },
        consent=_some(chance, lambda: chance.choice(("train", "none"))),
        tools=chance.choice((None, None, [{"type": "function"}])),
    )
    edit = Edit(messages=messages, output=(_answer(chance),)) if chance.random() < 0.1 else None
    return TaggedLog(
        log=record,
        content_digest=log_id,
        tags=tuple(Tag(tag, "rule@1") for tag in chance.sample(_TAGS, chance.randrange(4))),
        language=_some(chance, lambda: chance.choice(("en", "de", "zh"))),
        edit=edit,
        consent=_some(chance, lambda: "eval_only", share=0.1),
        feedback=tuple(_said(chance) for _ in range(chance.choice((0, 0, 1, 2)))),
    )


def _answer(chance: random.Random) -> Message:
    call = ToolCall(name=chance.choice(("get_weather", "find")), arguments=f'{{"q": "{_text(chance, most=3)}"}}')
    return Message(
        role="assistant",
        content=_text(chance),
        tool_calls=(call,) if chance.random() < 0.2 else (),
        reasoning=_text(chance) if chance.random() < 0.1 else None,
        refusal=_text(chance) if chance.random() < 0.05 else None,
    )


def _said(chance: random.Random) -> Said:
    return Said(
        name=chance.choice(("is_correct", "tone")),
        score=_some(chance, lambda: chance.choice((0.0, 0.5, 1.0, 1 / 3))),
        label=_some(chance, lambda: chance.choice(("kind", "so so"))),
        corrected=chance.random() < 0.5,
        commented=chance.random() < 0.5,
    )


def _text(chance: random.Random, *, most: int = 30) -> str:
    """Words of one script for the most part, others between them, joined in every way."""
    own = chance.choice(list(POOLS))
    words = [
        chance.choice(POOLS[own if chance.random() < 0.7 else chance.choice(list(POOLS))])
        for _ in range(chance.randrange(1, most))
    ]
    return "".join(word + chance.choice(_GLUE) for word in words)


def _some(chance: random.Random, value: Callable[[], T], *, share: float = 0.6) -> T | None:
    return value() if chance.random() < share else None
