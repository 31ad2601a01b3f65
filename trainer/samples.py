"""Answers side by side for a person to read: what was expected, what the base model wrote, and what the tuned one writes. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tunemill.trainer.forgetting import Turn, turned
from tunemill.trainer.question import Question
from tunemill.trainer.score import Answered

AT_MOST = {"held_out": 50, "retention": 20}


def side_by_side(
    of: Literal["held_out", "retention"],
    asked: Sequence[Question],
    before: Sequence[Answered],
    after: Sequence[Answered],
) -> list[dict[str, Any]]:
    """Questions with their answers, as plain data: general ones that were lost first, then those that were learned.

    They hold text of rows.
    """
    answered = list(zip(asked, before, after, strict=True))
    turns = [turned(*one) if of == "retention" else None for one in answered]
    shown = sorted(zip(answered, turns, strict=True), key=lambda one: _place(one[1]))[: AT_MOST[of]]
    return [
        {
            "of": of,
            "row_id": question.row_id,
            "topic": question.topic,
            "prompt": list(question.messages),
            "expected": question.expected,
            "before": was.text,
            "after": now.text,
            "answered": turn and turn._asdict(),  # of a general question that is not open
            "scores": {"before": msgspec.to_builtins(was.scores), "after": msgspec.to_builtins(now.scores)},
        }
        for (question, was, now), turn in shown
    ]


def _place(turn: Turn | None) -> int:
    return 0 if turn and turn.lost else 1 if turn and turn.learned else 2
