"""Bodies of models that are asked with one prompt (Titan, Llama, Mistral, Cohere) -> those of OpenAI's completions API."""

from typing import Any

from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.ending import finish_reason
from tunemill.streams.formats.shape import JsonObject, left_over

_ASKED = ("prompt", "inputText", "message")
_TEXTS = ("outputText", "generation", "completion", "text")
_REASONS = ("completionReason", "stop_reason", "finish_reason", "finishReason")
_LISTS = ("results", "outputs", "generations", "completions", "choices")
_COUNTS = {
    "prompt_tokens": ("prompt_token_count", "inputTextTokenCount"),
    "completion_tokens": ("generation_token_count", "totalOutputTextTokenCount"),
}
_ANSWERED = frozenset((*_TEXTS, *_REASONS, *_LISTS, *(name for names in _COUNTS.values() for name in names), "usage"))


def as_request(body: JsonObject) -> JsonObject | None:
    """The request, if it asks with one text."""
    for name in _ASKED:
        if isinstance(body.get(name), str):
            config = body.get("textGenerationConfig")
            rest = left_over(body, frozenset((name, "textGenerationConfig")))
            return {**rest, **(config if isinstance(config, dict) else {}), "prompt": body[name]}
    return None


def as_response(bodies: list[Any]) -> JsonObject:
    """The response, from one body or from those that a stream brought one after another.

    Raises:
        Undecodable: one of them is no object, or none of them has an answer.
    """
    choices: dict[int, JsonObject] = {}
    whole: JsonObject = {}
    for body in bodies:
        if not isinstance(body, dict):
            raise Undecodable("invalid", "a piece of output.outputBodyJson is not an object")
        whole |= left_over(body, frozenset())
        for number, piece in enumerate(_pieces(body)):
            _add(choices.setdefault(number, {"text": "", "finish_reason": None}), piece)
    given = whole.get("usage")
    counted = {name: next((whole[key] for key in keys if key in whole), None) for name, keys in _COUNTS.items()}
    return {
        **left_over(whole, _ANSWERED),
        "choices": [choices[number] for number in sorted(choices)],
        "usage": given if isinstance(given, dict) else counted,
    }


def _pieces(body: JsonObject) -> list[JsonObject]:
    """The answers in a body: a list of them, or one beside the other fields."""
    for name in _LISTS:
        if isinstance(body.get(name), list):
            return [piece for piece in body[name] if isinstance(piece, dict)]
    return [body]


def _add(choice: JsonObject, piece: JsonObject) -> None:
    inner = piece.get("data")  # AI21 puts the text one deeper
    for source in (piece, inner if isinstance(inner, dict) else {}):
        for name in _TEXTS:
            if isinstance(source.get(name), str):
                choice["text"] += source[name]
    for name in _REASONS:
        word = piece.get(name)
        word = word.get("reason") if isinstance(word, dict) else word
        if isinstance(word, str):
            choice["finish_reason"] = finish_reason(word)
