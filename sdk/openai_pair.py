"""A request to OpenAI's chat completions and its answer -> the fields of a log.

The shapes: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Mapping
from typing import Any

from tunemill.sdk.plain import plain

# For the client, not the model; headers can hold keys.
_CLIENT_ONLY = frozenset({"extra_headers", "extra_query", "timeout"})
_MAPPED = frozenset({"messages", "model", "tools", "metadata", "user", "extra_body", "stream"})
_ANSWER_MAPPED = frozenset({"id", "model", "choices", "usage", "object", "created"})


def fields(request: Any, response: Any) -> dict[str, Any]:
    """The fields that this pair says something about.

    Args:
        request: what `create` was called with, as a dict.
        response: a ChatCompletion, a dict of that shape, or None when the call failed.
    """
    asked = plain(request)
    asked = {**asked, **(asked.get("extra_body") or {})}
    return {**_from_request(asked), **(_from_response(plain(response)) if response is not None else {})}


def _from_request(asked: Mapping[str, Any]) -> dict[str, Any]:
    params = {key: value for key, value in asked.items() if key not in _MAPPED | _CLIENT_ONLY and value is not None}
    return {
        "messages": asked.get("messages"),
        "model": asked.get("model"),
        "tools": asked.get("tools"),
        "params": params or None,
        "metadata": asked.get("metadata"),
        "user_id": asked.get("user"),
    }


def _from_response(answer: Mapping[str, Any]) -> dict[str, Any]:
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
    rest = {key: value for key, value in answer.items() if key not in _ANSWER_MAPPED and value is not None}
    details = {key: value for key, value in (answer.get("usage") or {}).items() if isinstance(value, dict)}
    logprobs = [choice.get("logprobs") for choice in answer.get("choices") or []]
    if details:
        rest["usage"] = details
    if any(logprobs):
        rest["logprobs"] = logprobs
    return rest or None
