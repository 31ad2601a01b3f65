"""What a record that is sent again says in its message's headers: which dead letter it was, so that it stays that one. Pure."""

import re
from collections.abc import Mapping

import msgspec

_ID, _ATTEMPTS, _FIRST = "tunemill-rejected-id", "tunemill-attempts", "tunemill-first-ts-ms"
_REJECTED_ID = re.compile(r"[\w.-]{1,249}:\d{1,10}:\d{1,19}:\d{1,10}", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)  # one more still is an int of Avro's
_TIME_MS = re.compile(r"\d{1,14}", re.ASCII)  # dates can be written of all of them


class Rejection(msgspec.Struct, frozen=True):
    """Which dead letter a record is, how often it was rejected, and when for the first time; None: it is the first time."""

    rejected_id: str
    attempts: int = 1
    first_ts_ms: int | None = None


def next_rejection(headers: Mapping[str, str], topic: str, partition: int, offset: int, place: int) -> Rejection:
    """What the dead letter of a record in a message says: the same id each time that it comes, replayed or sent again.

    Args:
        headers: the message's; of one that is sent again they tell of its first record.
        place: the record's position in the message.
    """
    before = rejection_in(headers) if headers and place == 0 else None
    if before is None:
        return Rejection(f"{topic}:{partition}:{offset}:{place}")
    return Rejection(before.rejected_id, before.attempts + 1, before.first_ts_ms)


def rejection_in(headers: Mapping[str, str]) -> Rejection | None:
    """The dead letter that a message's record was; None if it is not sent again, or its headers are not of our making."""
    rejected_id, attempts, first = (headers.get(name, "") for name in (_ID, _ATTEMPTS, _FIRST))
    if not (_REJECTED_ID.fullmatch(rejected_id) and _COUNT.fullmatch(attempts) and _TIME_MS.fullmatch(first)):
        return None
    return Rejection(rejected_id, int(attempts), int(first))


def first_seen_ms(headers: Mapping[str, str], ts_ms: int) -> int:
    """When a message's records came: when it was published, or, if they are sent again, when they were rejected first."""
    before = rejection_in(headers) if headers else None
    return ts_ms if before is None or before.first_ts_ms is None else before.first_ts_ms


def headers_of(rejected_id: str, attempts: int, first_ts_ms: int) -> dict[str, str]:
    """The headers of a message that sends the record of this dead letter again."""
    return {_ID: rejected_id, _ATTEMPTS: str(attempts), _FIRST: str(first_ts_ms)}


def place_of(rejected_id: str) -> int:
    """The record's position in the message in which it was rejected for the first time."""
    return int(rejected_id.rpartition(":")[2])
