"""Times as sources write them -> milliseconds since the epoch."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tunemill.streams.errors import Undecodable

_LATEST_S = 2**53  # beyond it a float has no whole seconds; the bounds of a log's time are checked later


def read_iso_ms(value: Mapping[str, Any], name: str, where: str = "") -> float | None:
    """The time in a field of ISO 8601 text; without an offset it is UTC.

    Args:
        where: what the object is called in the record, for the reason of a rejection.

    Raises:
        Undecodable: it is something else.
    """
    found = value.get(name)
    if found is None:
        return None
    place = f"{where}.{name}" if where else name
    if not isinstance(found, str):
        raise Undecodable("bad_time", f"{place} is not a time in ISO 8601")
    try:
        moment = datetime.fromisoformat(found)
    except ValueError as error:
        raise Undecodable("bad_time", f"{place} is not a time in ISO 8601") from error
    told_ms = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    if told_ms < 0:
        raise Undecodable("bad_time", f"{place} is before 1970")
    return told_ms


def read_epoch_ms(value: Mapping[str, Any], name: str) -> float | None:
    """The time in a field of seconds since the epoch.

    Raises:
        Undecodable: it is something else.
    """
    found = value.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < _LATEST_S:
        raise Undecodable("bad_time", f"{name} is not a number of seconds since the epoch")
    return found * 1000
