"""The calls of OpenAI's Responses API."""

from dataclasses import replace
from typing import Any

from clients.case import (
    IMAGE_PARTS,
    PIXEL_URL,
    SCRIPTS_ANSWERED,
    SCRIPTS_ASKED,
    WEATHER,
    Case,
    expected_log,
    says,
    user,
    weather,
)
from clients.chat_cases import ERROR as CHAT_ERROR
from tunemill.schemas.records import Message, Usage


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


PLAIN = Case(
    "plain",
    {"input": "Where is my parcel?", "temperature": 0.5, "max_output_tokens": 64},
    _response(_message_item("It arrives tomorrow."), tokens=(9, 5)),
    expected_log(
        [user("Where is my parcel?")],
        [says("It arrives tomorrow.")],
        params={"temperature": 0.5, "max_output_tokens": 64},
        usage=Usage(input_tokens=9, output_tokens=5),
        finish_reason="stop",
    ),
    api="responses",
)
TURNS = Case(
    "turns",
    {
        "instructions": "You are brief.\nYou are kind.",
        "input": [
            {"role": "user", "content": "Name a river."},
            {"role": "assistant", "content": "The Danube."},
            {"role": "user", "content": "And a second one?"},
        ],
    },
    _response(_message_item("The Rhine."), tokens=(31, 4)),
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
    api="responses",
)
STREAMING = Case(
    "streaming",
    {"input": [{"role": "user", "content": "Count to three."}], "stream": True},
    _response(_message_item("One, two, three."), tokens=(7, 6)),
    expected_log(
        [user("Count to three.")],
        [says("One, two, three.")],
        usage=Usage(input_tokens=7, output_tokens=6),
        finish_reason="stop",
    ),
    api="responses",
)
TOOLS = Case(
    "tools",
    {
        "input": [
            {"role": "user", "content": "Weather in Rome, then in Oslo?"},
            {"type": "function_call", "call_id": "call_rome", "name": "weather", "arguments": '{"town": "Rome"}'},
            {"type": "function_call_output", "call_id": "call_rome", "output": '{"celsius": 31}'},
        ],
        "tools": [{"type": "function", **WEATHER, "strict": False}],
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
    expected_log(
        [
            user("Weather in Rome, then in Oslo?"),
            Message(role="assistant", tool_calls=(weather("call_rome", '{"town": "Rome"}'),)),
            Message(role="tool", tool_call_id="call_rome", content='{"celsius": 31}'),
        ],
        [Message(role="assistant", tool_calls=(weather("call_oslo", '{"town": "Oslo"}'),))],
        tools=[{"type": "function", "function": {**WEATHER, "strict": False}}],
        usage=Usage(input_tokens=60, output_tokens=12),
        finish_reason="tool_calls",
    ),
    api="responses",
)
STREAMING_TOOLS = replace(TOOLS, name="streaming_tools", request={**TOOLS.request, "stream": True})
IMAGE = Case(
    "image",
    {
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is in this picture?"},
                    {"type": "input_image", "image_url": PIXEL_URL},
                ],
            }
        ]
    },
    _response(_message_item("A single dot."), tokens=(90, 4)),
    expected_log(
        [Message(role="user", content="What is in this picture?", parts=IMAGE_PARTS)],
        [says("A single dot.")],
        usage=Usage(input_tokens=90, output_tokens=4),
        finish_reason="stop",
    ),
    api="responses",
)
SCRIPTS = Case(
    "scripts",
    {"input": SCRIPTS_ASKED},
    _response(_message_item(SCRIPTS_ANSWERED), tokens=(24, 13)),
    expected_log(
        [user(SCRIPTS_ASKED)],
        [says(SCRIPTS_ANSWERED)],
        usage=Usage(input_tokens=24, output_tokens=13),
        finish_reason="stop",
    ),
    api="responses",
)
ERROR = replace(CHAT_ERROR, request={"input": "One question too many."}, api="responses")
REASONING = Case(
    "reasoning",
    {"input": "What is 17 times 3?", "reasoning": {"summary": "auto"}},
    _response(
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "17 times 3 is 51."}]},
        _message_item("51"),
        tokens=(12, 9),
    ),
    expected_log(
        [user("What is 17 times 3?")],
        [Message(role="assistant", content="51", reasoning="17 times 3 is 51.")],
        usage=Usage(input_tokens=12, output_tokens=9),
        finish_reason="stop",
    ),
    api="responses",
)
TABLE = (PLAIN, TURNS, STREAMING, TOOLS, IMAGE, SCRIPTS, ERROR)  # it has no second choice
MORE = (STREAMING_TOOLS, REASONING)
