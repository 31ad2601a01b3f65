"""Scores: of one answer against the expected one, and of a model, row by row. Pure; no torch."""

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from tunemill.trainer import texts
from tunemill.trainer.calls import Call, call_share, equal, name_share, written_calls

LARGEST_EXPONENT = 700.0  # nats; e to somewhat more is no float any more


class AnswerScores(msgspec.Struct, frozen=True, kw_only=True):
    """One answer's scores, each 0 to 1 but the length; None where the expected answer has nothing of the kind."""

    exact_match: float
    f1: float
    rouge_l: float
    chrf: float
    json_valid: float | None
    json_fields: float | None
    call_name: float | None
    call_arguments: float | None
    stop_rate: float
    length_tokens: float


class Answered(msgspec.Struct, frozen=True):
    """What a model wrote, and how good it is."""

    text: str
    scores: AnswerScores


class Scores(msgspec.Struct, frozen=True):
    """One model's scores, row by row so that two models can be compared in pairs."""

    losses: tuple[float, ...]  # per held-out row: the sum over its trained tokens, in nats
    tokens: tuple[int, ...]
    retention_losses: tuple[float, ...]
    retention_tokens: tuple[int, ...]
    answers: tuple[Answered, ...]  # per question
    retention_answers: tuple[Answered, ...]
    margins: tuple[float, ...] = ()  # per held-out pair: how much likelier the better answer is, in nats

    def summary(self) -> dict[str, float | None]:
        """The scores as one number each."""
        loss = mean_loss(self.losses, self.tokens)
        of_answers = {name: mean(column(self.answers, name)) for name in AnswerScores.__struct_fields__}
        perplexity = None if loss is None else math.exp(min(loss, LARGEST_EXPONENT))
        return {"loss": loss, "perplexity": perplexity, **of_answers}

    def retention(self) -> float | None:
        """Loss per token on the retention set, in nats."""
        return mean_loss(self.retention_losses, self.retention_tokens)


def preference_losses(before: Sequence[float], after: Sequence[float], beta: float) -> list[float]:
    """DPO's loss of each pair, in nats: log 2 while the model is the base model, less as it prefers the better answer more."""
    gains = [beta * (now - was) for was, now in zip(before, after, strict=True)]
    return [max(-gain, 0.0) + math.log1p(math.exp(-abs(gain))) for gain in gains]


def column(answers: Sequence[Answered], name: str) -> list[float | None]:
    """One score of each answer."""
    return [getattr(answer.scores, name) for answer in answers]


def scores_of(expected: str, calls: Sequence[Call], answer: str, *, stopped: bool, length_tokens: int) -> AnswerScores:
    """Score one answer.

    Args:
        calls: the tool calls that are expected; they come from the row, not from its text.
        stopped: whether the answer ended by itself.
    """
    written = written_calls(answer) if calls else ()
    return AnswerScores(
        exact_match=float(exact_match(expected, answer)),
        f1=texts.word_f1(expected, answer),
        rouge_l=texts.rouge_l(expected, answer),
        chrf=texts.chrf(expected, answer),
        json_valid=None if calls else json_valid(expected, answer),
        json_fields=None if calls else json_fields(expected, answer),
        call_name=name_share(calls, written),
        call_arguments=call_share(calls, written),
        stop_rate=float(stopped),
        length_tokens=float(length_tokens),
    )


def exact_match(expected: str, answer: str) -> bool:
    """Whether the answer is the expected one, white space at its ends aside."""
    return expected.strip() == answer.strip()


def json_valid(expected: str, answer: str) -> float | None:
    """Whether the answer is a JSON object or list where one is expected; None if none is."""
    return float(_json_value(answer) is not None) if _json_value(expected) is not None else None


def json_fields(expected: str, answer: str) -> float | None:
    """The share of the expected JSON object's fields that the answer has with equal values; None if no object is expected."""
    wanted, got = _json_value(expected), _json_value(answer)
    if not isinstance(wanted, dict) or not wanted:
        return None
    right = [key for key, value in wanted.items() if isinstance(got, dict) and key in got and equal(got[key], value)]
    return len(right) / len(wanted)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are there; None of nothing."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def mean_loss(sums: Sequence[float], tokens: Sequence[int]) -> float | None:
    """Nats per trained token over all rows; None without a token."""
    return sum(sums) / sum(tokens) if sum(tokens) else None


def share(values: Sequence[bool]) -> float | None:
    """The share that is true; None of nothing."""
    return sum(values) / len(values) if values else None


def _json_value(text: str) -> dict[str, Any] | list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None
