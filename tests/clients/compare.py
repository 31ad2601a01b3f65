"""A log beside what its case expects, field by field, and the differences that are known."""

import json
from typing import Any

import msgspec

from clients.case import Case, response_id
from clients.gaps import GAPS
from tunemill.schemas.records import LogRecord, Message, Usage


def differences(case: Case, log: LogRecord, *, model: str) -> dict[str, tuple[Any, Any]]:
    """What was expected and what is there, by field of the log.

    `arguments` are the tools' arguments as the model spelt them; `parts` are those of the
    messages, and `tool_call_ids` those of calls and results.
    """
    expected = _fields(case.expected)
    expected["model"] = model
    expected["response_id"] = response_id(model) if case.status < 400 else None
    found = _fields(log)
    found["params"] = {name: (log.params or {}).get(name) for name in case.expected.params}
    return {name: (expected[name], found[name]) for name in expected if expected[name] != found[name]}


def caller_differences(log: LogRecord, *, model: str) -> dict[str, tuple[Any, Any]]:
    """Where what a driver said beside the call (`calls.noted`) is not in the log; the log may hold more tags and metadata."""
    expected = {
        "user_id": f"user of {model}",
        "session_id": f"session of {model}",
        "tags": {"team:shop", "beta"},
        "metadata": {"tier": "gold"},
    }
    found = {
        "user_id": log.user_id,
        "session_id": log.session_id,
        "tags": set(log.tags) & {"team:shop", "beta"},
        "metadata": {name: value for name, value in log.metadata.items() if name == "tier"},
    }
    return {name: (expected[name], found[name]) for name in expected if expected[name] != found[name]}


def known(client: str, case: Case) -> set[str]:
    """The fields in which this client's log of this case is known to differ."""
    return {field for one, other, field in GAPS if (one, other) == (client, case.name)}


def as_log(value: dict[str, Any]) -> LogRecord:
    """The log in an answer of `GET /v1/logs/{log_id}`."""
    given = {name: found for name, found in value.items() if found is not None}
    given["messages"] = tuple(_message(message) for message in value["messages"])
    given["output"] = tuple(_message(message) for message in value["output"])
    given["usage"] = msgspec.convert(value["usage"], Usage)
    given["tags"] = tuple(value["tags"])
    return LogRecord(**{name: given[name] for name in LogRecord.__struct_fields__ if name in given})


def _message(value: dict[str, Any]) -> Message:
    return msgspec.convert({name: found for name, found in value.items() if found is not None}, Message)


def _fields(log: LogRecord) -> dict[str, Any]:
    calls = [call for message in (*log.messages, *log.output) for call in message.tool_calls]
    return {
        "messages": [_said(message) for message in log.messages],
        "output": [_said(message) for message in log.output],
        "parts": [message.parts for message in log.messages],
        "tool_call_ids": [*(call.id for call in calls), *(message.tool_call_id for message in log.messages)],
        "arguments": [call.arguments for call in calls],
        "model": log.model,
        "tools": log.tools,
        "params": log.params,
        "usage": log.usage,
        "finish_reason": log.finish_reason,
        "status": log.status,
        "error": log.error is not None if log.status == "error" else log.error,
        "response_id": log.response_id,
    }


def _said(message: Message) -> dict[str, Any]:
    """A message without what is compared by itself, and with its arguments as values: most wires carry no spelling of them."""
    said: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(message, parts=None, tool_call_id=None))
    for call in said.get("tool_calls", ()):
        call["arguments"] = json.loads(call["arguments"])
        call.pop("id", None)
    return said
