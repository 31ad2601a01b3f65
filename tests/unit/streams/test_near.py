"""Which logs say nearly the same: the sketches, and what one worker remembers of them."""

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog, ToolCall
from tunemill.schemas.sketch import similarity
from tunemill.streams.fingerprint import fingerprints
from tunemill.streams.mask import Masked, mask
from tunemill.streams.near import Near
from tunemill.streams.rules import Rules
from tunemill.streams.tag import retag, tag

ASKED = (
    "My parcel with the green lamp was promised for Monday, but it is still in Kiel. Where can I see what became of it?"
)
ANSWER = "I am sorry about that. It left Kiel this morning and arrives tomorrow by noon; you will get a message an hour before."
MARK = Tag("quality:near-duplicate", "near@1")
WORDS = [f"word{number}" for number in range(400)]


def log(asked: str = ASKED, answer: str = ANSWER, log_id: str = "one", **fields: object) -> LogRecord:
    output = (Message(role="assistant", content=answer),)
    return LogRecord(
        **{"log_id": log_id, "ts_ms": 1, "messages": (Message(role="user", content=asked),), "output": output, **fields}
    )


def fingerprint(log: LogRecord) -> str | None:
    return fingerprints([log])[0]


def sketch(log: LogRecord) -> bytes:
    found = fingerprint(log)
    assert found is not None
    return bytes.fromhex(found)


def tagged(asked: str = ASKED, answer: str = ANSWER, log_id: str = "one") -> TaggedLog:
    return tag(mask(log(asked, answer, log_id)), Rules(()))


def test_a_sketch_is_the_same_on_every_machine():
    expected = "d9fc9187e801"
    assert (fingerprint(log()) or "")[:12] == expected


def test_only_what_was_asked_last_and_answered_counts_in_any_case_and_spacing():
    earlier = (Message(role="system", content="Be kind."), Message(role="user", content="An earlier question."))
    later = log(ASKED.upper(), ANSWER.replace(" ", "\n  "), "two", app="shop")
    later = msgspec.structs.replace(later, messages=(*earlier, *later.messages))
    assert fingerprint(later) == fingerprint(log())
    calls = (ToolCall(name="find", arguments=ANSWER),)
    with_call = log(ASKED, "", output=(Message(role="assistant", tool_calls=calls),))
    assert 0.8 < similarity(sketch(with_call), sketch(log())) < 1


@pytest.mark.parametrize("text", ["", "Hi there!", "word " * 8])
def test_too_little_text_has_no_sketch(text: str):
    assert fingerprint(log(text, text)) is None
    assert fingerprint(log(text, messages=(), output=())) is None


def test_a_sketch_is_the_same_whatever_is_sketched_beside_it():
    texts = [" ".join(WORDS[start : start + count]) for start in range(0, 300, 7) for count in (0, 1, 17, 90)]
    logs = [log(text, answer) for text in texts for answer in ("", text, "word " * 30_000)]
    together = fingerprints(logs)
    assert together == [fingerprint(one) for one in logs]
    assert len(set(together)) > len(logs) / 2


@settings(deadline=None, max_examples=60)
@given(st.integers(100, 400), st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_similarity_is_an_estimate_of_jaccards(length: int, share: float, chance: random.Random):
    ours = [chance.choice(WORDS) for _ in range(length)]
    theirs = [word if at < share * length else chance.choice(WORDS) for at, word in enumerate(ours)]
    pairs, others = set(pairwise(ours)), set(pairwise(theirs))
    exact = len(pairs & others) / len(pairs | others)
    ours_sketch, theirs_sketch = sketch(log(" ".join(ours), "")), sketch(log(" ".join(theirs), ""))
    assert similarity(ours_sketch, theirs_sketch) == pytest.approx(exact, abs=0.25)  # four times the standard error
    assert similarity(ours_sketch, ours_sketch) == 1


@pytest.mark.parametrize(
    ("asked", "is_near"),
    [
        (ASKED, True),
        (ASKED.replace("Monday", "Friday"), True),
        (ASKED.replace("?", "?!").lower(), True),
        (ASKED + " Thanks.", True),
        ("My order of two red chairs should have come on Friday. Is it lost, and do I get my money back?", False),
    ],
)
def test_a_log_that_says_nearly_the_same_as_an_earlier_one_is_marked(asked: str, is_near: bool):
    near = Near()
    assert MARK not in near.mark(tagged()).tags
    assert (MARK in near.mark(tagged(asked, log_id="two")).tags) == is_near


def test_a_log_that_comes_again_is_no_duplicate_of_itself_and_stays_one_of_others():
    near = Near()
    first, second = tagged(), tagged(log_id="two")
    for _ in range(3):
        assert near.mark(first) is first
        assert near.mark(second).tags == (*second.tags, MARK)


def test_the_mark_goes_when_nothing_is_near_and_what_people_said_stays():
    near = Near()
    marked = msgspec.structs.replace(tagged(), tags=(*tagged().tags, MARK))
    assert near.mark(marked) == tagged()
    by_person = msgspec.structs.replace(tagged(log_id="two"), tags=(Tag(MARK.tag, "person:ann"),))
    assert near.mark(by_person) is by_person
    assert Near().mark(by_person) is by_person
    taken_off = msgspec.structs.replace(tagged(log_id="three"), removed=(MARK.tag,))
    assert near.mark(taken_off) is taken_off


def test_a_log_without_a_sketch_is_near_to_none():
    near = Near()
    for log_id in ("one", "two"):
        assert MARK not in near.mark(tagged("Hi", "Hello", log_id)).tags


def test_what_was_met_least_recently_is_forgotten_first():
    near = Near(most=2)
    texts = {name: " ".join(random.Random(name).choices(WORDS, k=60)) for name in ("a", "b", "c")}
    met = [tagged(texts[name], log_id=log_id) for name, log_id in zip("abac", "1234", strict=True)]
    for one in met:
        near.mark(one)
    assert MARK in near.mark(tagged(texts["a"], log_id="5")).tags
    assert MARK not in near.mark(tagged(texts["b"], log_id="6")).tags


def test_tagging_again_keeps_the_mark_while_the_log_says_the_same():
    marked = msgspec.structs.replace(tagged(), tags=(*tagged().tags, MARK))
    assert retag(marked, Rules(())) == marked
    grown = msgspec.structs.replace(marked.log, output=(*marked.log.output, Message(role="assistant", content=ASKED)))
    assert MARK not in retag(marked, Rules(()), grown=Masked(grown, ())).tags
