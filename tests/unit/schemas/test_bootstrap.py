"""The paired bootstrap: what is sure, what is luck, and whether its interval holds what it promises."""

import numpy as np
import pytest

from tunemill.schemas.bootstrap import paired


def test_a_sure_gain_and_noise_are_told_apart() -> None:
    before = [0.2 + 0.01 * (i % 7) for i in range(40)]
    sure = paired(before, [value + 0.3 + 0.01 * (i % 3) for i, value in enumerate(before)], seed=0)
    noise = paired(before, [value + (0.3 if i % 2 else -0.3) for i, value in enumerate(before)], seed=0)

    assert sure is not None
    assert noise is not None
    assert sure.p < 0.01 < 0.3 < noise.p
    assert 0 < sure.low <= sure.change <= sure.high
    assert noise.low < 0 < noise.high


def test_a_gain_of_one_row_alone_is_not_sure() -> None:
    found = paired([20.0] * 20, [20.0] * 19 + [5.0], weights=[10] * 20, seed=0)

    assert found is not None
    assert found.change < 0 <= found.upper_bound


def test_pairs_count_and_not_the_spread_between_rows() -> None:
    before = [float(i) for i in range(30)]
    found = paired(before, [value + 0.5 for value in before], seed=0)

    assert found is not None
    assert [found.low, found.high] == pytest.approx([0.5, 0.5])


def test_a_row_counts_by_its_weight_and_one_without_weight_not_at_all() -> None:
    found = paired([10.0, 40.0, 99.0], [10.0, 20.0, 0.0], weights=[10, 10, 0], seed=0)

    assert found is not None
    assert (found.rows, found.before, found.after, found.change) == (2, 2.5, 1.5, -1.0)
    assert paired([1.0], [2.0], weights=[0], seed=0) is None
    assert paired([], [], seed=0) is None


def test_a_change_is_that_of_what_is_shown() -> None:
    found = paired([2.0, 2.0], [1.0, 1.0], shown=np.exp, seed=0)

    assert found is not None
    assert found.change == pytest.approx(np.exp(1) - np.exp(2))
    assert found.low == pytest.approx(found.change)


def test_no_change_is_no_evidence() -> None:
    found = paired([1.0, 0.0], [1.0, 0.0], seed=0)

    assert found is not None
    assert (found.change, found.p) == (0.0, 1.0)


def test_the_interval_holds_the_true_change_about_as_often_as_it_says() -> None:
    made = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        before = made.normal(size=60)
        found = paired(before, before + made.normal(0.3, 0.5, size=60), seed=seed)  # type: ignore[arg-type]
        assert found is not None
        held += found.low <= 0.3 <= found.high

    assert 0.90 <= held / 200 <= 0.99


def test_the_draws_are_those_of_the_seed() -> None:
    before, after = [0.0] * 31, [i**0.5 for i in range(31)]

    assert paired(before, after, seed=1) == paired(before, after, seed=1)
    assert paired(before, after, seed=1) != paired(before, after, seed=2)


def test_of_very_many_rows_the_interval_is_that_of_a_normal_mean() -> None:
    rows = 100_001
    draw = np.random.default_rng(3)
    change = draw.normal(0.1, 2.0, rows)
    found = paired(np.zeros(rows).tolist(), change.tolist(), seed=0)

    assert found is not None
    assert found.rows == rows
    half = 1.96 * 2.0 / rows**0.5
    assert (found.change - found.low, found.high - found.change) == pytest.approx((half, half), rel=0.06)
