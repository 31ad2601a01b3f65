"""Dates as people write them in a search, in UTC.

`2026`, `2026-01`, `2026-01-31`, `2026-01-31T10:00`, milliseconds since the epoch, `now`, `now-7d`.
"""

import re
from calendar import isleap, monthrange
from datetime import UTC, datetime, timedelta

_ISO = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})"
    r"(?:[Tt](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>[Zz]|[+-]\d{2}:\d{2})?)?)?)?"
)
_MILLISECONDS = re.compile(r"\d{9,15}")
_RELATIVE = re.compile(r"now(?:-(\d{1,6})([smhdw]))?", re.ASCII)
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
LATEST_MS = 253_402_300_799_999  # the end of the year 9999
_OF_A_SECOND = (100 * _MILLISECOND, 10 * _MILLISECOND, _MILLISECOND)  # by the digits of a fraction
_LENGTHS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "day": timedelta(days=1),
}


def span_ms(text: str) -> tuple[int, int] | None:
    """The first and the last millisecond of what a date names: `2026-01-31` is a whole day. None: not a date."""
    if not text.isascii():
        return None
    if _MILLISECONDS.fullmatch(text):
        return (int(text), int(text)) if int(text) <= LATEST_MS else None
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    try:
        start = _start(match)
        start_ms = (start - _EPOCH) // _MILLISECOND
        return start_ms, start_ms + _length(match, start) // _MILLISECOND - 1
    except (ValueError, OverflowError):  # 2026-02-30, or past the calendar's end
        return None


def relative_ms(text: str, *, now_ms: int) -> int | None:
    """The moment that `now` or `now-7d` names, none before the epoch. None: not such a name."""
    match = _RELATIVE.fullmatch(text)
    if match is None:
        return None
    ago_ms = int(match[1]) * _UNITS_MS[match[2]] if match[1] else 0
    return max(now_ms - ago_ms, 0)


def iso(ts_ms: int) -> str:
    """One millisecond, written so that `span_ms` gives it back. Years 1 to 9999."""
    moment = _EPOCH + timedelta(milliseconds=ts_ms)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _start(match: re.Match[str]) -> datetime:
    given = {name: int(match[name]) for name in ("month", "day", "hour", "minute", "second") if match[name]}
    return datetime(
        int(match["year"]),
        given.get("month", 1),
        given.get("day", 1),
        given.get("hour", 0),
        given.get("minute", 0),
        given.get("second", 0),
        int((match["fraction"] or "")[:3].ljust(3, "0")) * 1000,
        tzinfo=UTC,
    ) - _offset(match["zone"])


def _length(match: re.Match[str], start: datetime) -> timedelta:
    """How long that is which the date names: its smallest part."""
    if match["fraction"]:
        return _OF_A_SECOND[min(len(match["fraction"]), len(_OF_A_SECOND)) - 1]
    for unit, length in _LENGTHS.items():
        if match[unit]:
            return length
    days_of_month = monthrange(start.year, start.month)[1]
    return timedelta(days=days_of_month if match["month"] else 365 + isleap(start.year))


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone in "Zz":
        return timedelta(0)
    size = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return size if zone[0] == "+" else -size
