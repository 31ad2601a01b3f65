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
    TOGETHER.add(pattern, 1 << place)
TOGETHER.compile()


def matching(patterns: list[str], text: str) -> set[str]:
    compiled = Patterns()
    for place, pattern in enumerate(patterns):
        compiled.add(pattern, 1 << place)
    compiled.compile()
    return {patterns[place] for place in matching_places(compiled, text)}


def matching_places(compiled: Patterns, text: str) -> set[int]:
    """The places of the bits that hold, those that may hold confirmed one by one."""
    _, seen = compiled.match([text.swapcase(), text])
    places = {place for place in range(seen.maybe.bit_length()) if seen.maybe >> place & 1 and seen.confirm(1 << place)}
    return places | {place for place in range(seen.sure.bit_length()) if seen.sure >> place & 1}


def alone(patterns: list[str], text: str) -> set[str]:
    return {pattern for pattern in patterns if ALONE[pattern].search(text)}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PIECES.split(" ")), max_size=14), st.sampled_from([" ", "", "s "]), st.booleans())
def test_the_starter_patterns_find_together_what_they_find_alone(pieces: list[str], between: str, upper: bool):
    text = between.join(pieces)
    text = text.upper() if upper else text
    assert {STARTER[place] for place in matching_places(TOGETHER, text)} == alone(STARTER, text)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(GAPS), min_size=1, unique=True), st.text(alphabet="orderfundÜüKkſs. 12?poem", max_size=40)
)
def test_gaps_find_together_what_they_find_alone(patterns: list[str], text: str):
    assert matching(patterns, text) == alone(patterns, text)


def test_nothing_is_found_where_there_are_no_patterns():
    assert matching([], "text") == set()


def test_a_pattern_gives_all_the_bits_that_it_was_added_with():
    patterns = Patterns()
    for pattern, bits in (("a", 1), ("b", 2), ("a", 4), ("one[^.]*two", 8), ("one[^.]*two", 16)):
        patterns.add(pattern, bits)
    patterns.compile()
    seen, other, empty = patterns.match(["a: one, two", "b: one. two", ""])
    assert (seen.sure, other.sure, empty.sure, empty.maybe) == (5, 2, 0, 0)
    assert [seen.confirm(bit) for bit in (8, 16)] == [True, True]
    assert seen.sure == 29


def test_a_bit_of_several_patterns_holds_where_any_of_them_matches():
    patterns = Patterns()
    patterns.add("one[^.]*two", 1)
    patterns.add("two[^.]*three", 1 | 2)
    patterns.add("three[^.]*one", 4)
    patterns.compile()
    (seen,) = patterns.match(["two, three. one"])
    assert [seen.confirm(bit) for bit in (4, 1, 2, 4)] == [False, True, True, False]
