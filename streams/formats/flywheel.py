"""`{timestamp, workload_id, client_id, request, response}`: an OpenAI pair with the time of the call in seconds since the epoch."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.records import LogRecord
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.fields import read_text
from tunemill.streams.formats.openai_pair import read_pair
from tunemill.streams.formats.shape import Arrival, JsonObject, Shape, read_envelope

_FIELDS = frozenset(("timestamp", "workload_id", "client_id"))
_LATEST_S = 2**53  # beyond it a float has no whole seconds; the bounds of a log's time are checked later


def _matches(value: Mapping[str, Any]) -> bool:
    return "request" in value and "workload_id" in value


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    given = read_envelope(value)
    envelope = msgspec.structs.replace(
        given,
        ts_ms=_milliseconds(value.get("timestamp")) if given.ts_ms is None else given.ts_ms,
        app=given.app or read_text(value, "workload_id"),
        user_id=given.user_id or read_text(value, "client_id"),
    )
    beside = {name: item for name, item in value.items() if name not in _FIELDS}
    return read_pair(value, envelope, arrival, source="flywheel", beside=beside)


def _milliseconds(timestamp: Any) -> int | None:
    if timestamp is None:
        return None
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float) or not abs(timestamp) < _LATEST_S:
        raise Undecodable("bad_time", "timestamp is not a number of seconds since the epoch")
    return round(timestamp * 1000)


SHAPE = Shape("flywheel", _matches, _read, "An OpenAI pair with timestamp, workload_id and client_id")
