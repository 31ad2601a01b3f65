"""A request to OpenAI's Responses API and its answer -> the fields of a log.

An assistant's turn is a run of items there (reasoning, texts, calls of tools) and one message here.
The shapes: https://platform.openai.com/docs/api-reference/responses
"""

from collections.abc import Iterable, Mapping
from typing import Any

_MAPPED = frozenset({
    *("input", "instructions", "model", "tools", "metadata", "user", "previous_response_id", "conversation"),
    "text_format",  # what openai's `parse` makes of the text
})  # fmt: skip
_ANSWER_MAPPED = frozenset({"id", "model", "output", "usage", "object", "created_at", "status", "error", "output_text"})
# What an answer repeats of its request, defaults included.
_REPEATED = frozenset({
    *("background", "conversation", "include", "instructions", "max_output_tokens", "max_tool_calls", "metadata"),
    *("parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention", "reasoning"),
    *("safety_identifier", "store", "stream", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p"),
    *("truncation", "user", "completed_at"),
})  # fmt: skip
_CALLS = frozenset({"function_call", "custom_tool_call"})
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_REASONS = {"max_output_tokens": "length"}  # chat completions' word for the same


def from_request(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of what was asked."""
    messages, rest = _read_items(_items(asked.get("input")))
    instructions = asked.get("instructions")
    if instructions:
        messages.insert(0, {"role": "system", "content": instructions})
    extra = {"previous_response_id": asked.get("previous_response_id"), "input": rest}
    return {
        "messages": messages,
        "model": asked.get("model"),
        "tools": asked.get("tools"),
        "params": {name: value for name, value in asked.items() if name not in _MAPPED} or None,
        "metadata": asked.get("metadata"),
        "user_id": asked.get("user"),
        "session_id": _conversation(asked.get("conversation")),
        "extra": {name: value for name, value in extra.items() if value} or None,
    }


def from_response(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the answer; without those that it says nothing about."""
    turns, rest = _read_items(answer.get("output") or [])
    output = [_without_parts(turn) for turn in turns]
    failure = answer.get("error") if answer.get("status") == "failed" else None
    found = {
        "output": output,
        "model": answer.get("model"),
        "usage": answer.get("usage"),
        "finish_reason": _finish_reason(answer, called=any(turn.get("tool_calls") for turn in output)),
        "response_id": answer.get("id"),
        "status": "error" if answer.get("status") == "failed" else None,
        "error": (failure or {}).get("code"),
        "extra": _extra(answer, rest),
    }
    return {name: value for name, value in found.items() if value is not None}


def _items(given: Any) -> list[Any]:
    """The input's items; a text alone is what the user says."""
    return [{"role": "user", "content": given}] if isinstance(given, str) else list(given or ())


def _read_items(items: Iterable[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Messages as `tunemill.sdk.record.message` takes them; by position, the items that no message can hold."""
    messages: list[dict[str, Any]] = []
    rest: dict[str, Any] = {}
    turn: dict[str, Any] | None = None  # the assistant's, while its run of items lasts
    for position, item in enumerate(items):
        kind = item.get("type") or "message"
        if kind in _RESULTS:
            message = {"role": "tool", "content": _content(item.get("output")), "tool_call_id": item.get("call_id")}
            messages.append(message)
            turn = None
        elif kind == "message" and item.get("role") != "assistant":
            messages.append({"role": item["role"], "content": _content(item.get("content"))})
            turn = None
        elif kind in _CALLS or kind in ("message", "reasoning"):
            if turn is None:
                turn = {"role": "assistant"}
                messages.append(turn)
            _add_to_turn(turn, kind, item)
        else:
            rest[str(position)] = item  # a tool that the provider ran, or a reference to what it keeps
    return messages, rest


def _add_to_turn(turn: dict[str, Any], kind: str, item: Mapping[str, Any]) -> None:
    if kind == "message":
        _add_content(turn, item.get("content"))
    elif kind == "reasoning":
        _append(turn, "reasoning", _texts(item.get("content") or item.get("summary") or ()))
    else:
        call = {
            "id": item.get("call_id"),
            "name": item["name"],
            "arguments": item.get("arguments", item.get("input", "")),
        }
        turn.setdefault("tool_calls", []).append(call)


def _add_content(turn: dict[str, Any], content: Any) -> None:
    """Texts and refusals are joined; the parts stay beside them."""
    if isinstance(content, str):
        _append(turn, "content", content)
        return
    parts = list(content or ())
    turn["parts"] = [*turn.get("parts", ()), *_content(parts)]
    _append(turn, "content", _texts(parts))
    _append(turn, "refusal", "\n".join(part["refusal"] for part in parts if isinstance(part.get("refusal"), str)))


def _conversation(given: Any) -> Any:
    return given.get("id") if isinstance(given, Mapping) else given


def _content(given: Any) -> Any:
    """Content with its parts in the spelling of chat completions; those that have none there stay as they are."""
    return [_part(part) for part in given] if isinstance(given, list) else given


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    kind, rest = part.get("type"), {name: value for name, value in part.items() if name != "type" and value is not None}
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": rest.get("text")}
    if kind == "input_image":
        url = rest.pop("image_url", None)
        return {"type": "image_url", "image_url": {**({"url": url} if url else {}), **rest}}
    if kind == "input_file":
        return {"type": "file", "file": rest}
    return part


def _texts(parts: Iterable[Any]) -> str:
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _append(turn: dict[str, Any], name: str, text: str) -> None:
    if text:
        turn[name] = f"{turn[name]}\n{text}" if turn.get(name) else text


def _without_parts(turn: Mapping[str, Any]) -> dict[str, Any]:
    """An answer's parts are its texts; what they say besides is in `extra`."""
    return {name: value for name, value in turn.items() if name != "parts"}


def _finish_reason(answer: Mapping[str, Any], *, called: bool) -> str | None:
    """In the words of chat completions."""
    if answer.get("status") == "completed":
        return "tool_calls" if called else "stop"
    reason: str | None = (answer.get("incomplete_details") or {}).get("reason")
    return _REASONS.get(reason, reason) if reason else None


def _extra(answer: Mapping[str, Any], items: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the answer says beyond the fields: the provider's own tools, annotations, the details of usage, service tier."""
    rest = {
        name: value
        for name, value in answer.items()
        if name not in _ANSWER_MAPPED | _REPEATED and value not in (None, [], {})
    }
    details = {name: value for name, value in (answer.get("usage") or {}).items() if isinstance(value, dict)}
    annotations = [
        annotation
        for item in answer.get("output") or []
        for part in item.get("content") or ()
        for annotation in part.get("annotations") or ()
    ]
    found = {"output": dict(items), "usage": details, "annotations": annotations}
    return rest | {name: value for name, value in found.items() if value} or None
