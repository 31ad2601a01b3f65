"""Which dead letters are open does not depend on the order in which letters and marks are read."""

from itertools import permutations

from tunemill.curator_api.open_letters import OpenLetters, counts
from tunemill.schemas.records import RejectedLog


def letter(rejected_id: str = "llm.logs:0:1:0", **fields: object) -> RejectedLog:
    known: dict[str, object] = {"ts_ms": 1, "topic": "llm.logs", "partition": 0, "offset": 1, "stage": "decode"}
    known |= {"error_code": "not_json", "reason": "no JSON", "payload": b"text", "payload_bytes": 4}
    return RejectedLog(rejected_id=rejected_id, **(known | fields))  # type: ignore[arg-type]


def mark(rejected_id: str = "llm.logs:0:1:0", **fields: object) -> RejectedLog:
    return letter(rejected_id, payload=b"", redriven_ms=9, **fields)


def folded(*letters: RejectedLog, most: int = 10, again: OpenLetters | None = None) -> OpenLetters:
    open_letters = OpenLetters(most, again=again)
    for offset, one in enumerate(letters):
        open_letters.take(one, (0, offset))
    return open_letters


def attempts(found: OpenLetters) -> list[int]:
    return [one.letter.attempts for one in found.matching()]


def test_a_letter_that_was_sent_again_is_not_open() -> None:
    for order in permutations([letter(), letter(), mark()]):
        assert attempts(folded(*order)) == []


def test_a_record_that_was_rejected_again_is_one_letter_the_latest() -> None:
    for order in permutations([letter(), mark(), letter(attempts=2, ts_ms=5, first_ts_ms=1)]):
        found = folded(*order)
        assert attempts(found) == [2]
        assert found.matching()[0].letter.first_ts_ms == 1
    for order in permutations([letter(), mark(), letter(attempts=2), mark(attempts=2)]):
        assert attempts(folded(*order)) == []


def test_a_letter_is_held_without_its_payload_and_with_its_place() -> None:
    (found,) = folded(mark("other"), letter()).matching()
    assert (found.letter.payload, found.letter.payload_bytes, found.place) == (b"", 4, (0, 1))


def test_letters_are_found_by_what_they_have_newest_first() -> None:
    found = folded(
        letter("a", ts_ms=1),
        letter("b", ts_ms=3, stage="index", error_code="mapping"),
        letter("c", ts_ms=2, topic="llm.feedback"),
    )
    assert [one.letter.rejected_id for one in found.matching()] == ["b", "c", "a"]
    assert [one.letter.rejected_id for one in found.matching(stage="decode", topic="llm.logs")] == ["a"]
    assert found.matching(error_code="mapping", stage="decode") == []
    assert [one.letter.rejected_id for one in found.matching(until_ms=2)] == ["c", "a"]
    assert counts(found.matching()) == {("decode", "not_json"): 2, ("index", "mapping"): 1}


def test_of_too_many_the_oldest_are_counted_only() -> None:
    found = folded(*(letter(str(n), ts_ms=n) for n in range(5)), most=3)
    assert ([one.letter.rejected_id for one in found.matching()], found.older) == (["4", "3", "2"], 2)


def test_what_was_counted_only_and_sent_is_counted_no_more() -> None:
    """As when the topic is read from its start: first come all letters, then the marks."""
    letters = [letter(str(n), ts_ms=n) for n in range(5)]
    found = folded(*letters, *map(marked, letters), most=3)
    assert (found.matching(), found.older) == ([], 0)
    found = folded(letters[0], letters[1], marked(letters[0]), marked(letters[0]), letters[2], most=1)
    assert ([one.letter.rejected_id for one in found.matching()], found.older) == (["2"], 1)


def test_once_newer_ones_are_sent_the_older_are_found_again() -> None:
    topic = [letter(str(n), ts_ms=n) for n in range(9)]
    found, seen = OpenLetters(most=4), []
    while not seen or found.has_room():
        found = folded(*topic, again=found)
        newest = [one.letter for one in found.matching()]
        seen += [one.rejected_id for one in newest]
        topic += map(marked, newest)
        for offset, one in enumerate(topic):
            found.take(one, (0, offset))
    assert (seen, found.older) == ([*"876543210"], 0)


def marked(one: RejectedLog) -> RejectedLog:
    return mark(one.rejected_id, attempts=one.attempts)
