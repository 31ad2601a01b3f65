"""The query language: what it reads, how it prints, and how it says no."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.indexer.analysis import is_one_word
from tunemill.indexer.ast import And, Between, Everything, Is, Not, Or, Query, StartsWith, WordPrefix, Words
from tunemill.indexer.fields import HAS, KEYWORDS, METADATA, PARTS
from tunemill.indexer.query import MAX_BEGINNING, MAX_CHARACTERS, MAX_DEPTH, MAX_TERMS, QueryError, parse
from tunemill.indexer.query_text import to_text

NEW_YEAR = 1_767_225_600_000
DAY_MS = 86_400_000
NOW_MS = NEW_YEAR + 10 * DAY_MS
SAVED = {
    "wrong": "tag:topic:math feedback:is_correct:0",
    "old wrong": "saved:wrong ts:<now-7d",
    "nothing": " ",
    "much": "saved:nothing " * MAX_TERMS,
    "loop": "a OR (saved:pool)",
    "pool": "saved:loop",
    "broken": "a (b",
    "deep": "(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH,
    "long": "a " * (MAX_TERMS - 2),
}

READS = {
    "": Everything(),
    "  \t\n ": Everything(),
    "math": Words("math"),
    '"long division"': Words("long division"),
    'say "a \\"quoted\\" \\\\ word"': And((Words("say"), Words('a "quoted" \\ word'))),
    "a b": And((Words("a"), Words("b"))),
    "a AND b": And((Words("a"), Words("b"))),
    "a OR b c": Or((Words("a"), And((Words("b"), Words("c"))))),
    "(a OR b) c": And((Or((Words("a"), Words("b"))), Words("c"))),
    "-a": Not(Words("a")),
    "NOT -a": Not(Not(Words("a"))),
    "-(a b)": Not(And((Words("a"), Words("b")))),
    "and or not": And((Words("and"), Words("or"), Words("not"))),
    "ANDROID ORDER": And((Words("ANDROID"), Words("ORDER"))),
    "well-known": Words("well-known"),
    "math*": WordPrefix("math"),
    "दुनिया*": WordPrefix("दुनिया"),
    "prompt:สวัสดี*": WordPrefix("สวัสดี", "prompt"),
    "العَرَبِيَّة*": WordPrefix("العَرَبِيَّة"),
    "נִקּוּד*": WordPrefix("נִקּוּד"),
    "cafe\u0301*": WordPrefix("cafe\u0301"),
    "can't*": WordPrefix("can't"),
    "foo.ba*": WordPrefix("foo.ba"),
    "tag:topic:math": Is("tag", "topic:math"),
    "tag:pii:*": StartsWith("tag", "pii:"),
    "-tag:*": Not(StartsWith("tag", "")),
    "lang:de": Is("language", "de"),
    "LANG:de": Is("language", "de"),
    'model:"gpt 4*"': Is("model", "gpt 4*"),
    'model:"gpt 4"*': StartsWith("model", "gpt 4"),
    "metadata.Env:prod": Is("metadata.Env", "prod"),
    "latency_ms:>2000": Between("latency_ms", 2000.0, None, low_included=False),
    "latency_ms:<=2e3": Between("latency_ms", None, 2000.0),
    "latency_ms:7": Between("latency_ms", 7.0, 7.0),
    "output_tokens:[1 TO 5}": Between("output_tokens", 1.0, 5.0, high_included=False),
    "output_tokens:[* TO 5]": Between("output_tokens", None, 5.0),
    "ts:2026-01-01": Between("ts", NEW_YEAR, NEW_YEAR + DAY_MS - 1),
    "ts:>2026-01-01": Between("ts", NEW_YEAR + DAY_MS - 1, None, low_included=False),
    "ts:>=2026": Between("ts", NEW_YEAR, None),
    "ts:<2026-01-01T01:00+01:00": Between("ts", None, NEW_YEAR, high_included=False),
    "ts:[2026-01-01 TO 2026-01-31]": Between("ts", NEW_YEAR, NEW_YEAR + 31 * DAY_MS - 1),
    "ts:>=2026-01-01T00:00:00.1Z": Between("ts", NEW_YEAR + 100, None),
    "ts:2026-01-01T00:00:00.12": Between("ts", NEW_YEAR + 120, NEW_YEAR + 129),
    "ts:<=2026-01-01T00:00:00.123456Z": Between("ts", None, NEW_YEAR + 123),
    f"ts:{NEW_YEAR}": Between("ts", NEW_YEAR, NEW_YEAR),
    "12:30": Words("12:30"),
    "prompt:refund": Words("refund", "prompt"),
    'RESPONSE:"long division"': Words("long division", "response"),
    "tool:get_*": WordPrefix("get_", "tool"),
    "system:a:b": Words("a:b", "system"),
    "model:(a)": Is("model", "a"),
    'model:(a, "b c" OR d*,-e) f': And(
        (Or((Is("model", "a"), Is("model", "b c"), StartsWith("model", "d"), Is("model", "-e"))), Words("f"))
    ),
    "-tag:( a:b ,c )": Not(Or((Is("tag", "a:b"), Is("tag", "c")))),
    "prompt:(sum, plu*)": Or((Words("sum", "prompt"), WordPrefix("plu", "prompt"))),
    "output_tokens:([1 TO 5], >9)": Or(
        (Between("output_tokens", 1.0, 5.0), Between("output_tokens", 9.0, None, low_included=False))
    ),
    "model:a,b": Is("model", "a,b"),
    "has:correction": Is("has", "correction"),
    "has:lang": StartsWith("language", ""),
    "has:(edit, latency, metadata.env)": Or(
        (Is("has", "edit"), StartsWith("latency_ms", ""), StartsWith("metadata.env", ""))
    ),
    "saved:wrong": And((Is("tag", "topic:math"), Is("feedback", "is_correct:0"))),
    '-saved:"old wrong"': Not(
        And(
            (
                And((Is("tag", "topic:math"), Is("feedback", "is_correct:0"))),
                Between("ts", None, NOW_MS - 7 * DAY_MS, high_included=False),
            )
        )
    ),
    "saved:nothing": Everything(),
    "saved:(wrong, nothing)": Or((And((Is("tag", "topic:math"), Is("feedback", "is_correct:0"))), Everything())),
    "ts:>now-90m": Between("ts", NOW_MS - 90 * 60_000, None, low_included=False),
    "ts:<=now": Between("ts", None, NOW_MS),
    "ts:[now-2w TO now-24h}": Between("ts", NOW_MS - 14 * DAY_MS, NOW_MS - DAY_MS, high_included=False),
    "ts:>=now-999999w": Between("ts", 0, None),
    "latency_ms:>2s": Between("latency_ms", 2000.0, None, low_included=False),
    "latency:[250ms TO 1.001s]": Between("latency_ms", 250.0, 1001.0),
    "latency_ms:<1.5m": Between("latency_ms", None, 90_000.0, high_included=False),
    "latency_ms:1h": Between("latency_ms", 3_600_000.0, 3_600_000.0),
}

REFUSES = {
    "modle:x": (1, "did you mean model?"),
    "a lagn:de": (3, "did you mean lang?"),
    "http://x": (1, "the text in quotes"),
    "a (b": (5, ') for the "(" at column 3'),
    "a b)": (4, "closes no parenthesis"),
    "()": (2, "a word, a phrase"),
    "a AND": (6, "a word, a phrase"),
    "OR a": (1, "a word, a phrase"),
    "a OR OR b": (6, "a word, a phrase"),
    "NOT": (4, "a word, a phrase"),
    "a - b": (4, "right after the -"),
    '"abc': (5, '" for the one at column 1'),
    "tag:": (5, "a value right after tag:"),
    "tag: x": (5, "a value right after tag:"),
    "*": (1, "letters or digits before the *"),
    "gpt-4*": (1, "the beginning of one word before the *: gpt 4*"),
    "prompt:gpt-4*": (8, ": prompt:gpt prompt:4*"),
    "foo.*": (1, ": foo*"),
    "*math": (1, "only at a word's end"),
    "tag:a*b": (6, "only at a word's end"),
    "ts:yesterday": (4, "a date such as"),
    "ts:2026-02-30": (4, "a date such as"),
    "ts:>x": (5, "a date such as"),
    "latency_ms:fast": (12, "a number"),
    "latency_ms:[1 TO": (12, "[low TO high]"),
    "latency_ms:[9 TO 1]": (12, "the smaller bound first"),
    "promt:x": (1, "did you mean prompt?"),
    "prompt:": (8, "a value right after prompt:"),
    "prompt:*": (8, "letters or digits before the *"),
    "model:()": (8, "a value"),
    "model:(": (8, "a value"),
    "model:(a,)": (10, "a value"),
    "model:(a, (b))": (11, "a value"),
    "model:(a b)": (10, 'a comma, OR or ) for the "(" at column 7'),
    "model:(a": (9, 'a comma, OR or ) for the "(" at column 7'),
    "model:(NOT a)": (8, "NOT stands before the field"),
    "model:(a OR OR b)": (13, "NOT stands before the field"),
    "has:corection": (5, "did you mean correction?"),
    "has:modle": (5, "did you mean model?"),
    "has:zzzz": (5, "one of answer, audio"),
    "has:*": (5, "what a log can have"),
    "has:metadata.a:b": (5, "what a log can have"),
    "a saved:unknown": (9, "the name of a saved search"),
    "saved:wrnog": (7, "did you mean wrong?"),
    "a saved:broken": (9, 'one that can be read (column 5: found the end, expected ) for the "(" at column 3)'),
    "saved:loop": (7, "another saved search, or none"),
    "saved:deep": (7, "within one another"),
    "saved:much": (7, f"at most {MAX_TERMS} terms"),
    "saved:long a b": (14, f"at most {MAX_TERMS} terms"),
    "ts:now-7d": (4, "a comparison: ts:>now-7d"),
    "ts:>now-7y": (5, "now-7d"),
    "ts:>now+7d": (5, "now-7d"),
    "latency_ms:>2d": (13, "ms, s, m or h"),
    "latency_ms:ms": (12, "ms, s, m or h"),
    "latency_ms:9e999h": (12, "a number"),
    "cost_usd:>2s": (11, "a number"),
    "-" * (MAX_DEPTH + 1) + "a": (MAX_DEPTH + 2, "within one another"),
    "(" * MAX_DEPTH + "app:(a)" + ")" * MAX_DEPTH: (MAX_DEPTH + 5, "within one another"),
    "x" * (MAX_CHARACTERS + 1): (MAX_CHARACTERS + 1, "at most"),
    "a " + "b" * (MAX_BEGINNING + 1) + "*": (3, f"at most {MAX_BEGINNING}"),
    'tag:"' + "b" * (MAX_BEGINNING + 1) + '"*': (5, f"at most {MAX_BEGINNING}"),
    "(" * (MAX_DEPTH + 2) + "a": (MAX_DEPTH + 2, "within one another"),
    "a " * (MAX_TERMS + 1): (2 * MAX_TERMS + 1, f"at most {MAX_TERMS} terms"),
}


@pytest.mark.parametrize("text", READS)
def test_reads(text: str) -> None:
    assert parse(text, now_ms=NOW_MS, saved=SAVED.get) == READS[text]


@pytest.mark.parametrize("text", REFUSES, ids=lambda text: text[:20])
def test_refuses_and_says_where_and_why(text: str) -> None:
    column, expected = REFUSES[text]
    with pytest.raises(QueryError) as refused:
        parse(text, saved=SAVED.get, saved_names=SAVED.keys)
    assert refused.value.column == column
    assert expected in refused.value.expected
    assert f"column {column}: found {refused.value.found}" in str(refused.value)


def test_now_is_the_clocks_unless_it_is_said() -> None:
    before_ms = time.time_ns() // 1_000_000
    tree = parse("ts:>=now")
    assert isinstance(tree, Between)
    assert tree.low is not None
    assert before_ms <= tree.low <= time.time_ns() // 1_000_000


def test_a_text_that_was_printed_may_be_longer() -> None:
    saved = {"ids": f"id:({', '.join(f'log-{at:04}' for at in range(MAX_TERMS - 1))})"}
    tree = parse("saved:ids", saved=saved.get)
    printed = to_text(tree)
    assert len(printed) > MAX_CHARACTERS
    assert parse(printed, longest=10 * MAX_CHARACTERS) == tree


def test_a_tree_as_deep_as_may_be_can_be_printed_and_read_again() -> None:
    text = "a"
    for _ in range(MAX_DEPTH):
        text = f"(b {text} OR c)"
    tree = parse(text)
    assert parse(to_text(tree)) == tree


VALUE = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FIELD = st.sampled_from(KEYWORDS) | st.from_regex(r"[a-z][a-z_.]{0,5}", fullmatch=True).map(lambda key: METADATA + key)
PART = st.none() | st.sampled_from(PARTS)
NUMBER = st.floats(-1e9, 1e9)
MOMENT = st.integers(0, 253_402_300_799_999)


def between(field: st.SearchStrategy[str], bound: st.SearchStrategy[float]) -> st.SearchStrategy[Query]:
    def build(name: str, bounds: tuple[float | None, float | None], low_in: bool, high_in: bool) -> Query:
        low, high = bounds
        if low is not None and high is not None and low > high:
            low, high = high, low
        return Between(name, low, high, low_in, high_in)

    return st.builds(build, field, st.tuples(st.none() | bound, st.none() | bound), st.booleans(), st.booleans())


MARKED_WORD = st.text("दहनकिीु्สวัดবাংলাتَمِיִּe\u0301b5'._", min_size=1, max_size=8).filter(is_one_word)
LEAF = (
    st.builds(Words, VALUE, PART)
    | st.builds(WordPrefix, st.from_regex(r"\w{1,8}", fullmatch=True) | MARKED_WORD, PART)
    | st.builds(Is, FIELD, VALUE)
    | st.builds(Is, st.just("has"), st.sampled_from(HAS))
    | st.builds(StartsWith, FIELD, VALUE)
    | between(st.sampled_from(["latency_ms", "cost_usd", "input_tokens", "score", "chars"]), NUMBER)
    | between(st.just("ts"), MOMENT)
)


def compound(inner: st.SearchStrategy[Query]) -> st.SearchStrategy[Query]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.builds(Not, inner) | st.builds(And, several) | st.builds(Or, several)


@given(st.recursive(LEAF, compound, max_leaves=8))
def test_a_printed_tree_parses_to_the_same_tree(tree: Query) -> None:
    assert parse(to_text(tree)) == tree


ODD = st.text() | st.lists(
    st.sampled_from(
        ["(", ")", '"', "-", "*", "\\", "AND", "OR", "NOT", "tag:", "ts:", "latency_ms:", ">", "[", "TO", "]", "{", "}"]  # noqa: RUF005
        + ["a", " ", "2026", "metadata.", ":", "1e999", "99999999999999999", "\0", "数", ",", "prompt:", "has:", "edit"]
        + ["saved:", "wrong", "loop", "app:(", "now", "now-", "7d", "2s", "m"]
    )
).map("".join)


@given(ODD)
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        tree = parse(text, saved=SAVED.get)
    except QueryError as refused:
        assert 1 <= refused.column <= len(text) + 1
    else:
        assert parse(to_text(tree)) == tree
