"""`{timestamp, workload_id, client_id, request, response}`: an OpenAI pair with the time of the call in seconds since the epoch."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.records import LogRecord
from tunemill.streams.formats.fields import read_text
from tunemill.streams.formats.openai_pair import read_pair
from tunemill.streams.formats.shape import Arrival, JsonObject, Shape, read_envelope
from tunemill.streams.formats.times import read_epoch_ms

_FIELDS = frozenset(("timestamp", "workload_id", "client_id"))


def _matches(value: Mapping[str, Any]) -> bool:
    return "request" in value and "workload_id" in value


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    given = read_envelope(value)
    told_ms = read_epoch_ms(value, "timestamp")
    envelope = msgspec.structs.replace(
        given,
        ts_ms=round(told_ms) if given.ts_ms is None and told_ms is not None else given.ts_ms,
        app=given.app or read_text(value, "workload_id"),
        user_id=given.user_id or read_text(value, "client_id"),
    )
    beside = {name: item for name, item in value.items() if name not in _FIELDS}
    return read_pair(value, envelope, arrival, source="flywheel", beside=beside)


SHAPE = Shape("flywheel", _matches, _read, "An OpenAI pair with timestamp, workload_id and client_id")
