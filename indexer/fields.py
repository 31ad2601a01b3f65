"""The fields and parts of a log that a search can name, and how a misspelt one is recognised."""

from collections.abc import Iterable
from difflib import get_close_matches

# The name in a query and in the index's documents. Values are compared whole and case counts.
KEYWORDS = (
    "tag",
    "app",
    "model",
    "provider",
    "language",
    "status",
    "finish",
    "source",
    "consent",
    "id",
    "session",
    "user",
    "trace",
    "response_id",
    "tagging",
    "feedback",
)
SEVERAL_VALUES = ("tag", "feedback")  # of KEYWORDS
UNNAMED = ("has", "near")  # fields of words with several values, that a query does not name as `field:value`
NUMBERS = ("ts", "latency_ms", "input_tokens", "output_tokens", "cost_usd", "score", "chars")
WHOLE_NUMBERS = frozenset({"ts", "input_tokens", "output_tokens", "chars"})
LARGEST_WHOLE = 2**63 - 1  # what both engines' integers hold
PARTS = ("prompt", "response", "system", "tool")  # of a log's text; each text is in one
HAS = (
    "answer",
    "audio",
    "comment",
    "correction",
    "edit",
    "error",
    "feedback",
    "file",
    "image",
    "reasoning",
    "refusal",
    "tool-call",
    "tools",
)  # what a log can have besides the fields
METADATA = "metadata."  # metadata.<key>: the caller's own fields

ALIASES = {
    "lang": "language",
    "tags": "tag",
    "finish_reason": "finish",
    "log_id": "id",
    "session_id": "session",
    "user_id": "user",
    "trace_id": "trace",
    "tag_status": "tagging",
    "ts_ms": "ts",
    "date": "ts",
    "latency": "latency_ms",
    "cost": "cost_usd",
    "length": "chars",
}


def field_named(name: str) -> str | None:
    """The field that a query means by this name, or None."""
    if name.startswith(METADATA) and len(name) > len(METADATA):
        return name
    name = name.lower()
    name = ALIASES.get(name, name)
    return name if name in KEYWORDS or name in NUMBERS else None


def metadata_term(key: str, value: str) -> str:
    """A key and its value, or the value's beginning, as one term; a `\\0`, which neither can hold, keeps them apart."""
    return f"{key}\0{value}"


def similar(name: str, among: Iterable[str] = (*KEYWORDS, *NUMBERS, *ALIASES, *PARTS, "has", "saved")) -> str | None:
    """What somebody who wrote this probably meant."""
    close = get_close_matches(name.lower(), among, n=1, cutoff=0.6)
    return close[0] if close else None
