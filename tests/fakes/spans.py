"""Spans: those that real clients were seen to send, those that a test makes up, and any value that an attribute may have."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tunemill.schemas import otlp
from tunemill.streams.formats.span import Span

CAPTURES = Path(__file__).parents[1] / "unit" / "streams" / "captures"


def made_span(attributes: dict[str, Any], *, scope: str = "some.library", name: str = "chat") -> Span:
    """A span of these attributes that took one second."""
    return Span(
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id="b7ad6b7169203331",
        name=name,
        start_ns=1_780_000_000_000_000_000,
        end_ns=1_780_000_001_000_000_000,
        attributes=attributes,
        resource={"service.name": "shop"},
        scope=scope,
    )


def captured_spans(client: str, case: str) -> list[Span]:
    """Each span of the request in which this client told this case."""
    return [
        made_span(item["span"]["attributes"], scope=item["scope"]["name"], name=item["span"]["name"])
        for item in otlp.items((CAPTURES / client / f"traces-{case}.json").read_bytes())
    ]


_FIELDS = (
    *("messages", "role", "content", "choices", "message", "input", "output", "type", "text", "tool_calls", "function"),
    *(
        "name",
        "arguments",
        "args",
        "tools",
        "usage",
        "prompt_tokens",
        "total",
        "object",
        "finish_reason",
        "message_content",
    ),
)
_WORDS = ("LLM", "text", "image", "user", "assistant", "tool", "thinking", "response", "function_call", "generation")
_nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(_WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=15,
)
attribute_values = _nested | _nested.map(json.dumps)  # of JSON's own types, or text that is often JSON
