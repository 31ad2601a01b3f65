"""`{timestamp, workload_id, client_id, request, response}`: an OpenAI pair with the time of the call in seconds since the epoch."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.records import LogRecord
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.openai_pair import PAIR_FIELDS, read_pair
from tunemill.streams.formats.shape import Arrival, JsonObject, Shape, read_envelope

_FIELDS = PAIR_FIELDS | {"timestamp", "workload_id", "client_id"}
_LATEST_S = 2**53  # beyond it a float has no whole seconds; the bounds of a log's time are checked later


def _matches(value: Mapping[str, Any]) -> bool:
    return "request" in value and "workload_id" in value


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    given = read_envelope(value)
    envelope = msgspec.structs.replace(
        given,
        ts_ms=_milliseconds(value.get("timestamp")) if given.ts_ms is None else given.ts_ms,
        app=given.app or _name(value, "workload_id"),
        user_id=given.user_id or _name(value, "client_id"),
    )
    return read_pair(value, envelope, arrival, source="flywheel", used=_FIELDS)


def _milliseconds(timestamp: Any) -> int | None:
    if timestamp is None:
        return None
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float) or not abs(timestamp) < _LATEST_S:
        raise Undecodable("bad_time", "timestamp is not a number of seconds since the epoch")
    return round(timestamp * 1000)


def _name(value: JsonObject, field: str) -> str | None:
    found = value.get(field)
    if found is not None and not isinstance(found, str):
        raise Undecodable("invalid", f"{field} is not text")
    return found


SHAPE = Shape("flywheel", _matches, _read)
