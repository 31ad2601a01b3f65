"""The calls of Anthropic's Messages API."""

from dataclasses import replace
from typing import Any

from clients.case import (
    CHAT_TOOLS,
    IMAGE_PARTS,
    PIXEL,
    SCRIPTS_ANSWERED,
    SCRIPTS_ASKED,
    WEATHER,
    Case,
    expected_log,
    says,
    user,
    weather,
)
from tunemill.schemas.records import Message, Usage

_TOOLS = [{"name": "weather", "description": WEATHER["description"], "input_schema": WEATHER["parameters"]}]


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


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


PLAIN = Case(
    "plain",
    {"messages": [{"role": "user", "content": "Where is my parcel?"}], "max_tokens": 64},
    _anthropic(_text("It arrives tomorrow."), stop_reason="end_turn", tokens=(9, 5)),
    expected_log(
        [user("Where is my parcel?")],
        [says("It arrives tomorrow.")],
        params={"max_tokens": 64},
        usage=Usage(input_tokens=9, output_tokens=5),
        finish_reason="stop",
    ),
    api="messages",
)
TURNS = Case(
    "turns",
    {
        "max_tokens": 64,
        "system": "You are brief.\nYou are kind.",
        "messages": [
            {"role": "user", "content": "Name a river."},
            {"role": "assistant", "content": "The Danube."},
            {"role": "user", "content": "And a second one?"},
        ],
    },
    _anthropic(_text("The Rhine."), stop_reason="end_turn", tokens=(31, 4)),
    expected_log(
        [
            Message(role="system", content="You are brief.\nYou are kind."),
            user("Name a river."),
            says("The Danube."),
            user("And a second one?"),
        ],
        [says("The Rhine.")],
        usage=Usage(input_tokens=31, output_tokens=4),
        finish_reason="stop",
    ),
    api="messages",
)
STREAMING = Case(
    "streaming",
    {"max_tokens": 64, "messages": [{"role": "user", "content": "Count to three."}], "stream": True},
    _anthropic(_text("One, two, three."), stop_reason="end_turn", tokens=(7, 6)),
    expected_log(
        [user("Count to three.")],
        [says("One, two, three.")],
        usage=Usage(input_tokens=7, output_tokens=6),
        finish_reason="stop",
    ),
    api="messages",
)
TOOLS = Case(
    "tools",
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
        "tools": _TOOLS,
    },
    _anthropic(
        _text("Now Oslo."),
        {"type": "tool_use", "id": "toolu_oslo", "name": "weather", "input": {"town": "Oslo"}},
        stop_reason="tool_use",
        tokens=(62, 14),
    ),
    expected_log(
        [
            user("Weather in Rome, then in Oslo?"),
            Message(role="assistant", tool_calls=(weather("toolu_rome", '{"town":"Rome"}'),)),
            Message(role="tool", tool_call_id="toolu_rome", content='{"celsius": 31}'),
        ],
        [Message(role="assistant", content="Now Oslo.", tool_calls=(weather("toolu_oslo", '{"town":"Oslo"}'),))],
        tools=CHAT_TOOLS,
        params={"max_tokens": 64},
        usage=Usage(input_tokens=62, output_tokens=14),
        finish_reason="tool_calls",
    ),
    api="messages",
)
STREAMING_TOOLS = replace(TOOLS, name="streaming_tools", request={**TOOLS.request, "stream": True})
IMAGE = Case(
    "image",
    {
        "max_tokens": 64,
        "messages": [
            {
                "role": "user",
                "content": [
                    _text("What is in this picture?"),
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                ],
            }
        ],
    },
    _anthropic(_text("A single dot."), stop_reason="end_turn", tokens=(90, 4)),
    expected_log(
        [Message(role="user", content="What is in this picture?", parts=IMAGE_PARTS)],
        [says("A single dot.")],
        usage=Usage(input_tokens=90, output_tokens=4),
        finish_reason="stop",
    ),
    api="messages",
)
SCRIPTS = Case(
    "scripts",
    {"max_tokens": 64, "messages": [{"role": "user", "content": SCRIPTS_ASKED}]},
    _anthropic(_text(SCRIPTS_ANSWERED), stop_reason="end_turn", tokens=(24, 13)),
    expected_log(
        [user(SCRIPTS_ASKED)],
        [says(SCRIPTS_ANSWERED)],
        usage=Usage(input_tokens=24, output_tokens=13),
        finish_reason="stop",
    ),
    api="messages",
)
ERROR = Case(
    "error",
    {"max_tokens": 64, "messages": [{"role": "user", "content": "One question too many."}]},
    {"type": "error", "error": {"type": "rate_limit_error", "message": "Rate limit reached"}},
    expected_log([user("One question too many.")], [], status="error", error="set"),
    api="messages",
    status=429,
)
REASONING = Case(
    "reasoning",
    {"max_tokens": 2048, "messages": [{"role": "user", "content": "What is 17 times 3?"}]},
    _anthropic(
        {"type": "thinking", "thinking": "17 times 3 is 51.", "signature": "c2lnbmVk"},
        _text("51"),
        stop_reason="end_turn",
        tokens=(12, 9),
    ),
    expected_log(
        [user("What is 17 times 3?")],
        [Message(role="assistant", content="51", reasoning="17 times 3 is 51.")],
        usage=Usage(input_tokens=12, output_tokens=9),
        finish_reason="stop",
    ),
    api="messages",
)
TABLE = (PLAIN, TURNS, STREAMING, TOOLS, IMAGE, SCRIPTS, ERROR)  # it has no second choice
MORE = (STREAMING_TOOLS, REASONING)
