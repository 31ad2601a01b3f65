"""The calls of OpenAI's chat completions API."""

from typing import Any

from clients.case import (
    CHAT_TOOLS,
    IMAGE_PARTS,
    SCRIPTS_ANSWERED,
    SCRIPTS_ASKED,
    Case,
    expected_log,
    says,
    user,
    weather,
)
from tunemill.schemas.records import Message, Usage


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


PLAIN = Case(
    "plain",
    {"messages": [{"role": "user", "content": "Where is my parcel?"}], "temperature": 0.5, "max_tokens": 64},
    _completion(_choice("It arrives tomorrow."), tokens=(9, 5)),
    expected_log(
        [user("Where is my parcel?")],
        [says("It arrives tomorrow.")],
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
    expected_log(
        [
            Message(role="system", content="You are brief.\nYou are kind."),
            user("Name a river."),
            says("The Danube."),
            user("And a second one?"),
        ],
        [says("The Rhine.")],
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
    expected_log(
        [user("Count to three.")],
        [says("One, two, three.")],
        usage=Usage(input_tokens=7, output_tokens=6),
        finish_reason="stop",
    ),
)
STREAMING_UNCOUNTED = Case(
    "streaming_uncounted",
    {"messages": [{"role": "user", "content": "Count to four."}], "stream": True},
    _completion(_choice("One, two, three, four."), tokens=(7, 8)),
    expected_log([user("Count to four.")], [says("One, two, three, four.")], finish_reason="stop"),
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
    expected_log(
        [
            user("Weather in Rome, then in Oslo?"),
            Message(role="assistant", tool_calls=(weather("call_rome", '{"town": "Rome"}'),)),
            Message(role="tool", tool_call_id="call_rome", content='{"celsius": 31}'),
        ],
        [Message(role="assistant", tool_calls=(weather("call_oslo", '{"town": "Oslo"}'),))],
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
    expected_log(
        [user("Weather in Oslo and in Bergen?")],
        [
            Message(
                role="assistant",
                tool_calls=(
                    weather("call_oslo", '{"town": "Oslo"}'),
                    weather("call_bergen", '{"town": "Bergen"}'),
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
    expected_log(
        [user("Left or right?")],
        [says("Turn left."), says("Turn right.")],
        params={"n": 2},
        finish_reason="stop",
    ),
)
STREAMING_CUT = Case(
    "streaming_cut",
    {"messages": [{"role": "user", "content": "Count to five."}], "stream": True},
    _completion(_choice("One, two, three, four, five."), tokens=(7, 10)),
    expected_log([user("Count to five.")], [says("One, two, th")]),
    pieces=3,
)
IMAGE = Case(
    "image",
    {"messages": [{"role": "user", "content": IMAGE_PARTS}]},
    _completion(_choice("A single dot."), tokens=(90, 4)),
    expected_log(
        [Message(role="user", content="What is in this picture?", parts=IMAGE_PARTS)],
        [says("A single dot.")],
        usage=Usage(input_tokens=90, output_tokens=4),
        finish_reason="stop",
    ),
)
SCRIPTS = Case(
    "scripts",
    {"messages": [{"role": "user", "content": SCRIPTS_ASKED}]},
    _completion(_choice(SCRIPTS_ANSWERED), tokens=(24, 13)),
    expected_log(
        [user(SCRIPTS_ASKED)],
        [says(SCRIPTS_ANSWERED)],
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
    expected_log([user("One question too many.")], [], status="error", error="set"),
    status=429,
)
CHOICES = Case(
    "choices",
    {"messages": [{"role": "user", "content": "Heads or tails?"}], "n": 2},
    _completion(_choice("Heads."), _choice("Tails."), tokens=(8, 6)),
    expected_log(
        [user("Heads or tails?")],
        [says("Heads."), says("Tails.")],
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
    expected_log(
        [user("What is 17 times 3?")],
        [Message(role="assistant", content="51", reasoning="17 times 3 is 51.")],
        usage=Usage(input_tokens=12, output_tokens=9),
        finish_reason="stop",
    ),
)
REFUSAL = Case(
    "refusal",
    {"messages": [{"role": "user", "content": "Tell me a secret."}]},
    _completion(_choice(None, refusal="I can't tell you that."), tokens=(6, 7)),
    expected_log(
        [user("Tell me a secret.")],
        [Message(role="assistant", refusal="I can't tell you that.")],
        usage=Usage(input_tokens=6, output_tokens=7),
        finish_reason="stop",
    ),
)
# What only the plain client and tunemill's own wrapper do.
MORE = (STREAMING_UNCOUNTED, STREAMING_TOOLS, STREAMING_CHOICES, STREAMING_CUT, REASONING, REFUSAL)
