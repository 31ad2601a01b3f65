"""What is said of a record that is sent again goes into its message's headers and comes back, and nothing else is believed."""

import pytest

from tunemill.schemas.redrive import Rejection, first_seen_ms, headers_of, next_rejection, place_of, rejection_in

PLACE = ("llm.logs", 2, 40, 3)


def test_the_first_rejection_is_named_by_its_place() -> None:
    assert next_rejection({}, *PLACE) == Rejection("llm.logs:2:40:3", attempts=1, first_ts_ms=None)
    assert place_of("llm.logs:2:40:3") == 3


def test_a_record_that_is_sent_again_stays_the_same_dead_letter() -> None:
    headers = headers_of("llm.logs:2:40:3", 1, 1_700_000_000_000)
    assert rejection_in(headers) == Rejection("llm.logs:2:40:3", 1, 1_700_000_000_000)
    second = next_rejection(headers, "llm.logs", 0, 99, 0)
    assert second == Rejection("llm.logs:2:40:3", attempts=2, first_ts_ms=1_700_000_000_000)
    third = next_rejection(
        headers_of(second.rejected_id, second.attempts, second.first_ts_ms or 0), "llm.logs", 1, 5, 0
    )
    assert (third.rejected_id, third.attempts, third.first_ts_ms) == ("llm.logs:2:40:3", 3, 1_700_000_000_000)


def test_the_headers_tell_of_the_first_record_alone() -> None:
    headers = headers_of("llm.logs:2:40:3", 1, 5)
    assert next_rejection(headers, "llm.logs", 0, 99, 1) == Rejection("llm.logs:0:99:1")


def test_records_that_are_sent_again_came_when_they_were_rejected_first() -> None:
    assert first_seen_ms(headers_of("llm.logs:2:40:3", 2, 5), 1_700_000_000_000) == 5
    assert (
        first_seen_ms({"else": "where"}, 1_700_000_000_000) == first_seen_ms({}, 1_700_000_000_000) == 1_700_000_000_000
    )


@pytest.mark.parametrize(
    "name_and_value",
    [
        ("tunemill-rejected-id", ""),
        ("tunemill-rejected-id", "llm.logs:2:40"),
        ("tunemill-rejected-id", "llm logs:2:40:3"),
        ("tunemill-rejected-id", "llm.logs:2:40:3\n"),
        ("tunemill-attempts", "-1"),
        ("tunemill-attempts", "many"),
        ("tunemill-attempts", "9" * 5000),
        ("tunemill-attempts", "2147483647"),
        ("tunemill-first-ts-ms", "999999999999999"),
        ("tunemill-first-ts-ms", "٣"),
    ],
)
def test_headers_that_are_not_of_our_making_are_not_believed(name_and_value: tuple[str, str]) -> None:
    headers = headers_of("llm.logs:2:40:3", 1, 5) | dict([name_and_value])
    assert rejection_in(headers) is None
    assert next_rejection(headers, *PLACE) == Rejection("llm.logs:2:40:3")
