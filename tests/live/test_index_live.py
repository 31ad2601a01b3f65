"""The embedded index's analysis against a real Elasticsearch's, text by text."""

import httpx
import pytest

from tunemill.indexer.analysis import terms
from tunemill.indexer.mapping import ANALYSIS

pytestmark = pytest.mark.live

TEXTS = (
    "Explain long division: 12,345 / 6.7 = 2,057.5, don't you think? It's the ponies' running costs.",
    "def foo_bar(x): return x.append(v1.2)  # https://example.com/a?b=c&d=e a:b __init__ 'quoted' x=3.14e-5",
    "gpt-4o-mini claude_3.5 C++ C# .NET node.js user@example.com 192.168.0.1 2026-01-02T03:04:05Z",
    "Die Straße über den Fluß führt nach Köln; Çedilla, naïve café, İstanbul, Œuvre, ½ ² ① Ⅷ",
    "她说“微积分的基本定理”很难，2026年3月用Python解决。",
    "東京タワーへの行き方を教えてください。ﾀﾜｰ らーめん ビタミンC 時々",
    "한국어 문장을 번역해 주세요 API를",
    "مرحبا، كيف يمكنني حساب المساحة؟ שלום עולם",
    "Привет, как посчитать интеграл? Γειά σου Κόσμε",
    "สวัสดีครับ हिन्दी में लिखो",
    "that was great 🎉👍🏽 👩‍👩‍👧 🇩🇪🇫🇷 1️⃣ ©™ ☺",
    "“smart quotes” – dashes — and… it’s O’Neil’s ＦＵＬＬ ｗｉｄｔｈ",
    "z" * 600,
    *(f"{start}{'ab.' * 100} {'1,' * 200}1 {'_' * 300}a {'word_' * 60}" for start in ("", "к", "数")),
    "か\u3099く 数\u0301学 ｶﾞ ｱﾞ かﾞ ﾡﾢ 학.ᄒ 해'해 ー_ タワー_x ｰ_ 数_x",
    'צה"ל ג\'ורג\' ה"ל.ג א.ה"ל הא"לב a"b',
    "x İyi İ 1\u20e3_ 1\u20e31 #\ufe0f\u20e3 \u200d🔥 ❤️\u200d🔥 a\u200d🔥",
)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
def test_terms_are_those_of_elasticsearch(elasticsearch_url: str, text: str) -> None:
    analyzer = ANALYSIS["analyzer"]["log_text"]
    body = {"tokenizer": analyzer["tokenizer"], "filter": analyzer["filter"], "text": text}
    answer = httpx.post(f"{elasticsearch_url}/_analyze", json=body).raise_for_status().json()
    assert terms(text) == [token["token"] for token in answer["tokens"]]
