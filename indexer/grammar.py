"""The query language as people are told of it: examples with what each finds, and the table for a terminal.

`docs/query.md` shows the same; `tests/unit/indexer/test_grammar.py` holds them together.
"""

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "refund": "the word in any form: refund, Refunds, refunded",
    '"long division"': "these words side by side",
    "divi*": "a word that begins so",
    "prompt:refund": "the word in one part: prompt, response, system or tool",
    "refund chargeback": "both; AND may be written between",
    "refund OR chargeback": "one of them; AND binds tighter",
    "-refund": "not that; NOT says the same",
    "(refund OR chargeback) -tag:pii:*": "parentheses group",
    "tag:topic:math": "a field has exactly this value; case counts",
    "model:gpt-4o*": "a field has a value that begins so",
    'app:"my app"': "a value with spaces, commas, quotes, parentheses or *",
    'model:(gpt-4o, "my model", llama*)': "one of several values, words or ranges; OR may stand for the comma",
    "has:correction": "it has this, or a value of this field (has:model)",
    "feedback:is_correct:0": "what feedback says: its name and its score or label",
    "latency_ms:>2s": "by number: > >= < <=; a latency in ms, s, m or h",
    "output_tokens:[1 TO 100}": "between two numbers; a brace leaves its bound out, * an end open",
    "ts:2026-01": "by time, in UTC: a year, month, day or moment",
    "ts:>now-7d": "since then: s, m, h, d or w before now",
    "saved:wrong-math": "what a saved search finds",
}

_COLUMN = max(map(len, EXAMPLES)) + 2

HELP = "\n".join(f"{example:<{_COLUMN}}{meaning}" for example, meaning in EXAMPLES.items())
