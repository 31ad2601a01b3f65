"""What every span and log record of OpenTelemetry says, whatever its dialect, and what is kept of the rest."""

import re
from collections.abc import Collection

from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.shape import JsonObject
from tunemill.streams.formats.span import Attributes

_TRACE_ID = re.compile("(?!0*$)[0-9a-f]{32}")
_SPAN_ID = re.compile("(?!0*$)[0-9a-f]{16}")
_MAX_NS = 2**64 - 1
_UNNAMED = "unknown_service"  # what SDKs call an application that has no name
# Who called is the application's own user id; what else would lead to a person, or to a person's machine, is not kept.
_PERSONAL = frozenset(
    (
        *("user.email", "user.full_name", "user.name", "client.address", "http.client_ip", "net.peer.ip"),
        *("network.peer.address", "user_agent.original", "http.user_agent", "exception.stacktrace"),
        *("process.owner", "process.command_args", "process.command_line"),
    )
)


def checked_ids(trace_id: str, span_id: str, where: str) -> tuple[str, str]:
    """Both ids, as they are.

    Args:
        where: `span` or `log_record`, for the reason of a rejection.

    Raises:
        Undecodable: one is no id.
    """
    if not _TRACE_ID.fullmatch(trace_id):
        raise Undecodable("invalid", f"{where}.trace_id is not 32 lower-case hexadecimal digits, or only zeros")
    if not _SPAN_ID.fullmatch(span_id):
        raise Undecodable("invalid", f"{where}.span_id is not 16 lower-case hexadecimal digits, or only zeros")
    return trace_id, span_id


def milliseconds(time_ns: int) -> int:
    """The time in milliseconds.

    Raises:
        Undecodable: it is not within the range of OTLP's times.
    """
    if not 0 <= time_ns <= _MAX_NS:
        raise Undecodable("bad_time", "a time is not a number of nanoseconds since the epoch")
    return time_ns // 1_000_000


def app_of(resource: Attributes) -> str | None:
    """The name of the application that made the span."""
    name = resource.get("service.name")
    return name if isinstance(name, str) and name and not name.startswith(_UNNAMED) else None


def kept_resource(resource: Attributes) -> JsonObject:
    """What the resource says beside the application's name."""
    left = {name: value for name, value in resource.items() if not name.startswith("telemetry.sdk.")}
    return kept(left, ("service.name",))


def kept(attributes: Attributes, used: Collection[str] = frozenset()) -> JsonObject:
    """The attributes that no field holds.

    Args:
        used: the names of those that one does.
    """
    return {
        name: value
        for name, value in attributes.items()
        if name not in used and name not in _PERSONAL and value not in (None, "", [], {})
    }
