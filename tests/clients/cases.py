"""The calls that every client makes: what it asks, what the model server answers, and the log that has to come of it.

What is expected is written by hand from the request and the answer, in the words of `LogRecord`; no code of the product derives it.
A request's `model` names the case and the client that asks, so that the log of every cell of the table can be searched for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PIXEL_URL = f"data:image/png;base64,{PIXEL}"

WEATHER = {
    "name": "weather",
    "description": "The weather of a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
CHAT_TOOLS = [{"type": "function", "function": WEATHER}]
RESPONSES_TOOLS = [{"type": "function", **WEATHER, "strict": False}]
ANTHROPIC_TOOLS = [
    {"name": "weather", "description": WEATHER["description"], "input_schema": WEATHER["parameters"]},
]


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


def _expected(messages: list[Message], output: list[Message], **fields: Any) -> LogRecord:
    made = {"params": {}, **fields}
    return LogRecord(log_id="", ts_ms=0, messages=tuple(messages), output=tuple(output), **made)


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _says(text: str) -> Message:
    return Message(role="assistant", content=text)


def _completion(*choices: dict[str, Any], tokens: tuple[int, int]) -> dict[str, Any]:
    """A chat completion; its id and model are the server's to fill in."""
    return {
        "object": "chat.completion",
        "created": 1_780_000_000,
        "choices": [{"index": index, "logprobs": None, **choice} for index, choice in enumerate(choices)],
        "usage": {
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "total_tokens": sum(tokens),
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        "system_fingerprint": "fp_case",
    }


def _choice(text: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}


def _call(call_id: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def _weather(call_id: str, arguments: str) -> ToolCall:
    return ToolCall(name="weather", arguments=arguments, id=call_id)


PLAIN = Case(
    "plain",
    {"messages": [{"role": "user", "content": "Where is my parcel?"}], "temperature": 0.5, "max_tokens": 64},
    _completion(_choice("It arrives tomorrow."), tokens=(9, 5)),
    _expected(
        [_user("Where is my parcel?")],
        [_says("It arrives tomorrow.")],
        params={"temperature": 0.5, "max_tokens": 64},
        usage=Usage(input_tokens=9, output_tokens=5),
        finish_reason="stop",
    ),
)
TURNS = Case(
    "turns",
    {
        "messages": [
            {"role": "system", "content": "You are brief.\nYou are kind."},
            {"role": "user", "content": "Name a river."},
            {"role": "assistant", "content": "The Danube."},
            {"role": "user", "content": "And a second one?"},
        ],
        "temperature": 0.0,
    },
    _completion(_choice("The Rhine."), tokens=(31, 4)),
    _expected(
        [
            Message(role="system", content="You are brief.\nYou are kind."),
            _user("Name a river."),
            _says("The Danube."),
            _user("And a second one?"),
        ],
        [_says("The Rhine.")],
        params={"temperature": 0.0},
        usage=Usage(input_tokens=31, output_tokens=4),
        finish_reason="stop",
    ),
)
STREAMING = Case(
    "streaming",
    {
        "messages": [{"role": "user", "content": "Count to three."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    _completion(_choice("One, two, three."), tokens=(7, 6)),
    _expected(
        [_user("Count to three.")],
        [_says("One, two, three.")],
        usage=Usage(input_tokens=7, output_tokens=6),
        finish_reason="stop",
    ),
)
STREAMING_UNCOUNTED = Case(
    "streaming_uncounted",
    {"messages": [{"role": "user", "content": "Count to four."}], "stream": True},
    _completion(_choice("One, two, three, four."), tokens=(7, 8)),
    _expected([_user("Count to four.")], [_says("One, two, three, four.")], finish_reason="stop"),
)
TOOLS = Case(
    "tools",
    {
        "messages": [
            {"role": "user", "content": "Weather in Rome, then in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [_call("call_rome", '{"town": "Rome"}')]},
            {"role": "tool", "tool_call_id": "call_rome", "content": '{"celsius": 31}'},
        ],
        "tools": CHAT_TOOLS,
        "tool_choice": "auto",
    },
    _completion(
        _choice(None, "tool_calls", tool_calls=[_call("call_oslo", '{"town": "Oslo"}')]),
        tokens=(58, 12),
    ),
    _expected(
        [
            _user("Weather in Rome, then in Oslo?"),
            Message(role="assistant", tool_calls=(_weather("call_rome", '{"town": "Rome"}'),)),
            Message(role="tool", tool_call_id="call_rome", content='{"celsius": 31}'),
        ],
        [Message(role="assistant", tool_calls=(_weather("call_oslo", '{"town": "Oslo"}'),))],
        tools=CHAT_TOOLS,
        usage=Usage(input_tokens=58, output_tokens=12),
        finish_reason="tool_calls",
    ),
)
STREAMING_TOOLS = Case(
    "streaming_tools",
    {
        "messages": [{"role": "user", "content": "Weather in Oslo and in Bergen?"}],
        "tools": CHAT_TOOLS,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    _completion(
        _choice(
            None,
            "tool_calls",
            tool_calls=[_call("call_oslo", '{"town": "Oslo"}'), _call("call_bergen", '{"town": "Bergen"}')],
        ),
        tokens=(48, 22),
    ),
    _expected(
        [_user("Weather in Oslo and in Bergen?")],
        [
            Message(
                role="assistant",
                tool_calls=(
                    _weather("call_oslo", '{"town": "Oslo"}'),
                    _weather("call_bergen", '{"town": "Bergen"}'),
                ),
            )
        ],
        tools=CHAT_TOOLS,
        usage=Usage(input_tokens=48, output_tokens=22),
        finish_reason="tool_calls",
    ),
)
STREAMING_CHOICES = Case(
    "streaming_choices",
    {"messages": [{"role": "user", "content": "Left or right?"}], "n": 2, "stream": True},
    _completion(_choice("Turn left."), _choice("Turn right.", "length"), tokens=(8, 6)),
    _expected(
        [_user("Left or right?")],
        [_says("Turn left."), _says("Turn right.")],
        params={"n": 2},
        finish_reason="stop",
    ),
)
STREAMING_CUT = Case(
    "streaming_cut",
    {"messages": [{"role": "user", "content": "Count to five."}], "stream": True},
    _completion(_choice("One, two, three, four, five."), tokens=(7, 10)),
    _expected([_user("Count to five.")], [_says("One, two, th")]),
    pieces=3,
)
IMAGE_PARTS = [
    {"type": "text", "text": "What is in this picture?"},
    {"type": "image_url", "image_url": {"url": PIXEL_URL}},
]
IMAGE = Case(
    "image",
    {"messages": [{"role": "user", "content": IMAGE_PARTS}]},
    _completion(_choice("A single dot."), tokens=(90, 4)),
    _expected(
        [Message(role="user", content="What is in this picture?", parts=IMAGE_PARTS)],
        [_says("A single dot.")],
        usage=Usage(input_tokens=90, output_tokens=4),
        finish_reason="stop",
    ),
)
SCRIPTS_ASKED = "我的包裹在哪里？ أين طردي؟ 📦👩‍🚀"
SCRIPTS_ANSWERED = "明天送到。 يصل غدًا. 🚚"
SCRIPTS = Case(
    "scripts",
    {"messages": [{"role": "user", "content": SCRIPTS_ASKED}]},
    _completion(_choice(SCRIPTS_ANSWERED), tokens=(24, 13)),
    _expected(
        [_user(SCRIPTS_ASKED)],
        [_says(SCRIPTS_ANSWERED)],
        usage=Usage(input_tokens=24, output_tokens=13),
        finish_reason="stop",
    ),
)
ERROR = Case(
    "error",
    {"messages": [{"role": "user", "content": "One question too many."}]},
    {
        "error": {
            "message": "Rate limit reached for case-error",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    },
    _expected([_user("One question too many.")], [], status="error", error="set"),
    status=429,
)
CHOICES = Case(
    "choices",
    {"messages": [{"role": "user", "content": "Heads or tails?"}], "n": 2},
    _completion(_choice("Heads."), _choice("Tails."), tokens=(8, 6)),
    _expected(
        [_user("Heads or tails?")],
        [_says("Heads."), _says("Tails.")],
        params={"n": 2},
        usage=Usage(input_tokens=8, output_tokens=6),
        finish_reason="stop",
    ),
)
# What every client does. These are the columns of the table in docs/sources/README.md.
TABLE = (PLAIN, TURNS, STREAMING, TOOLS, IMAGE, SCRIPTS, ERROR, CHOICES)

REASONING = Case(
    "reasoning",
    {"messages": [{"role": "user", "content": "What is 17 times 3?"}]},
    _completion(_choice("51", reasoning_content="17 times 3 is 51."), tokens=(12, 9)),
    _expected(
        [_user("What is 17 times 3?")],
        [Message(role="assistant", content="51", reasoning="17 times 3 is 51.")],
        usage=Usage(input_tokens=12, output_tokens=9),
        finish_reason="stop",
    ),
)
REFUSAL = Case(
    "refusal",
    {"messages": [{"role": "user", "content": "Tell me a secret."}]},
    _completion(_choice(None, refusal="I can't tell you that."), tokens=(6, 7)),
    _expected(
        [_user("Tell me a secret.")],
        [Message(role="assistant", refusal="I can't tell you that.")],
        usage=Usage(input_tokens=6, output_tokens=7),
        finish_reason="stop",
    ),
)


def _response(*items: dict[str, Any], tokens: tuple[int, int]) -> dict[str, Any]:
    """An answer of the Responses API; its id and model are the server's to fill in."""
    return {
        "object": "response",
        "created_at": 1_780_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "output": list(items),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "usage": {
            "input_tokens": tokens[0],
            "input_tokens_details": {"cached_tokens": 2},
            "output_tokens": tokens[1],
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": sum(tokens),
        },
    }


def _message_item(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": content}


RESPONSES = Case(
    "responses",
    {"instructions": "You are brief.", "input": "Name a lake.", "max_output_tokens": 64},
    _response(_message_item("Lake Como."), tokens=(14, 4)),
    _expected(
        [Message(role="system", content="You are brief."), _user("Name a lake.")],
        [_says("Lake Como.")],
        params={"max_output_tokens": 64},
        usage=Usage(input_tokens=14, output_tokens=4),
        finish_reason="stop",
    ),
    api="responses",
)
RESPONSES_STREAMING = Case(
    "responses_streaming",
    {"input": [{"role": "user", "content": "Name a sea."}], "stream": True},
    _response(_message_item("The Baltic Sea."), tokens=(8, 5)),
    _expected(
        [_user("Name a sea.")],
        [_says("The Baltic Sea.")],
        usage=Usage(input_tokens=8, output_tokens=5),
        finish_reason="stop",
    ),
    api="responses",
)
RESPONSES_TOOLS_CASE = Case(
    "responses_tools",
    {
        "input": [
            {"role": "user", "content": "Weather in Rome, then in Oslo?"},
            {"type": "function_call", "call_id": "call_rome", "name": "weather", "arguments": '{"town": "Rome"}'},
            {"type": "function_call_output", "call_id": "call_rome", "output": '{"celsius": 31}'},
        ],
        "tools": RESPONSES_TOOLS,
    },
    _response(
        {
            "id": "fc_1",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_oslo",
            "name": "weather",
            "arguments": '{"town": "Oslo"}',
        },
        tokens=(60, 12),
    ),
    _expected(
        [
            _user("Weather in Rome, then in Oslo?"),
            Message(role="assistant", tool_calls=(_weather("call_rome", '{"town": "Rome"}'),)),
            Message(role="tool", tool_call_id="call_rome", content='{"celsius": 31}'),
        ],
        [Message(role="assistant", tool_calls=(_weather("call_oslo", '{"town": "Oslo"}'),))],
        tools=[{"type": "function", "function": {**WEATHER, "strict": False}}],
        usage=Usage(input_tokens=60, output_tokens=12),
        finish_reason="tool_calls",
    ),
    api="responses",
)


def _anthropic(*content: dict[str, Any], stop_reason: str, tokens: tuple[int, int]) -> dict[str, Any]:
    """An answer of Anthropic's Messages API; its id and model are the server's to fill in."""
    return {
        "type": "message",
        "role": "assistant",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": tokens[0],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": tokens[1],
        },
    }


ANTHROPIC = Case(
    "anthropic",
    {
        "max_tokens": 64,
        "system": "You are brief.",
        "messages": [
            {"role": "user", "content": "Name a hill."},
            {"role": "assistant", "content": "Arthur's Seat."},
            {"role": "user", "content": "And a second one?"},
        ],
    },
    _anthropic({"type": "text", "text": "Primrose Hill."}, stop_reason="end_turn", tokens=(30, 5)),
    _expected(
        [
            Message(role="system", content="You are brief."),
            _user("Name a hill."),
            _says("Arthur's Seat."),
            _user("And a second one?"),
        ],
        [_says("Primrose Hill.")],
        params={"max_tokens": 64},
        usage=Usage(input_tokens=30, output_tokens=5),
        finish_reason="stop",
    ),
    api="messages",
)
ANTHROPIC_STREAMING = Case(
    "anthropic_streaming",
    {"max_tokens": 64, "messages": [{"role": "user", "content": "Name an island."}], "stream": True},
    _anthropic({"type": "text", "text": "The Isle of Skye."}, stop_reason="end_turn", tokens=(9, 6)),
    _expected(
        [_user("Name an island.")],
        [_says("The Isle of Skye.")],
        params={"max_tokens": 64},
        usage=Usage(input_tokens=9, output_tokens=6),
        finish_reason="stop",
    ),
    api="messages",
)
ANTHROPIC_TOOLS_CASE = Case(
    "anthropic_tools",
    {
        "max_tokens": 64,
        "messages": [
            {"role": "user", "content": "Weather in Rome, then in Oslo?"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_rome", "name": "weather", "input": {"town": "Rome"}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_rome", "content": '{"celsius": 31}'}],
            },
        ],
        "tools": ANTHROPIC_TOOLS,
    },
    _anthropic(
        {"type": "text", "text": "Now Oslo."},
        {"type": "tool_use", "id": "toolu_oslo", "name": "weather", "input": {"town": "Oslo"}},
        stop_reason="tool_use",
        tokens=(62, 14),
    ),
    _expected(
        [
            _user("Weather in Rome, then in Oslo?"),
            Message(role="assistant", tool_calls=(_weather("toolu_rome", '{"town":"Rome"}'),)),
            Message(role="tool", tool_call_id="toolu_rome", content='{"celsius": 31}'),
        ],
        [Message(role="assistant", content="Now Oslo.", tool_calls=(_weather("toolu_oslo", '{"town":"Oslo"}'),))],
        tools=CHAT_TOOLS,
        params={"max_tokens": 64},
        usage=Usage(input_tokens=62, output_tokens=14),
        finish_reason="tool_calls",
    ),
    api="messages",
)
RESPONSES_STREAMING_TOOLS = replace(
    RESPONSES_TOOLS_CASE,
    name="responses_streaming_tools",
    request={**RESPONSES_TOOLS_CASE.request, "stream": True},
)
ANTHROPIC_STREAMING_TOOLS = replace(
    ANTHROPIC_TOOLS_CASE,
    name="anthropic_streaming_tools",
    request={**ANTHROPIC_TOOLS_CASE.request, "stream": True},
)
# What only the raw openai and anthropic clients do.
RAW = (
    STREAMING_UNCOUNTED,
    STREAMING_TOOLS,
    STREAMING_CHOICES,
    STREAMING_CUT,
    REASONING,
    REFUSAL,
    RESPONSES,
    RESPONSES_STREAMING,
    RESPONSES_TOOLS_CASE,
    RESPONSES_STREAMING_TOOLS,
    ANTHROPIC,
    ANTHROPIC_STREAMING,
    ANTHROPIC_TOOLS_CASE,
    ANTHROPIC_STREAMING_TOOLS,
)
# What tunemill's own wrapper does beyond the table.
WRAPPED = tuple(case for case in RAW if case.api != "messages")
CASES = {case.name: case for case in (*TABLE, *RAW)}


def as_sent(cases: Iterable[Case], client: str) -> list[dict[str, Any]]:
    """What a driver is given: the names and the whole requests."""
    return [
        {"name": case.name, "api": case.api, "request": {"model": model_of(case.name, client), **case.request}}
        for case in cases
    ]
