"""What a source says comes back in the log: a canary in each value, and one in each object, of each example of docs/sources is found.

`NOT_KEPT` is the whole list of what is not; an entry that nothing needs any more fails, too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fakes.places import EXAMPLES, leaves, objects, put, spelled
from rules.test_sources import calls

from tunemill.streams.errors import Undecodable

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


def like(value: Any, number: int) -> Any:
    """Another value of the same form, which stands nowhere else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return type(value)(770_000 + number) + (0.5 if isinstance(value, float) else 0)
    if re.fullmatch("[0-9a-f]{16}|[0-9a-f]{32}", value):
        return f"{number:c>{len(value)}}"
    return str(770_000 + number) if re.fullmatch(r"\d{1,10}", value) else f"canary{number}x"
