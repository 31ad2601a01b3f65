"""Logistic regression finds the one place where its loss is least."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunemill.streams.logistic import COST, Fit, fit


def slope(found: Fit, rows: Sequence[Sequence[int]], labels: Sequence[bool], ease: Sequence[float]) -> float:
    """How steep `sum of w^2 / ease / 2 + bias^2 / 2 + sum of cost * log(1 + exp(-margin))` is: 0 only where it is least."""
    gradient = [weight / each for weight, each in zip(found.weights, ease, strict=True)]
    by_bias = found.bias
    for row, label in zip(rows, labels, strict=True):
        sign = 1 if label else -1
        scale = 1 / math.sqrt(len(row)) if row else 0
        margin = sign * (found.bias + scale * sum(found.weights[column] for column in row))
        pull = COST * len(labels) / (2 * labels.count(label)) / (1 + math.exp(margin)) * sign
        for column in row:
            gradient[column] -= pull * scale
        by_bias -= pull
    return max(map(abs, [*gradient, by_bias]))


def some_rows(seed: int, count: int, columns: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [chance.sample(range(columns), chance.randint(0, columns // 2)) for _ in range(count)]


@pytest.mark.parametrize(("seed", "count", "rarer"), [(1, 20, 10), (2, 60, 20), (3, 300, 9)])
def test_the_loss_is_nowhere_less(seed: int, count: int, rarer: int) -> None:
    rows, labels = some_rows(seed, count, 30), [number < rarer for number in range(count)]
    ease = [1 + column % 7 for column in range(30)]
    assert slope(fit(rows, labels, ease=ease), rows, labels, ease) < 1e-4


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 5)), st.booleans()), min_size=2, max_size=25).filter(
        lambda drawn: len({label for _, label in drawn}) == 2
    )
)
def test_it_ends_at_the_least_loss_whatever_the_examples(drawn: list[tuple[set[int], bool]]) -> None:
    rows, labels = [sorted(columns) for columns, _ in drawn], [label for _, label in drawn]
    ease = [1, 1, 0.1, 2, 30, 30]
    assert slope(fit(rows, labels, ease=ease), rows, labels, ease) < 1e-3


def test_a_word_that_only_those_with_the_tag_have_speaks_for_it() -> None:
    found = fit([[0, 2], [0], [1, 2], [1]], [True, True, False, False], ease=[4, 4, 4])
    assert found.weights[0] > 0.5
    assert found.weights[1] < -0.5
    assert found.weights[2] == pytest.approx(0, abs=1e-3)


def test_a_rare_label_counts_as_much_as_a_frequent_one() -> None:
    found = fit([[]] * 11, [True, *[False] * 10], ease=[])
    assert found.bias == pytest.approx(0, abs=1e-5)
