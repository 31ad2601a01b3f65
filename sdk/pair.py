"""A request to a model and its answer -> the fields of a log, by the API that they speak."""

from collections.abc import Mapping
from typing import Any

from tunemill.sdk import openai_chat, openai_responses

# For the client, not the model; headers can hold keys.
_CLIENT_ONLY = frozenset({"extra_headers", "extra_query", "timeout", "stream"})


def fields_of_pair(request: Mapping[str, Any], response: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that this pair says something about, as `tunemill.sdk.record.record` takes them.

    Args:
        request: what was asked, as plain data; of OpenAI's chat completions, or of its Responses API.
        response: the answer as plain data; None when the call failed.
    """
    asked = {**request, **(request.get("extra_body") or {})}
    asked = {
        name: value
        for name, value in asked.items()
        if name not in _CLIENT_ONLY and name != "extra_body" and value is not None
    }
    api = openai_responses if _is_of_responses(asked, response) else openai_chat
    found: dict[str, Any] = api.from_request(asked) | (api.from_response(response) if response is not None else {})
    return found


def _is_of_responses(asked: Mapping[str, Any], response: Mapping[str, Any] | None) -> bool:
    return "messages" not in asked and ("input" in asked or (response or {}).get("object") == "response")
