"""OTLP requests, protobuf or JSON, traces or logs -> items, and into messages for the bus.

Wire: https://opentelemetry.io/docs/specs/otlp/
"""

from tunemill.schemas import otlp_json, otlp_protobuf
from tunemill.schemas.otlp_item import Cut, Item, OtlpError, Signal

_PROTOBUF_BYTE = b"\n"  # the tag of field 1, the list of resources


def is_otlp(payload: bytes) -> bool:
    """Whether `items` can read these bytes."""
    try:
        items(payload)
    except OtlpError:
        return False
    return True


def items(payload: bytes) -> list[Item]:
    """Each span or log record of one request.

    Raises:
        OtlpError: it is none, or holds neither traces nor logs.
    """
    if not payload.startswith(_PROTOBUF_BYTE):
        return otlp_json.items(otlp_json.parse(payload))
    try:
        return otlp_protobuf.items(payload)
    except OtlpError:
        if not payload.lstrip().startswith(b"{"):  # JSON may begin with a newline, which is the same byte
            raise
    return otlp_json.items(otlp_json.parse(payload))


def cut(body: bytes, *, is_json: bool, signal: Signal, max_bytes: int) -> Cut:
    """A request's body as messages of at most `max_bytes`.

    Raises:
        OtlpError: it is not a request of this signal.
    """
    module = otlp_json if is_json else otlp_protobuf
    return module.cut(body, signal, max_bytes)
