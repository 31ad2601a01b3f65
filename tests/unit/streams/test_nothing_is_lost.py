"""What a source says comes back in the log: a canary in each value, and one in each object, of each example of docs/sources is found.

`NOT_KEPT` is the whole list of what is not; an entry that nothing needs any more fails, too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from rules.test_sources import APPLICATION_SIDE, PAGES, calls, examples

from tunemill.streams.errors import Undecodable
from tunemill.streams.formats.json_text import read_json

JSON_TEXT = "(json)"  # a step of a path: into the JSON that a text holds
EVENT = {
    "trace_id": "19637bd830a348d744b67e94ce91d63b",
    "span_id": "3ac81c749b719e4d",
    "time_ns": 1_780_000_000_100_000_000,
    "attributes": {"gen_ai.system": "openai", "server.port": 443},
}
BODIES = {
    "gen_ai.user.message": {"content": "Hello"},
    "gen_ai.choice": {"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}},
}
BESIDE: dict[str, Any] = {  # what no example shows
    **{
        name: {"resource": {"service.name": "shop"}, "log_record": {**EVENT, "event_name": name, "body": body}}
        for name, body in BODIES.items()
    },
    "anthropic_stream": {
        "request": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]},
        "events": [
            {"type": "message_start", "message": {"id": "msg_1", "usage": {"cache_read_input_tokens": 3}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
            {"type": "message_stop"},
        ],
    },
    "custom_tool": {
        "request": {"model": "m", "messages": [{"role": "user", "content": "Hello"}]},
        "response": {
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "x"}}],
                    }
                }
            ]
        },
    },
}
EXAMPLES = {
    f"{page.stem}{number or ''}": json.loads(block)
    for page in PAGES
    if page.stem not in APPLICATION_SIDE
    for number, block in enumerate(examples(page))
} | BESIDE

NOT_KEPT = (
    # says again what the rest says
    r".*(usage|usageDetails|usage_details.*)\.total_?[tT]okens",
    r".*\.llm\.usage\.total_tokens\..*",
    r"litellm: \*\.(total|prompt|completion)_tokens",
    r"bedrock: .*\.usage\.(input|output)Tokens",
    r".*\.choices\.\*\.index",
    r"openai2: response\.\*\.(id|model)",
    r"openinference: .*\.llm\.(finish_reason|output_messages\.0\.message\.(role|content))\..*",
    r"opentelemetry: .*\.chat small-1\.attributes\.gen_ai\.output\.messages\..*\.finish_reason",
    # says of what kind it is, and nothing else
    r".*\.object",
    r".*\.(input_text|summary_text|output_text)\.type",
    r"bedrock1?: schema(Type|Version)",
    r"bedrock: (in|out)put\.(in|out)putContentType",
    r"openinference: .*\.output\.mime_type\..*",
    r"litellm: \*\.(call_type|status)",
    r".*\.chat small-1\.attributes\.gen_ai\.operation\.name\..*",
    r".*\.llm\.request\.type\..*",
    r".*\.status\.code",
    # whose words an answer is, or a tool's result
    r"(anthropic: |bedrock: .*\.)(response|request\.messages\.\*|messages\.\*|message)\.role",
    r"opentelemetry: .*\.gen_ai\.input\.messages\..*\.role",
    # envelopes of what is told in them
    r"langfuse2?: \.x_new",
    r"langfuse2?: batch\.[a-z-]*\.(id|x_new)",
    r"anthropic_stream: events\.\w*\.(type|x_new|delta\.x_new)",
    r"bedrock: identity\.x_new",
    r"bedrock: .*\.inputSchema\.x_new",
    r"openai3: .*\.(conversation|summary_text)\.x_new",
    # items of the Responses API are put together in messages
    r"openai3: .*\.(reasoning|message)\.(id|status)",
    # what is no call, and of feedback what says more than it
    r"opentelemetry: .*\.spans\.invoke_agent support\..*",
    r"opentelemetry: \*\.resourceLogs\..*\.(attributes\..*|scope\.name)",
    r"langfuse: batch\.score-create\.body\.x_new",
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_value_is_found_in_the_log(name: str):
    assert [place for place in lost_values(name) if not is_stated(place)] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_field_that_nobody_knows_is_found_in_the_log(name: str):
    assert [place for place in lost_fields(name) if not is_stated(place)] == []


def test_only_what_is_lost_is_stated():
    lost = [place for name in EXAMPLES for place in (*lost_values(name), *lost_fields(name))]
    assert [pattern for pattern in NOT_KEPT if not any(re.fullmatch(pattern, place) for place in lost)] == []


def is_stated(place: str) -> bool:
    return any(re.fullmatch(pattern, place) for pattern in NOT_KEPT)


def lost_values(name: str) -> Iterator[str]:
    """The values that neither come back nor change anything else in the log. What is rejected then is not lost."""
    example = EXAMPLES[name]
    said = read(example)
    for number, (path, value) in enumerate(leaves(example)):
        canary = like(value, number)
        if canary is None or path[-1] == "key":
            continue
        try:
            found = read(put(example, path, canary))
        except Undecodable:
            continue
        if str(canary) not in found and found == said:
            yield f"{name}: {spelled(example, path)}"


def lost_fields(name: str) -> Iterator[str]:
    """The objects of which a field that nobody knows does not come back."""
    example = EXAMPLES[name]
    for path, value in objects(example):
        if isinstance(value, list):
            more: Any = [*value, {"key": "x_new", "value": {"stringValue": "canary"}}]
        else:
            more = {**value, "x_new": "canary"}
        if "canary" not in read(put(example, path, more)):
            yield f"{name}: {spelled(example, path)}.x_new"


def read(example: Any) -> str:
    """All that comes of it, less ids made from its bytes."""
    logs, feedback = calls(json.dumps(example).encode())
    return re.sub("sha-[0-9a-f]{32}", "", msgspec.json.encode([logs, feedback]).decode())


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    inside = read_json(value)
    if isinstance(inside, dict | list):
        steps = path if inside is value else (*path, JSON_TEXT)
        for step, child in inside.items() if isinstance(inside, dict) else enumerate(inside):
            yield from leaves(child, (*steps, step))
    elif value is not None:
        yield path, value


def objects(value: Any, path: tuple[Any, ...] = (), *, is_otlp: bool = False) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All objects; of an OTLP request, whose own fields are fixed, the lists of attributes and what they hold."""
    inside = read_json(value)
    steps = path if inside is value else (*path, JSON_TEXT)
    if isinstance(inside, dict):
        is_otlp = is_otlp or not {"resourceSpans", "resourceLogs", "log_record"}.isdisjoint(inside)
        if not is_otlp or JSON_TEXT in steps or steps[-1:] in (("attributes",), ("body",), ("message",)):
            yield steps, inside
    elif isinstance(inside, list) and steps and steps[-1] == "attributes":
        yield steps, inside
    if isinstance(inside, dict | list):
        for step, child in inside.items() if isinstance(inside, dict) else enumerate(inside):
            yield from objects(child, (*steps, step), is_otlp=is_otlp)


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    step, *rest = path
    if step == JSON_TEXT:
        return json.dumps(put(read_json(value), tuple(rest), new))
    changed = value.copy()
    changed[step] = put(value[step], tuple(rest), new)
    return changed


def spelled(value: Any, path: tuple[Any, ...]) -> str:
    """The path, in which an item of a list goes by its key, its type or its name, and otherwise as `*`."""
    names = []
    for step in path:
        inside = read_json(value)
        value = inside if step == JSON_TEXT else inside[step]
        item = value if isinstance(value, dict) else {}
        named = (item[name] for name in ("key", "type", "name") if isinstance(item.get(name), str))
        names.append(next(named, "*") if isinstance(step, int) else step)
    return ".".join(names)


def like(value: Any, number: int) -> Any:
    """Another value of the same form, which stands nowhere else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return type(value)(770_000 + number) + (0.5 if isinstance(value, float) else 0)
    if re.fullmatch("[0-9a-f]{16}|[0-9a-f]{32}", value):
        return f"{number:c>{len(value)}}"
    return str(770_000 + number) if re.fullmatch(r"\d{1,10}", value) else f"canary{number}x"
