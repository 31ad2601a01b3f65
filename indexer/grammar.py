"""The query language as people are told of it: examples with what each finds, and the table for a terminal.

`docs/query.md` shows the same; `tests/unit/indexer/test_grammar.py` holds them together.
"""

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "refund": "the word in any form: Refunds, refunded",
    '"long division"': "these words side by side",
    "divi*": "a word that begins so",
    "prompt:refund": "in prompt, response, system or tool alone",
    "refund order": "both; by relevance those with one follow",
    "refund OR order": "one of them; AND binds tighter",
    "-refund": "not that (or: NOT refund)",
    "(refund OR order) -tag:pii:*": "parentheses group",
    "tag:topic:math": "a field has exactly this value",
    "model:gpt-4o*": "a field has a value that begins so",
    'app:"my app"': 'a value with spaces, commas, ", ( ) or *',
    'model:(gpt-4o, "my model", o1*)': "one of several; OR may be the comma",
    "has:correction": "has this, or a field (has:model)",
    "feedback:is_correct:0": "feedback of this name and score or label",
    "latency_ms:>2s": "by number: > >= < <=, with ms, s, m or h",
    "output_tokens:[1 TO 100}": "between; } leaves its end out, * is open",
    "ts:2026-01": "in a year, month, day or moment, UTC",
    "ts:>now-7d": "since then: s, m, h, d or w before now",
    "saved:wrong-math": "what a saved search finds",
}

_COLUMN = max(map(len, EXAMPLES)) + 2

HELP = "\n".join(f"{example:<{_COLUMN}}{meaning}" for example, meaning in EXAMPLES.items())
