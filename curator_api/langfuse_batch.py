"""A request to Langfuse's ingestion API, cut into events and packed into messages for the bus. Pure."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from tunemill.bus.port import Outgoing
from tunemill.curator_api.errors import BadRequest
from tunemill.curator_api.intake import Examine, giant, packed, refuse_deep, refuse_many
from tunemill.schemas.ids import new_id

_READ_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)  # ValueError: bad UTF-8, numbers of many digits


class _Body(msgspec.Struct):
    """What events are ordered by: the trace that they are of."""

    id: Any = None
    trace_id: Any = msgspec.field(name="traceId", default=None)


class _Event(msgspec.Struct):
    """What every event has; what else it has to have depends on its type, and the stream knows."""

    id: str
    type: str
    timestamp: str
    body: _Body


class _Named(msgspec.Struct):
    id: str = ""


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]


class Refusal(NamedTuple):
    """Why an event will not become a log, or a part of one."""

    status: int
    code: str
    reason: str


class Examined(NamedTuple):
    """One event of a batch."""

    id: str  # empty when it has none
    item: bytes
    key: str | None  # its trace: what is said about one trace keeps its order
    refusal: Refusal | None
    is_event: bool  # also one that cannot be read is handed on, as a dead letter to be; anything else is not


def cut(body: bytes) -> Sequence[bytes]:
    """The items of a batch, as they came.

    Raises:
        BadRequest: the body is no batch.
        TooLarge: it has too many events.
        TooDeep: arrays and objects lie too deep inside one another.
    """
    refuse_deep(body)
    try:
        events = msgspec.json.decode(body, type=_Batch).batch
    except _READ_ERRORS as error:
        raise BadRequest('the body is no batch: send {"batch": [...]} with Langfuse\'s events') from error
    refuse_many(len(events))
    return [bytes(event) for event in events]


def scores_as_events(body: bytes, *, now: str) -> tuple[Sequence[bytes], bool]:
    """A score or a list of them, as events of a batch, and whether it was a list.

    Args:
        now: the time in ISO 8601, for a score that names none.

    Raises:
        BadRequest: the body is neither.
        TooLarge: it has too many scores.
        TooDeep: arrays and objects lie too deep inside one another.
    """
    refuse_deep(body)
    try:
        found = msgspec.json.decode(body, type=dict[str, Any] | list[dict[str, Any]])
    except _READ_ERRORS as error:
        raise BadRequest("the body is no score: send a JSON object, or an array of objects") from error
    scores = found if isinstance(found, list) else [found]
    refuse_many(len(scores))
    return [_as_event(score, now) for score in scores], isinstance(found, list)


def _as_event(score: dict[str, Any], now: str) -> bytes:
    event_id = score.get("id") or new_id()
    body = {**score, "id": event_id}
    return msgspec.json.encode({"id": event_id, "type": "score-create", "timestamp": now, "body": body})


def examined(items: Sequence[bytes], examine: Examine) -> Sequence[Examined]:
    """What is known about each event before it is handed on.

    Args:
        examine: the stream's decoding: code and reason if it will reject an item.
    """
    return [_examined(item, examine) for item in items]


def _examined(item: bytes, examine: Examine) -> Examined:
    if (too_large := giant(item)) is not None:
        return _no_event(item, Refusal(413, *too_large))
    try:
        event = msgspec.json.decode(item, type=_Event)
    except msgspec.ValidationError as error:  # its message names the place and the type, never the value
        return _no_event(item, Refusal(400, "invalid", str(error)))
    except _READ_ERRORS:
        return _no_event(item, Refusal(400, "not_json", "the event cannot be read as JSON"))
    key = event.body.id if event.type == "trace-create" else event.body.trace_id
    verdict = examine(item)
    return Examined(
        id=event.id,
        item=item,
        key=key if isinstance(key, str) and key else None,
        refusal=Refusal(400, *verdict) if verdict else None,
        is_event=True,
    )


def _no_event(item: bytes, refusal: Refusal) -> Examined:
    return Examined(_id_of(item), item, None, refusal, is_event=False)


def _id_of(item: bytes) -> str:
    try:
        return msgspec.json.decode(item, type=_Named).id
    except _READ_ERRORS:
        return ""


def messages(events: Sequence[Examined]) -> Sequence[Outgoing]:
    """The events as messages, those of one trace together."""
    by_trace: dict[str | None, list[bytes]] = {}
    for event in events:
        if event.is_event:
            by_trace.setdefault(event.key, []).append(event.item)
    return [message for key, items in by_trace.items() for message in packed(items, partial(_same, key))]


def _same(key: str | None, _item: bytes) -> str | None:
    return key
