"""One log on its way: a Draft as it was handed in, an Entry once it is a line of JSON that can be sent.

The application's thread makes the draft, in a few microseconds; the sending thread makes the entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tunemill.schemas.ids import PROJECT
from tunemill.schemas.records import LogRecord
from tunemill.sdk.context import Context, in_context
from tunemill.sdk.pair import fields_of_pair
from tunemill.sdk.plain import snapshot
from tunemill.sdk.record import record


@dataclass(frozen=True, slots=True)
class Entry:
    """One log, ready to be sent."""

    log_id: str
    session_id: str | None
    line: bytes  # one line of JSON

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.line)


@dataclass(frozen=True, slots=True)
class Draft:
    """One log as it was handed in, encoded at once, so that what the application changes later does not matter."""

    log_id: str
    given: bytes  # the fields of `Producer.log` as one JSON object
    context: Context

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.given)


Waiting = Entry | Draft


@dataclass(frozen=True, slots=True)
class Origin:
    """Where logs that name none come from."""

    app: str | None
    project: str


def draft(log_id: str, fields: Mapping[str, Any], context: Context) -> Draft:
    """What was handed to `Producer.log` by name, as it is now."""
    return Draft(log_id, snapshot(fields), context)


def entry(waiting: Waiting, origin: Origin) -> Entry:
    """The log to send.

    Raises:
        Exception: the draft is no log; of whatever kind, for it may hold anything.
    """
    if isinstance(waiting, Entry):
        return waiting
    fields = msgspec.json.decode(waiting.given)
    request, response = fields.pop("request", None), fields.pop("response", None)
    if request is not None:
        fields = fields_of_pair(request, response) | {
            name: value for name, value in fields.items() if value is not None
        }
    return entry_of_log(record({**fields, "log_id": waiting.log_id}), waiting.context, origin)


def entry_of_log(log: LogRecord, context: Context, origin: Origin) -> Entry:
    """A log that is a record already, with what its context and its origin add."""
    log = in_context(log, context)
    if (log.app is None and origin.app) or (log.project == PROJECT != origin.project):
        project = origin.project if log.project == PROJECT else log.project
        log = msgspec.structs.replace(log, app=log.app or origin.app, project=project)
    return Entry(log.log_id, str(log.session_id) if log.session_id else None, msgspec.json.encode(log))


def _with(told: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the pair tells and what the caller gave; of what can be joined both, else the caller's."""
    fields = told | {name: value for name, value in given.items() if value is not None}
    for name in ("metadata", "extra"):
        if told.get(name) and given.get(name):
            fields[name] = {**told[name], **given[name]}
    return fields
