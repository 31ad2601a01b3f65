"""A request and its response, each read for itself, made into one log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunemill.schemas.records import LogRecord
from tunemill.streams.formats.ending import error_name
from tunemill.streams.formats.shape import (
    ENVELOPE_FIELDS,
    Arrival,
    Envelope,
    JsonObject,
    as_extra,
    as_fields,
    left_over,
    read_metadata,
)

PAIR_FIELDS = ENVELOPE_FIELDS | {"request", "response", "metadata", "error"}
NO_ANSWER = "no_answer"  # the error of a call of which nothing came back, and nothing was said why


@dataclass(frozen=True, slots=True)
class Half:
    """What a request or a response says."""

    fields: JsonObject  # of `LogRecord`; None where it says nothing
    rests: JsonObject = field(default_factory=dict)  # what no field holds, by the part that it was left over of
    error: Any = None  # all that a response says about a failure


def join(
    asked: Half, answered: Half, *, envelope: Envelope, arrival: Arrival, source: str, beside: Mapping[str, Any]
) -> LogRecord:
    """The log of a request and its response. A call without any answer has failed, too.

    Args:
        beside: the record's own fields that the envelope does not hold: `metadata` and `error`; others go to `extra`.

    Raises:
        Undecodable: the metadata is no object.
    """
    said = _said(asked) | _said(answered)
    said |= as_fields(envelope, arrival)
    said.setdefault("messages", ())
    error = beside.get("error") or answered.error
    name = error_name(error) if error else None if said.get("output") else NO_ANSWER
    asked_model = asked.fields.get("model")
    said["metadata"] = said.get("metadata", {}) | read_metadata(beside.get("metadata"))
    return LogRecord(
        **said,
        source=source,
        status="error" if name else "ok",
        error=name,
        extra=as_extra(
            {
                **asked.rests,
                **answered.rests,
                "record": left_over(beside, PAIR_FIELDS),
                "request": {
                    **asked.rests.get("request", {}),
                    **({"model": asked_model} if asked_model not in (None, said.get("model")) else {}),
                },
                "error": error,
            }
        ),
    )


def _said(half: Half) -> JsonObject:
    return {name: item for name, item in half.fields.items() if item is not None}
