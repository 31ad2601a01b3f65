"""What OTLP is taken apart into: each span and each log record as one plain object that JSON can hold.

An item is `{"resource", "scope", "span"}` or `{"resource", "scope", "log_record"}`. Ids are lower-case hexadecimal, times
nanoseconds since the epoch, and an AnyValue is Python's own value, bytes as base64 text.
"""

import re
from typing import Any, Literal, NamedTuple

MAX_DEPTH = 64  # of a value; what lies deeper is left out, and the item is then too deep for whoever reads it
MAX_CUT_RECORDS = 1000  # in one message, so that no message takes its reader long
SPAN_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_UNSAFE = re.compile(
    "__proto__|constructor|prototype"
).search  # a page that met such a key might change its own objects

Item = dict[str, Any]
Signal = Literal["traces", "logs"]


class OtlpError(Exception):
    """These bytes are no OTLP request with traces or logs. `code` comes from a bounded list: not_otlp, too_deep, too_many."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class TooLarge(NamedTuple):
    """A span or log record that no message can hold."""

    place: int  # among all of the request, from 0
    reason: str


class Cut(NamedTuple):
    """A request as messages for the bus."""

    messages: list[bytes]  # each is OTLP again
    records: int  # spans or log records in the request, those too large among them
    too_large: list[TooLarge]


def is_safe(key: str) -> bool:
    """Whether an attribute may keep this name; others are left out."""
    return _UNSAFE(key) is None


def span_kind(number: int) -> str:
    """The name of a span's kind."""
    return SPAN_KINDS[number] if 0 <= number < len(SPAN_KINDS) else SPAN_KINDS[0]


def too_many(most: int) -> OtlpError:
    """The error of a request with more records than that."""
    return OtlpError("too_many", f"the request holds more than {most} spans or log records")


def too_large(place: int, size: int, max_bytes: int) -> TooLarge:
    """The verdict on a record of this size."""
    return TooLarge(place, f"with its resource it takes up to {size} bytes; at most {max_bytes} are taken")
