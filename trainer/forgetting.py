"""What was forgotten, in numbers and in words: the retention set before and after, by loss and by its questions. Pure.

And what was learned of it, which is told alike: a model that loses and learns as much has changed, and has not forgotten.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tunemill.schemas.bootstrap import Change, paired
from tunemill.trainer.question import Question
from tunemill.trainer.score import Answered, Scores, mean_loss
from tunemill.trainer.slices import OTHERS, largest

_F1 = 0.5  # of a question without accepted answers


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """The retention rows of one topic."""

    topic: str
    rows: int
    could: int  # questions that were answered before
    lost: int  # of these, no longer
    could_not: int  # questions that were not
    learned: int  # of these, since
    loss_before: float | None  # nats per token
    loss_after: float | None


class Forgetting(msgspec.Struct, frozen=True, kw_only=True):
    """What the retention set says."""

    loss: Change | None  # nats per token
    f1: Change | None
    answered: Change | None  # share of the questions that are not open
    rows: int  # questions
    open_rows: int  # of these, questions that no answer is right or wrong to: only their loss tells
    could: int
    lost_rows: int
    learned_rows: int
    by_topic: list[Topic]
    says: list[str]


class Turn(NamedTuple):
    """Whether a question was answered before, and whether it is after."""

    before: bool
    after: bool

    @property
    def lost(self) -> bool:
        """It could be answered, and no longer can."""
        return self.before and not self.after

    @property
    def learned(self) -> bool:
        """It could not be answered, and now can."""
        return self.after and not self.before


class _Row(NamedTuple):
    topic: str
    before: float  # nats over the row's trained tokens
    after: float
    tokens: int


class _Asked(NamedTuple):
    topic: str
    turn: Turn


def forgetting(
    before: Scores, after: Scores, *, row_topics: Sequence[str], questions: Sequence[Question], seed: int
) -> Forgetting:
    """Compare two models on the retention set.

    Args:
        row_topics: of each row whose loss was measured, "" where it names none.
        questions: those that were asked.
    """
    losses, weights = (before.retention_losses, after.retention_losses), before.retention_tokens
    shown = largest(row_topics)
    called = dict(zip(row_topics, shown, strict=True))
    rows = [_Row(*row) for row in zip(shown, *losses, weights, strict=True)]
    answers = list(zip(questions, before.retention_answers, after.retention_answers, strict=True))
    asked = [
        _Asked(called[question.topic], turn)
        for question, was, now in answers
        if (turn := turned(question, was, now)) is not None
    ]
    names = sorted({row.topic for row in rows} - {""}, key=lambda topic: (topic == OTHERS, topic))
    topics = [_topic(topic, rows, asked) for topic in names]
    turns = [one.turn for one in asked]
    loss = paired(*losses, weights=weights, seed=seed)
    return Forgetting(
        loss=loss,
        f1=paired([was.scores.f1 for _, was, _ in answers], [now.scores.f1 for _, _, now in answers], seed=seed),
        answered=paired([turn.before for turn in turns], [turn.after for turn in turns], seed=seed),
        rows=len(answers),
        open_rows=len(answers) - len(asked),
        could=sum(turn.before for turn in turns),
        lost_rows=sum(turn.lost for turn in turns),
        learned_rows=sum(turn.learned for turn in turns),
        by_topic=topics,
        says=[*_loss_says(loss), *_questions_say(turns, topics)],
    )


def turned(question: Question, was: Answered, now: Answered) -> Turn | None:
    """Whether two models answer a question; None of an open one.

    Without accepted answers the word F1 tells: from 0.5 on it is answered, and that changes with a fall or rise of 0.5.
    """
    if question.accepted is None:
        could, rise = was.scores.f1 >= _F1, now.scores.f1 - was.scores.f1
        return Turn(could, rise > -_F1 if could else rise >= _F1)
    before, after = question.is_right(was.text), question.is_right(now.text)
    return None if before is None or after is None else Turn(before, after)


def _topic(topic: str, rows: Sequence[_Row], asked: Sequence[_Asked]) -> Topic:
    of_it = [row for row in rows if row.topic == topic]
    turns = [one.turn for one in asked if one.topic == topic]
    tokens = [row.tokens for row in of_it]
    return Topic(
        topic=topic,
        rows=len(of_it),
        could=sum(turn.before for turn in turns),
        lost=sum(turn.lost for turn in turns),
        could_not=sum(not turn.before for turn in turns),
        learned=sum(turn.learned for turn in turns),
        loss_before=mean_loss([row.before for row in of_it], tokens),
        loss_after=mean_loss([row.after for row in of_it], tokens),
    )


def _loss_says(loss: Change | None) -> list[str]:
    if loss is None:
        return ["No retention rows: forgetting was not measured."]
    sure = "rose" if loss.low > 0 else "fell" if loss.high < 0 else "did not surely change"
    interval = f"95 % interval {loss.low:+.3f} to {loss.high:+.3f}"
    return [f"The loss on {loss.rows} general rows {sure}: {loss.change:+.3f} nats per token ({interval})."]


def _questions_say(turns: Sequence[Turn], topics: Sequence[Topic]) -> list[str]:
    if not turns:
        return []
    could = sum(turn.before for turn in turns)
    lost, learned = sum(turn.lost for turn in turns), sum(turn.learned for turn in turns)
    if not could:
        says = f"None of {len(turns)} general questions could be answered before: of forgetting only the loss tells."
    elif not lost:
        says = f"Of {could} general questions that it could answer none is lost."
    else:
        most = _most([(topic.topic, topic.lost, topic.could) for topic in topics], lost)
        says = f"{lost} of {could} general questions that it could answer {_are(lost)} lost{most}."
    if not learned:
        return [says]
    most = _most([(topic.topic, topic.learned, topic.could_not) for topic in topics], learned)
    return [says, f"{learned} of {len(turns) - could} that it could not answer {_are(learned)} learned{most}."]


def _most(topics: Sequence[tuple[str, int, int]], total: int) -> str:
    """The topic that most of them are of, if there is one."""
    name, count, of = max(topics, key=lambda topic: topic[1], default=("", 0, 0))
    return f", most of them {name} ({count} of {of})" if count * 2 > total and name != OTHERS else ""


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
