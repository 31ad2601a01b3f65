"""The tags that a log gets from the starter set, its language, and the private data in it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.privacy import pii
from tunemill.schemas.records import Edit, LogRecord, Message, Said, Tag, TaggedLog, ToolCall
from tunemill.streams import tag as tagging
from tunemill.streams.language import language_of
from tunemill.streams.mask import Masked, mask
from tunemill.streams.rules import Rules, load_rules
from tunemill.streams.tag import retag, tag, tag_all

RULES = load_rules()


def log(user: str = "hi", answer: str | None = "well", **fields: object) -> LogRecord:
    output = () if answer is None else (Message(role="assistant", content=answer),)
    return LogRecord(
        **{"log_id": "one", "ts_ms": 1, "messages": (Message(role="user", content=user),), "output": output, **fields}
    )


def tagged(*args: str, **fields: object) -> TaggedLog:
    return tag(mask(log(*args, **fields)), RULES)


def tags(*args: str | None, **fields: object) -> set[str]:
    return {entry.tag for entry in tagged(*args, **fields).tags}


@pytest.mark.parametrize(
    ("expected", "user", "answer"),
    [
        ("topic:math", "Tom has 3 apples and buys 4. How many apples?", "3 + 4 = 7 apples"),
        (
            "topic:math",
            "A shirt costs $20 and trousers cost twice as much. What is the total?",
            "20 * 2 = $40. 20 + 40 = $60",
        ),
        ("topic:math", "Solve 3x^2 + 4x - 7 = 0", "Use the formula."),
        ("topic:math", "What is the derivative of sin?", "cos"),
        ("topic:math", "Show me long division, step by step", "Sure."),
        ("topic:code", "fix this\n```python\nprint(1)\n```", "ok"),
        ("topic:code", "Write a Python function that reverses a list", "sure"),
        ("topic:code", "help", "def add(a, b):\n    return a + b"),
        ("topic:sql", "help", "SELECT name FROM users WHERE id = 1"),
        ("topic:sql", "Write an SQL query for last month's sales", "sure"),
        ("topic:translation", "Translate this sentence into German: good morning", "Guten Morgen"),
        ("topic:summarisation", "Please summarize the following article: ...", "It says"),
        ("topic:extraction", "Extract all dates from the text below", "none"),
        ("topic:support", "I want a refund, my parcel never came", "Sorry"),
        ("topic:writing", "Write a short cover letter for a baker", "Dear"),
        ("quality:refusal", "do it", "I'm sorry, but I can't help with that."),
        ("quality:refusal", "do it", "As an AI language model, I cannot do this."),
    ],
)
def test_the_starter_rules_find(expected: str, user: str, answer: str):
    assert expected in tags(user, answer)


@pytest.mark.parametrize(
    ("absent", "user", "answer"),
    [
        ("topic:math", "How many people live in Bern?", "About 134,000."),
        ("topic:math", "How do I add 2 users?", "Set x = 3 in the file."),
        ("topic:code", "What is a function of the liver?", "It cleans the blood."),
        ("topic:sql", "Please select a dish from the menu", "soup"),
        ("topic:summarisation", "In the summary of the match, who won?", "Bern"),
        ("topic:translation", "What does translation mean in biology?", "Proteins"),
        ("topic:support", "What is the capital of my country, France?", "Paris"),
        ("quality:refusal", "can you swim?", "I love water, but some say I can't help it."),
        ("quality:refusal", "sorry", "I'm sorry to hear that. Let me help."),
    ],
)
def test_the_starter_rules_leave_alone(absent: str, user: str, answer: str):
    assert absent not in tags(user, answer)


def test_what_happened_to_the_call():
    call = (Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}"),)),)
    image = (Message(role="user", content="what?", parts=[{"type": "image_url", "image_url": {}}]),)
    assert "shape:tool-call" in tags(output=call, tools=[{}])
    assert "shape:tools-offered" in tags(tools=[{}])
    assert "shape:multimodal" in tags(messages=image)
    assert tags("hi", None, status="error", error="rate_limit") == {"status:error"}
    assert "quality:truncated" in tags(finish_reason="length")
    assert "quality:refusal" in tags(finish_reason="content_filter")
    assert "quality:empty" in tags("hi", "")


def test_tags_say_who_set_them_and_the_first_one_counts():
    found = tagged("my key is sk-" + "a1B2" * 8, finish_reason="length", tags=("team:a", "quality:truncated", "team:a"))
    assert found.tags == (
        Tag("team:a", "caller"),
        Tag("quality:truncated", "caller"),
        Tag("secret:api-key", "secrets@1"),
    )
    assert Tag("quality:truncated", "truncated@2") in tagged(finish_reason="length").tags


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is my parcel? I have been waiting for a week.", "en"),
        ("Wo bleibt mein Paket? Ich warte schon eine Woche.", "de"),
        ("¿Dónde está mi paquete? Llevo una semana esperando.", "es"),
        ("我的包裹在哪里？我已经等了一个星期了。", "zh"),
        ("أين طردي؟ لقد انتظرت أسبوعا كاملا", "ar"),
        ("荷物はどこですか。一週間も待っています。", "ja"),
        ("今天天气怎么样", "zh"),
        ("오늘 날씨 어때", "ko"),
        ("请翻译", None),
        ("ok go now", None),
        ("12345 67890 !!!", None),
        ("```python\nfor item in items:\n    print(item)\n```", None),
        ("", None),
    ],
)
def test_language(text: str, language: str | None):
    assert language_of(text) == language


def test_the_language_is_the_users():
    found = tagged("Wo bleibt mein Paket? Ich warte schon eine Woche.", "It will come tomorrow, please be patient.")
    assert found.language == "de"
    assert Tag("lang:de", "lid.176@2") in found.tags


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "write to ada.lovelace+x@mail.example.co.uk."),
        ("phone", "call +49 30 901820 today"),
        ("phone", "call (212) 555-0142"),
        ("phone", "call 212-555-0142"),
        ("card", "card 4111 1111 1111 1111, thanks"),
        ("card", "card 4111111111111111."),
        ("card", "amex 3782-822463-10005"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("ip", "from 81.2.69.142 at noon"),
        ("ip", "it was 81.2.69.142."),
        ("national-id", "SSN 536-90-4399"),
    ],
)
def test_private_data_is_found(kind: str, text: str):
    assert f"pii:{kind}" in tags(text)
    assert f"pii:{kind}" in tags("hi", text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "a@b and @handle and x@y"),
        ("phone", "2 + 49 = 51 and 2024-05-06 and 1-800"),
        ("card", "4111 1111 1111 1112"),  # Luhn says no
        ("card", "1.6363636363636365 and 4444444444444444444444"),
        ("card", "order 12345678"),
        ("iban", "DE88 3704 0044 0532 0130 00"),  # the checksum says no
        ("iban", "XX12 3456 7890 1234"),
        ("ip", "192.168.1.4 and 127.0.0.1 and 10.0.0.1"),
        ("ip", "version 8.8.8.8.1 and v81.2.69.142 and 999.2.69.142"),
    ],
)
def test_what_only_looks_private_is_not_tagged(kind: str, text: str):
    assert f"pii:{kind}" not in tags(text)


def test_each_kind_of_private_data_is_tried_here():
    assert set(pii.KINDS) == {"email", "phone", "card", "iban", "ip", "national-id"}


def test_equal_content_has_an_equal_digest_and_ids_do_not_count():
    assert tagged("a").content_digest == tagged("a", log_id="two").content_digest
    assert tagged("a").content_digest != tagged("b").content_digest


def test_when_tagging_fails_the_log_is_kept_with_what_is_known(monkeypatch: pytest.MonkeyPatch):
    def broken(_text: str) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(tagging, "language_of", broken)
    found = tagged("key sk-" + "a1B2" * 8, tags=("team:a",))
    assert found.tag_status == "failed"
    assert [entry.tag for entry in found.tags] == ["team:a", "secret:api-key"]
    assert found.content_digest


PIECES = st.sampled_from(
    [
        *("hi", "", "I want a refund for my order", "Solve 3x + 4 = 19.", "I'm sorry, but I can't help with that."),
        *(
            "def f(x):\n    return x",
            "Schreibe mir bitte ein Gedicht.",
            "数学を教えてください。",
            "ann@example.com",
            "sk-" + "a1B2" * 8,
        ),
        *("+49 30 1234567", "4111 1111 1111 1111", " ".join(f"word{at}" for at in range(40)), "\0", "x" * 70_000),
    ]
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
MESSAGES = st.lists(st.builds(lambda role, text: Message(role=role, content=text), ROLES, PIECES), max_size=4).map(
    tuple
)
LOGS = st.builds(lambda asked, said: LogRecord(log_id="one", ts_ms=1, messages=asked, output=said), MESSAGES, MESSAGES)


@given(st.lists(LOGS, max_size=8))
def test_many_at_once_get_what_each_gets_alone(logs: list[LogRecord]):
    assert tag_all([mask(one) for one in logs], RULES) == [tag(mask(one), RULES) for one in logs]


def test_a_log_that_tagging_stumbles_over_costs_no_other_its_tags(monkeypatch: pytest.MonkeyPatch):
    logs = [mask(log(text)) for text in ("Solve 3x + 4 = 19.", "stumble", "mail ann@example.com")]
    alone = [tag(one, RULES) for one in logs]

    def stumbling(text: str) -> str | None:
        return language_of(text) if text != "stumble" else str(1 / 0)

    monkeypatch.setattr(tagging, "language_of", stumbling)
    found = tag_all(logs, RULES)
    assert [one.tag_status for one in found] == ["ok", "failed", "ok"]
    assert (found[0], found[2]) == (alone[0], alone[2])


STORED = tagged("Write a Python function that sums a list, and send it to ann@example.com, please.", tags=("team:a",))


def edited(*tags: Tag, off: tuple[str, ...] = ()) -> TaggedLog:
    """The stored log after a person's edit."""
    left = tuple(entry for entry in STORED.tags if entry.tag not in off)
    return msgspec.structs.replace(STORED, tags=(*left, *tags), removed=off)


def test_by_the_same_rules_a_stored_log_keeps_its_tags_in_their_order():
    assert {"team:a", "topic:code", "pii:email", "lang:en"} <= {entry.tag for entry in STORED.tags}
    again = edited(Tag("reviewed:yes", "person:ann"), off=("topic:code", "team:a"))
    for stored in (STORED, again, msgspec.structs.replace(STORED, tags=STORED.tags[::-1])):
        assert retag(stored, RULES) == stored


def test_what_rules_set_is_set_anew_and_what_people_and_the_caller_set_stays():
    stored = edited(Tag("topic:old", "old@3"), Tag("topic:older", "learned@2"), Tag("topic:code", "person:ann"))
    names = {entry.tag: entry.by for entry in retag(stored, Rules(())).tags}
    assert names == {"team:a": "caller", "topic:code": "person:ann", "lang:en": "lid.176@2", "pii:email": "pii@2"}
    assert {entry.tag for entry in retag(retag(stored, Rules(())), RULES).tags} == {entry.tag for entry in STORED.tags}


def test_the_kinds_of_secrets_stay_though_the_secrets_are_gone():
    stored = tagged("the key is sk-" + "a1B2" * 8)
    assert "secret:api-key" in {entry.tag for entry in retag(stored, Rules(())).tags}


def test_what_a_person_took_off_stays_off_but_for_what_has_come_since():
    stored = edited(off=("topic:code", "pii:email", "team:a"))
    grown = msgspec.structs.replace(
        STORED.log,
        output=(Message(role="assistant", content="def f(): ...  # for bob@example.com"),),
        tags=("team:a", "team:b"),
    )
    now = retag(stored, RULES, grown=Masked(grown, ("jwt",)))
    assert {entry.tag for entry in now.tags} >= {"pii:email", "team:b", "secret:jwt"}
    assert not {"topic:code", "team:a"} & {entry.tag for entry in now.tags}
    assert now.removed == ("topic:code", "team:a")
    assert now.log == grown


def test_when_tagging_again_fails_the_log_keeps_the_tags_it_had(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tagging, "language_of", None)
    grown = msgspec.structs.replace(STORED.log, app="shop")
    now = retag(STORED, RULES, grown=Masked(grown, ()))
    assert (now.tags, now.language, now.tag_status, now.log) == (STORED.tags, "en", "failed", grown)


@pytest.mark.parametrize("fails", [False, True])
def test_what_people_said_of_a_log_stays_beside_it(monkeypatch: pytest.MonkeyPatch, *, fails: bool):
    said = {
        "revision": 4,
        "edit": Edit(messages=(Message(role="user", content="1 + 1?"),)),
        "consent": "none",
        "feedback": (Said(name="correct", score=0.0),),
    }
    stored = msgspec.structs.replace(STORED, **said)
    grown = msgspec.structs.replace(STORED.log, app="shop")
    if fails:
        monkeypatch.setattr(tagging, "language_of", None)
    else:
        assert retag(stored, RULES) == stored
    for now in (retag(stored, Rules(())), retag(stored, RULES, grown=Masked(grown, ()))):
        assert {name: getattr(now, name) for name in said} == said
