"""One log as an application hands it over -> one line of JSON, in a shape that the server reads (docs/formats.md).

It is encoded at once, on the application's thread, in a few microseconds: what the application changes later does not matter.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tunemill.schemas.ids import PROJECT
from tunemill.schemas.records import LogRecord
from tunemill.sdk.context import NO_CONTEXT, Context, in_context, listed, union
from tunemill.sdk.plain import is_unset, snapshot

# Arguments of openai's methods that are for the client, not the model; headers can hold keys.
_CLIENT_ONLY = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})
_TEXTS = ("session_id", "user_id", "trace_id")  # applications number their conversations and users
_OPENAI_USAGE = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One log, ready to be sent."""

    log_id: str
    session_id: str | None
    line: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.line)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where logs that name none come from."""

    app: str | None
    project: str


def entry_of_log(log: LogRecord, context: Context, origin: Origin) -> Entry:
    """A log that is a record already, with what its context and its origin add."""
    log = in_context(log, context)
    if (log.app is None and origin.app) or (log.project == PROJECT != origin.project):
        project = origin.project if log.project == PROJECT else log.project
        log = msgspec.structs.replace(log, app=log.app or origin.app, project=project)
    return _entry(log.log_id, log.session_id, snapshot(log))


def entry_of_fields(log_id: str, fields: Mapping[str, Any], context: Context, origin: Origin) -> Entry:
    """The fields of a LogRecord by name; or a request to a model and its response, with further fields beside them.

    Raises:
        TypeError, ValueError: there are neither messages nor a request, or a field is not of its shape.
    """
    told = {name: value for name, value in fields.items() if value is not None}
    told["log_id"] = log_id
    told.setdefault("ts_ms", int(time.time() * 1000))
    if "request" in told:
        told["request"] = as_sent(told["request"])
        told.setdefault("response", None)
    else:
        _spell(told)
    _add_context(told, context)
    _add_origin(told, origin)
    return _entry(log_id, told.get("session_id"), snapshot(told))


def entry_as_is(log_id: str, session_id: str | None, payload: Mapping[str, Any], origin: Origin) -> Entry:
    """A record of another shape, with nothing but its origin added."""
    told = dict(payload)
    _add_origin(told, origin)
    return _entry(log_id, session_id, snapshot(told))


def _entry(log_id: Any, session_id: Any, line: bytes) -> Entry:
    # A copy, for what msgspec encodes keeps up to half as much room again behind its end.
    return Entry(as_text(log_id), as_text(session_id) if session_id else None, bytes(memoryview(line)))


def as_text(value: Any) -> str:
    """As text that can be encoded, with half a surrogate pair replaced as `snapshot` does."""
    return str(value).encode("utf-8", "replace").decode()


def as_sent(request: Any) -> Any:
    """What openai's client makes of its arguments."""
    if not isinstance(request, Mapping):
        return request
    sent = {name: value for name, value in request.items() if name not in _CLIENT_ONLY and not is_unset(value)}
    body = request.get("extra_body")
    return {**sent, **body} if isinstance(body, Mapping) else sent


def _spell(told: dict[str, Any]) -> None:
    """The short ways to say it in the record's own words."""
    messages, output, usage = told.get("messages"), told.get("output"), told.get("usage")
    if messages is None:
        raise ValueError("a log has messages or a request")
    if isinstance(messages, str):
        told["messages"] = [{"role": "user", "content": messages}]
    if isinstance(output, str):
        told["output"] = [{"role": "assistant", "content": output}]
    elif output is not None and not isinstance(output, list | tuple):
        told["output"] = [output]
    if isinstance(usage, Mapping):
        told["usage"] = {_OPENAI_USAGE.get(name, name): count for name, count in usage.items()}


def _add_origin(told: dict[str, Any], origin: Origin) -> None:
    if origin.app:
        told.setdefault("app", origin.app)
    if origin.project != PROJECT:
        told.setdefault("project", origin.project)


def _add_context(told: dict[str, Any], context: Context) -> None:
    """What the log says itself comes first; tags and metadata are those of both."""
    if "tags" in told:
        told["tags"] = union(context.tags, listed(told["tags"]))
    if context is not NO_CONTEXT:
        for name in ("session_id", "user_id", "consent"):
            value = getattr(context, name)
            if value is not None:
                told.setdefault(name, value)
        if context.tags:
            told.setdefault("tags", context.tags)
        if context.metadata:
            told["metadata"] = {**context.metadata, **told.get("metadata", {})}
    for name in _TEXTS:
        if name in told:
            told[name] = str(told[name])
