"""What was forgotten, in numbers and in words: the retention set before and after, by loss and by its questions. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tunemill.trainer.bootstrap import Change, paired
from tunemill.trainer.score import Scores, column, mean_loss

_COULD = 0.5  # the word F1 from which on a question counts as answered
_LOST = 0.5  # the fall of it from which on an answered question counts as lost


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """The retention rows of one topic."""

    topic: str
    rows: int
    could: int  # questions that were answered before
    lost: int  # of these, no longer
    loss_before: float | None  # nats per token
    loss_after: float | None


class Forgetting(msgspec.Struct, frozen=True, kw_only=True):
    """What the retention set says."""

    loss: Change | None  # nats per token
    f1: Change | None
    rows: int  # questions
    could: int
    lost_rows: int
    by_topic: list[Topic]
    says: list[str]


class _Row(NamedTuple):
    topic: str
    before: float  # nats over the row's trained tokens
    after: float
    tokens: int


class _Asked(NamedTuple):
    topic: str
    could: bool
    lost: bool


def forgetting(
    before: Scores, after: Scores, *, row_topics: Sequence[str], question_topics: Sequence[str], seed: int
) -> Forgetting:
    """Compare two models on the retention set.

    Args:
        row_topics: of each row whose loss was measured, "" where it names none.
        question_topics: of each question that was asked.
    """
    losses = (row_topics, before.retention_losses, after.retention_losses, before.retention_tokens)
    rows = [_Row(*row) for row in zip(*losses, strict=True)]
    loss = paired([row.before for row in rows], [row.after for row in rows], weights=losses[3], seed=seed)
    was, now = (_f1(scores) for scores in (before, after))
    asked = [
        _Asked(topic, earlier >= _COULD, earlier >= _COULD and earlier - later >= _LOST)
        for topic, earlier, later in zip(question_topics, was, now, strict=True)
    ]
    topics = [_topic(topic, rows, asked) for topic in sorted({row.topic for row in rows} - {""})]
    could, lost = sum(one.could for one in asked), sum(one.lost for one in asked)
    return Forgetting(
        loss=loss,
        f1=paired(was, now, seed=seed),
        rows=len(asked),
        could=could,
        lost_rows=lost,
        by_topic=topics,
        says=[*_loss_says(loss), *_questions_say(len(asked), could, lost, topics)],
    )


def _topic(topic: str, rows: Sequence[_Row], asked: Sequence[_Asked]) -> Topic:
    of_it = [row for row in rows if row.topic == topic]
    questions = [one for one in asked if one.topic == topic]
    tokens = [row.tokens for row in of_it]
    return Topic(
        topic=topic,
        rows=len(of_it),
        could=sum(one.could for one in questions),
        lost=sum(one.lost for one in questions),
        loss_before=mean_loss([row.before for row in of_it], tokens),
        loss_after=mean_loss([row.after for row in of_it], tokens),
    )


def _f1(scores: Scores) -> list[float]:
    return [value for value in column(scores.retention_answers, "f1") if value is not None]


def _loss_says(loss: Change | None) -> list[str]:
    if loss is None:
        return ["No retention rows: forgetting was not measured."]
    sure = "rose" if loss.low > 0 else "fell" if loss.high < 0 else "did not surely change"
    interval = f"95 % interval {loss.low:+.3f} to {loss.high:+.3f}"
    return [f"The loss on {loss.rows} general rows {sure}: {loss.change:+.3f} nats per token ({interval})."]


def _questions_say(rows: int, could: int, lost: int, topics: Sequence[Topic]) -> list[str]:
    if not rows:
        return []
    if not could:
        return [f"None of {rows} general questions could be answered before: of forgetting only the loss tells."]
    if not lost:
        return [f"Of {could} general questions that it could answer none is lost."]
    worst = max(topics, key=lambda topic: topic.lost, default=None)
    most = f", most of them {worst.topic} ({worst.lost} of {worst.could})" if worst and worst.lost * 2 > lost else ""
    are = "is" if lost == 1 else "are"
    return [f"{lost} of {could} general questions that it could answer {are} lost{most}."]
