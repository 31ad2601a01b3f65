"""OTLP requests, protobuf or JSON, traces or logs -> items, and into messages for the bus.

Wire: https://opentelemetry.io/docs/specs/otlp/
"""

from collections.abc import Callable, Iterator
from itertools import islice

from tunemill.schemas import otlp_json, otlp_protobuf
from tunemill.schemas.otlp_item import Cut, Item, OtlpError, Signal, too_many

PROTOBUF_BYTE = b"\n"  # a request in protobuf begins with the tag of its only field; JSON may begin so, too


def items(payload: bytes, *, most: int | None = None) -> list[Item]:
    """Each span or log record of one request.

    Args:
        most: items that are taken; they need far more memory than the bytes that they are made from.

    Raises:
        OtlpError: it is no request, holds neither traces nor logs, or too many of them.
    """
    if payload.startswith(PROTOBUF_BYTE):
        try:
            return _listed(otlp_protobuf.items(payload), most)
        except OtlpError as error:
            if error.code == "too_many":
                raise
    return _listed(otlp_json.items(otlp_json.parse(payload)), most)


def with_strings(payload: bytes, change: Callable[[str], str]) -> bytes:
    """A request in protobuf with each of its strings changed.

    Raises:
        OtlpError: it is no request, or holds neither traces nor logs.
    """
    return otlp_protobuf.with_strings(payload, change)


def _listed(found: Iterator[Item], most: int | None) -> list[Item]:
    taken = list(islice(found, None if most is None else most + 1))
    if most is not None and len(taken) > most:
        raise too_many(most)
    return taken


def cut(body: bytes, *, is_json: bool, signal: Signal, max_bytes: int, most: int | None = None) -> Cut:
    """A request's body as messages of at most `max_bytes`.

    Args:
        most: spans or log records that are taken.

    Raises:
        OtlpError: it is not a request of this signal, or holds too many records.
    """
    read = otlp_json.cut if is_json else otlp_protobuf.cut
    return read(body, signal, max_bytes, most)
