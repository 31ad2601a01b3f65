"""A call that a client makes: what it asks, what the model server answers, and the log that has to come of it.

What is expected is written by hand from the request and the answer, in the words of `LogRecord`; no code of the product derives it.
A request's `model` names the case and the client that asks, so that the log of every cell of the table can be searched for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunemill.schemas.records import LogRecord, Message, ToolCall

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PIXEL_URL = f"data:image/png;base64,{PIXEL}"

WEATHER = {
    "name": "weather",
    "description": "The weather of a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
CHAT_TOOLS = [{"type": "function", "function": WEATHER}]
IMAGE_PARTS = [
    {"type": "text", "text": "What is in this picture?"},
    {"type": "image_url", "image_url": {"url": PIXEL_URL}},
]
SCRIPTS_ASKED = "我的包裹在哪里？ أين طردي؟ 📦👩‍🚀"
SCRIPTS_ANSWERED = "明天送到。 يصل غدًا. 🚚"


@dataclass(frozen=True)
class Case:
    """One call. `expected.params` holds the parameters of interest; a log may hold more."""

    name: str
    request: dict[str, Any] = field(repr=False)
    answer: dict[str, Any] = field(repr=False)  # as it is answered whole; of a streamed call, what its pieces add up to
    expected: LogRecord = field(repr=False)
    api: str = "chat"  # chat | responses | messages
    status: int = 200
    pieces: int | None = None  # the stream breaks off after so many


def model_of(name: str, client: str) -> str:
    """The model that a client asks for in a case."""
    return f"case.{name}.{client}"


def case_of(model: str) -> str:
    """The case that a model's name holds; empty if it holds none."""
    return model.split(".")[1] if model.startswith("case.") and model.count(".") == 2 else ""


def response_id(model: str) -> str:
    """The id of the answer to a call of this model."""
    return f"answer.{model}"


def expected_log(messages: list[Message], output: list[Message], **fields: Any) -> LogRecord:
    """The log that has to come of a call; its ids, time and model are not the case's to say."""
    made = {"params": {}, **fields}
    return LogRecord(log_id="", ts_ms=0, messages=tuple(messages), output=tuple(output), **made)


def user(text: str) -> Message:
    """What a user says."""
    return Message(role="user", content=text)


def says(text: str) -> Message:
    """What the model says."""
    return Message(role="assistant", content=text)


def weather(call_id: str, arguments: str) -> ToolCall:
    """A call of the one tool that there is."""
    return ToolCall(name="weather", arguments=arguments, id=call_id)


def as_sent(cases: Iterable[Case], client: str) -> list[dict[str, Any]]:
    """What a driver is given: the names and the whole requests."""
    return [
        {"name": case.name, "api": case.api, "request": {"model": model_of(case.name, client), **case.request}}
        for case in cases
    ]
