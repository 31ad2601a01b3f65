"""How a call ended, in OpenAI's words: the reason for which a model stopped, or a short name of an error."""

import re
from typing import Any

_ERROR_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}")  # a type or a code; anything longer may be text of the log
_CLASS_PATH = re.compile(r"(?:[a-z_]\w*\.)+([A-Z]\w*)")  # `openai.RateLimitError`, which others call by its name alone
_HTTP_STATUS = re.compile(r"Error code: (\d{3})\b")  # how the text of OpenAI's and Anthropic's exceptions begins
_REASONS = {
    # Anthropic, and Bedrock's Converse
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    # OpenTelemetry
    "tool_call": "tool_calls",
    # Titan, Cohere and Gemini write them in capitals
    "finish": "stop",
    "finished": "stop",
    "complete": "stop",
    "stop_criteria_met": "stop",
    "safety": "content_filter",
    "recitation": "content_filter",
    # OpenAI's Responses API
    "max_output_tokens": "length",
}


def finish_reason(word: str | None) -> str | None:
    """`stop`, `length`, `tool_calls` or `content_filter`, whatever the provider calls it; a word that we don't know stays."""
    if word is None:
        return None
    lower = word.lower()
    return _REASONS.get(lower, lower if lower in _REASONS.values() else word)


def error_name(error: Any) -> str:
    """The code or type of an error, from an object as APIs send it or from one value.

    Of a whole text it is the HTTP status that an exception's text begins with, or `unnamed`.
    """
    status = _HTTP_STATUS.match(error) if isinstance(error, str) else None
    names = [error.get("code"), error.get("type")] if isinstance(error, dict) else [status[1] if status else error]
    for name in names:
        if isinstance(name, str | int) and not isinstance(name, bool) and _ERROR_NAME.fullmatch(str(name)):
            path = _CLASS_PATH.fullmatch(str(name))
            return path[1] if path else str(name)
    return "unnamed"
