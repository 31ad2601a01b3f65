"""Which words speak for a label and which against it: logistic regression over sets of words, exact and without chance. Pure.

A few hundred examples need no library of hundreds of megabytes. The method is dual coordinate descent (Yu, Huang and Lin, "Dual
coordinate descent methods for logistic regression and maximum entropy models", Machine Learning 85, 2011), as in LIBLINEAR.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

COST = 1.0  # of errors against large weights; from 0.1 to 10 hardly anything changes on logs that were not learned from
_MAX_PASSES = 1_000  # about 50 are needed
_CLOSE = 1e-6  # of every margin


@dataclass(frozen=True, slots=True)
class Fit:
    """One weight per column, and where an example without columns stands."""

    weights: list[float]
    bias: float


def fit(rows: Sequence[Sequence[int]], labels: Sequence[bool], *, ease: Sequence[float]) -> Fit:
    """The weights with the least regularised loss; both labels count the same together, however rare one is.

    Args:
        rows: the columns that each example has. What they say is shared out over the root of their number, so that a long
            example does not shout.
        ease: how easily the weight of each column grows: the variance that is expected of it.
    """
    yes = sum(labels)
    cost = {True: COST * len(labels) / (2 * yes), False: COST * len(labels) / (2 * (len(labels) - yes))}
    examples = [
        _Example(row, 1.0 if label else -1.0, cost[label], ease) for row, label in zip(rows, labels, strict=True)
    ]
    weights, bias = [0.0] * len(ease), 0.0
    for example in examples:
        bias += example.move(weights, example.force)
    shuffle = random.Random(0).shuffle  # noqa: S311  in one fixed order it takes ten times as long, and this one is as fixed
    for _ in range(_MAX_PASSES):
        shuffle(examples)
        farthest = 0.0
        for example in examples:
            margin = example.sign * (bias + example.scale * sum([weights[column] for column in example.row]))
            farthest = max(farthest, abs(margin + example.pull))
            bias += example.settle(weights, margin)
        if farthest < _CLOSE:
            break
    return Fit(weights, bias)


class _Example:
    """One example, and how hard it pulls at the weights. `force` is `cost * sigmoid(pull)`; when all is settled, `pull` is the
    margin's negative."""

    __slots__ = ("_ease", "_give", "cost", "force", "pull", "row", "scale", "sign")

    def __init__(self, row: Sequence[int], sign: float, cost: float, ease: Sequence[float]) -> None:
        self.row, self.sign, self.cost = row, sign, cost
        self.scale = 1 / math.sqrt(len(row)) if row else 0.0
        self._ease = [ease[column] for column in row]
        self._give = 1 + self.scale**2 * sum(
            self._ease
        )  # how far a force of 1 moves the margin, by the bias and the weights
        self.pull, self.force = 0.0, cost / 2

    def move(self, weights: list[float], force: float) -> float:
        """Add so much force to the weights, and say what it adds to the bias."""
        step = force * self.sign * self.scale
        for column, ease in zip(self.row, self._ease, strict=True):
            weights[column] += step * ease
        return force * self.sign

    def settle(self, weights: list[float], margin: float) -> float:
        """Pull as hard as the margin deserves after the pull itself has moved it; what that adds to the bias."""
        self.pull = _root(margin - self._give * self.force, self._give * self.cost, self.pull)
        before, self.force = self.force, self.cost * _sigmoid(self.pull)
        return self.move(weights, self.force - before)


def _root(constant: float, slope: float, start: float) -> float:
    """Where `x + constant + slope * sigmoid(x)` is 0: by Newton's steps, and by halves where one would leave the bounds."""
    low, high = -constant - slope, -constant
    x = min(max(start, low), high)
    for _ in range(100):
        sigmoid = _sigmoid(x)
        error = x + constant + slope * sigmoid
        if error > 0:
            high = x
        else:
            low = x
        if abs(error) < _CLOSE / 100:
            break
        x -= error / (1 + slope * sigmoid * (1 - sigmoid))
        if not low < x < high:
            x = (low + high) / 2
    return x


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))
