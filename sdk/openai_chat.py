"""A request to OpenAI's chat completions and its answer -> the fields of a log.

The shapes: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Mapping
from typing import Any

_MAPPED = frozenset({"messages", "model", "tools", "metadata", "user"})
_ANSWER_MAPPED = frozenset({"id", "model", "choices", "usage", "object", "created"})


def from_request(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of what was asked."""
    return {
        "messages": asked.get("messages"),
        "model": asked.get("model"),
        "tools": asked.get("tools"),
        "params": {name: value for name, value in asked.items() if name not in _MAPPED} or None,
        "metadata": asked.get("metadata"),
        "user_id": asked.get("user"),
    }


def from_response(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the answer; without those that it says nothing about."""
    choices = answer.get("choices") or []
    found = {
        "output": [choice["message"] for choice in choices],
        "model": answer.get("model"),
        "usage": answer.get("usage"),
        "finish_reason": choices[0].get("finish_reason") if choices else None,
        "response_id": answer.get("id"),
        "extra": _extra(answer),
    }
    return {name: value for name, value in found.items() if value is not None}


def _extra(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the answer says beyond the fields: fingerprint, service tier, the details of usage, log probabilities."""
    rest = {name: value for name, value in answer.items() if name not in _ANSWER_MAPPED and value is not None}
    details = {name: value for name, value in (answer.get("usage") or {}).items() if isinstance(value, dict)}
    logprobs = [choice.get("logprobs") for choice in answer.get("choices") or []]
    if details:
        rest["usage"] = details
    if any(logprobs):
        rest["logprobs"] = logprobs
    return rest or None
