"""Answers side by side for a person to read: what was expected, what the base model wrote, and what the tuned one writes. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tunemill.trainer.question import Question
from tunemill.trainer.score import Answered

AT_MOST = {"held_out": 50, "retention": 20}


def side_by_side(
    of: Literal["held_out", "retention"],
    asked: Sequence[Question],
    before: Sequence[Answered],
    after: Sequence[Answered],
) -> list[dict[str, Any]]:
    """The first questions with their answers, as plain data; they hold text of rows."""
    answered = list(zip(asked, before, after, strict=True))
    return [
        {
            "of": of,
            "row_id": question.row_id,
            "topic": question.topic,
            "prompt": list(question.messages),
            "expected": question.expected,
            "before": was.text,
            "after": now.text,
            "scores": {"before": msgspec.to_builtins(was.scores), "after": msgspec.to_builtins(now.scores)},
        }
        for question, was, now in answered[: AT_MOST[of]]
    ]
