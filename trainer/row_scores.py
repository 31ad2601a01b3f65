"""The scores after training row by row, for `runs compare`: numbers and places of rows, and no word of them. Pure."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from tunemill.schemas.row_scores import RowScores
from tunemill.trainer.forgetting import turned
from tunemill.trainer.question import Question
from tunemill.trainer.score import Answered, AnswerScores, Scores, column, preference_losses


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one kind that were measured, in the order of their scores."""

    of: Literal["held_out", "retention"]
    rows_of: str  # the digest of what they are of
    rows: Sequence[int]  # those with a loss
    asked: Sequence[Question]
    pairs: Sequence[int] = ()  # with objective dpo


def row_scores(
    before: Scores, after: Scores, *, held_out: Measured, retention: Measured, beta: float
) -> list[RowScores]:
    """Every score that a result has, but of each row.

    Args:
        beta: of DPO's loss.
    """
    losses = preference_losses(before.margins, after.margins, beta)
    preferred = [float(margin > 0) for margin in after.margins]
    turns = [
        turned(*one) for one in zip(retention.asked, before.retention_answers, after.retention_answers, strict=True)
    ]
    answered = [None if turn is None else float(turn.after) for turn in turns]
    kept = [question.row for question in retention.asked]
    found = [
        _scores(held_out, "loss", held_out.rows, after.losses, after.tokens),
        _scores(held_out, "preference_loss", held_out.pairs, losses),
        _scores(held_out, "preference_accuracy", held_out.pairs, preferred),
        *_of_answers(held_out, after.answers),
        _scores(retention, "loss", retention.rows, after.retention_losses, after.retention_tokens),
        _scores(retention, "f1", kept, column(after.retention_answers, "f1")),
        _scores(retention, "answered", kept, answered),
    ]
    return [one for one in found if one.rows]


def _of_answers(measured: Measured, answers: Sequence[Answered]) -> Iterator[RowScores]:
    rows = [question.row for question in measured.asked]
    for name in AnswerScores.__struct_fields__:
        yield _scores(measured, name, rows, column(answers, name))


def _scores(
    measured: Measured,
    name: str,
    rows: Sequence[int],
    values: Sequence[float | None],
    weights: Sequence[int] | None = None,
) -> RowScores:
    """Those rows that have such a score."""
    found = [(row, value) for row, value in zip(rows, values, strict=True) if value is not None]
    return RowScores(
        name=name,
        of=measured.of,
        rows_of=measured.rows_of,
        rows=tuple(row for row, _ in found),
        values=tuple(value for _, value in found),
        weights=None if weights is None else tuple(map(float, weights)),
    )
