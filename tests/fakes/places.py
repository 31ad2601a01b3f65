"""The examples of docs/sources, place by place: each value and each object in them, also in JSON that is the text of a field."""

import json
from collections.abc import Iterator
from typing import Any

from rules.test_sources import APPLICATION_SIDE, PAGES, examples

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
