"""A model's server in OpenAI's and Anthropic's shapes. What it answers is decided by the case that a request's `model` names."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from clients.case import case_of, response_id
from clients.cases import CASES
from fakes.http_server import Answer, Asked, Server, json_answer, serving

_APIS = {"/v1/chat/completions": "chat", "/v1/responses": "responses", "/v1/messages": "messages"}
_PIECE = 6  # characters of text or of arguments in one piece of a stream


@contextmanager
def model_server() -> Iterator[Server]:
    """Answer each case's call until the block ends."""
    with serving(_answer) as server:
        yield server


def _answer(asked: Asked) -> Answer:
    request = asked.json() if asked.method == "POST" else {}
    api = _APIS.get(asked.path.partition("?")[0], "")
    case = CASES.get((api, case_of(request.get("model", ""))))
    if case is None:
        return json_answer({"error": {"message": "no such case", "type": "invalid_request_error"}}, 400)
    if case.status >= 400:
        return json_answer(case.answer, case.status)
    whole = {"id": response_id(request["model"]), "model": request["model"], **case.answer}
    if not request.get("stream"):
        return json_answer(whole)
    pieces = list(_PIECES[case.api](whole, request))
    return Answer(200, b"".join(pieces[: case.pieces]), "text/event-stream")


def _chat_pieces(whole: dict[str, Any], request: dict[str, Any]) -> list[bytes]:
    counted = (request.get("stream_options") or {}).get("include_usage")
    head = {"id": whole["id"], "object": "chat.completion.chunk", "created": whole["created"], "model": whole["model"]}
    usage = {"usage": None} if counted else {}
    chunks = [
        {**head, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": reason}], **usage}
        for choice in whole["choices"]
        for delta, reason in _deltas(choice)
    ]
    if counted:
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return [*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def _deltas(choice: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    message = choice["message"]
    yield {"role": message["role"], "content": "" if message["content"] else None}, None
    for piece in _split(message["content"] or ""):
        yield {"content": piece}, None
    for index, call in enumerate(message.get("tool_calls", [])):
        named = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{"index": index, **call, "function": named}]}, None
        for piece in _split(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
    yield {}, choice["finish_reason"]


def _response_pieces(whole: dict[str, Any], request: dict[str, Any]) -> list[bytes]:
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for position, item in enumerate(whole["output"]):
        empty = {"arguments": ""} if "arguments" in item else {"content": []}
        events.append(_of_output("output_item.added", position, item={**item, **empty}))
        at = {"position": position, "item_id": item["id"]}
        if "arguments" in item:
            events += [_of_output("function_call_arguments.delta", **at, delta=p) for p in _split(item["arguments"])]
            events.append(_of_output("function_call_arguments.done", **at, arguments=item["arguments"]))
        for index, part in enumerate(item.get("content", ())):
            at["content_index"] = index
            events.append(_of_output("content_part.added", **at, part={**part, "text": ""}))
            events += [_of_output("output_text.delta", **at, delta=piece) for piece in _split(part["text"])]
            events.append(_of_output("output_text.done", **at, text=part["text"]))
            events.append(_of_output("content_part.done", **at, part=part))
        events.append(_of_output("output_item.done", position, item=item))
    events.append({"type": "response.completed", "response": whole})
    return _named({**event, "sequence_number": number} for number, event in enumerate(events))


def _of_output(kind: str, position: int, **told: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": position, **told}


def _message_pieces(whole: dict[str, Any], request: dict[str, Any]) -> list[bytes]:
    counted = whole["usage"]
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**counted, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(whole["content"]):
        if block["type"] == "tool_use":
            empty: dict[str, Any] = {**block, "input": {}}
            pieces = _split(json.dumps(block["input"], separators=(",", ":")))
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        else:
            empty = {**block, "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _split(block["text"])]
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": counted["output_tokens"]}})
    return _named([*events, {"type": "message_stop"}])


def _named(events: Iterable[dict[str, Any]]) -> list[bytes]:
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def _split(text: str) -> list[str]:
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]


_PIECES = {"chat": _chat_pieces, "responses": _response_pieces, "messages": _message_pieces}
