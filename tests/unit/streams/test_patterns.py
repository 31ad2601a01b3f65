"""Patterns that are only tried where their words stand find what each of them would find alone."""

import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.streams.patterns import Patterns, quiet
from tunemill.streams.rules import load_rules

STARTER = sorted(
    {
        pattern
        for rule in load_rules().rules
        for condition in (*rule.any, *rule.all, *rule.none)
        for pattern in condition.patterns
    }
)
PIECES = "order refund Übersetze ÜBERSETZE переведи ПЕРЕВЕДИ the a 12 + 3 = . ? ! \n translate into german write poem for me 退款 ſ K"
GAPS = (
    "order[^.]{0,20}refund",
    r"(?i)ORDER\w* .* refund",
    "(?i)übersetze[^.]*für",
    "(?i)переведи[^.]{0,9}на",
    r"\d[^?]*\?",
    "(?i)kick[^.]{0,9}s",
    r"(?:\w+ ){0,3}poem",
    "[^.]{0,9}",
)


ALONE = {pattern: re2.compile(pattern, quiet()) for pattern in (*STARTER, *GAPS)}
TOGETHER = Patterns()
for place, pattern in enumerate(STARTER):
    TOGETHER.add(pattern, place)
TOGETHER.compile()


def matching(patterns: list[str], text: str) -> set[str]:
    compiled = Patterns()
    keys = {compiled.add(pattern, number): pattern for number, pattern in enumerate(patterns)}
    compiled.compile()
    return {keys[key] for key in matching_keys(compiled, text)}


def matching_keys(compiled: Patterns, text: str) -> set[int]:
    encoded, other = text.encode(), text.swapcase().encode()
    found: list[tuple[bytes, set[int], set[int]]] = [(other, set(), set()), (encoded, set(), set())]
    compiled.match(found)
    _, sure, possible = found[1]
    assert not sure & possible
    return sure | {key for key in possible if compiled.confirm(key, encoded)}


def alone(patterns: list[str], text: str) -> set[str]:
    return {pattern for pattern in patterns if ALONE[pattern].search(text)}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PIECES.split(" ")), max_size=14), st.sampled_from([" ", "", "s "]), st.booleans())
def test_the_starter_patterns_find_together_what_they_find_alone(pieces: list[str], between: str, upper: bool):
    text = between.join(pieces)
    text = text.upper() if upper else text
    assert {STARTER[key] for key in matching_keys(TOGETHER, text)} == alone(STARTER, text)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(GAPS), min_size=1, unique=True), st.text(alphabet="orderfundÜüKkſs. 12?poem", max_size=40)
)
def test_gaps_find_together_what_they_find_alone(patterns: list[str], text: str):
    assert matching(patterns, text) == alone(patterns, text)


def test_nothing_is_found_where_there_are_no_patterns():
    assert matching([], "text") == set()


def test_a_pattern_is_known_by_its_first_key():
    patterns = Patterns()
    assert [patterns.add("a", 5), patterns.add("b", 6), patterns.add("a", 7)] == [5, 6, 5]
