"""Scores from answers and losses. Pure; no torch."""

import json
import random
from collections.abc import Sequence
from typing import Any

_RESAMPLES = 2000
_LOWER_SHARE = 0.05  # a one-sided 95 % bound


def exact_match(expected: str, answer: str) -> bool:
    """Whether the answer is the expected one, white space at its ends aside."""
    return expected.strip() == answer.strip()


def json_fields(expected: str, answer: str) -> float | None:
    """The share of the expected JSON object's fields that the answer has with equal values; None if no object is expected."""
    wanted, got = _json_object(expected), _json_object(answer)
    if not wanted:
        return None
    right = [key for key, value in wanted.items() if got and key in got and got[key] == value]
    return len(right) / len(wanted)


def share(values: Sequence[bool]) -> float | None:
    """The share that is true; None of nothing."""
    return sum(values) / len(values) if values else None


def mean_loss(sums: Sequence[float], tokens: Sequence[int]) -> float | None:
    """Nats per trained token over all rows; None without a token."""
    return sum(sums) / sum(tokens) if sum(tokens) else None


def gain_lower_bound(
    before: Sequence[float], after: Sequence[float], tokens: Sequence[int], *, seed: int
) -> float | None:
    """A lower bound (one-sided 95 %) of the fall in loss per token, by the paired bootstrap over rows.

    Both models are scored on the same rows, so rows are drawn with both their scores (Efron, 1979; Koehn, 2004).

    Args:
        before: each row's loss, summed over its trained tokens, in nats.
        after: the same of the tuned model.
    """
    rows = [(b - a, n) for b, a, n in zip(before, after, tokens, strict=True) if n]
    if not rows:
        return None
    draw = random.Random(seed)  # noqa: S311  # statistics, not a secret
    gains = []
    for _ in range(_RESAMPLES):
        drawn = draw.choices(rows, k=len(rows))
        gains.append(sum(gain for gain, _ in drawn) / sum(n for _, n in drawn))
    return sorted(gains)[int(_LOWER_SHARE * _RESAMPLES)]


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
