"""Our own shape: a `LogRecord` as JSON. Messages may also be in OpenAI's spelling; fields that we don't know go to `extra`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tunemill.schemas.records import LogRecord, Message, Usage
from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.chat import read_messages
from tunemill.streams.formats.shape import Arrival, JsonObject, Shape, as_extra, left_over, read_metadata

_FIELDS = frozenset(LogRecord.__struct_fields__)
_USAGE_FIELDS = frozenset(Usage.__struct_fields__)


class WrittenLog(msgspec.Struct, frozen=True, gc=False):
    """A log whose JSON is spelled exactly as we spell it: nothing else can be inside."""

    log: LogRecord
    payload: bytes
    json: bytes  # the same with the keys of objects in order, from which its digest is made


_BEGINNING = b'{"log_id":"'
_decode = msgspec.json.Decoder(LogRecord).decode
_encode = msgspec.json.Encoder().encode
_encode_in_order = msgspec.json.Encoder(order="deterministic").encode


def read_as_written(payload: bytes) -> WrittenLog | None:
    """The log in JSON that is spelled exactly as we spell it; None for any other, which `SHAPE` may still read.

    What is the same when it is written again held nothing that the log does not hold. Several times faster than by way of objects.
    """
    if not payload.startswith(_BEGINNING):
        return None
    try:
        log = _decode(payload)
        json = _encode_in_order(log)
        if json != payload and _encode(log) != payload:
            return None
    except (msgspec.DecodeError, ValueError, RecursionError):  # ValueError: bad UTF-8, numbers of thousands of digits
        return None
    if not log.log_id or not all(map(_is_normal, (*log.messages, *log.output))):
        return None
    return WrittenLog(log, payload, json)


def _is_normal(message: Message) -> bool:
    """Whether the message has nothing that `read_message` would change or refuse."""
    if not message.role or message.role == "function" or message.refusal == "" or message.reasoning == "":
        return False
    return not message.tool_calls or all(call.name for call in message.tool_calls)


def _matches(value: Mapping[str, Any]) -> bool:
    return "messages" in value and "request" not in value


def _read(value: JsonObject, arrival: Arrival) -> LogRecord:
    messages, message_rests = read_messages(value["messages"], "messages")
    output, output_rests = read_messages(value.get("output") or [], "output")
    # null means: not given
    fields = {name: item for name, item in value.items() if name in _FIELDS and item is not None}
    fields |= {
        "log_id": value.get("log_id") or arrival.log_id,
        "ts_ms": arrival.ts_ms if value.get("ts_ms") is None else value["ts_ms"],
        "messages": [],
        "output": [],
        "metadata": read_metadata(value.get("metadata")),
    }
    try:
        record = msgspec.convert(fields, LogRecord)
    except msgspec.ValidationError as error:
        raise Undecodable("invalid", str(error)) from error
    usage = left_over(value["usage"], _USAGE_FIELDS) if isinstance(value.get("usage"), dict) else {}
    rests = {"record": left_over(value, _FIELDS), "messages": message_rests, "output": output_rests, "usage": usage}
    extra = _merge(value.get("extra"), rests)
    return msgspec.structs.replace(record, messages=messages, output=output, extra=extra)


def _merge(given: Any, rests: Mapping[str, Any]) -> Any:
    """The record's own `extra` with what was left over added under names of its own."""
    added = as_extra(rests)
    if added is None or given is None:
        return given if added is None else added
    return {"extra": given, **added}


SHAPE = Shape("tunemill_record", _matches, _read, "tunemill's own record, as JSON or Avro")
