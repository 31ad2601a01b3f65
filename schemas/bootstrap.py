"""How sure a change is: the paired bootstrap over rows (Efron 1979; Koehn 2004). Pure; numpy.

Both models are scored on the same rows, so a row is drawn with both its scores.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SURE_ROWS = 5  # fewer all change alike by chance in more than one case of twenty, and the bootstrap does not see it
_MOST_DRAWN = 5_000  # more rows are drawn in so many groups of neighbours, whose sums say as much
_NUMBERS_AT_ONCE = 2**22  # of row numbers drawn at a time: 32 MB
_TWO_SIDED = (2.5, 97.5)  # percent
_ONE_SIDED = 5.0

Floats = NDArray[np.float64]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A mean before and after, with what may be said of the change: a two-sided 95 % interval and a two-sided p."""

    rows: int
    before: float
    after: float
    change: float
    low: float
    high: float
    lower_bound: float  # one-sided 95 %
    upper_bound: float
    p: float


def paired(
    before: Sequence[float],
    after: Sequence[float],
    *,
    seed: int,
    weights: Sequence[float] | None = None,
    shown: Callable[[Floats], Floats] = np.asarray,
) -> Change | None:
    """The change of the mean; None without a row.

    Args:
        before: each row's value.
        after: the same rows' values of the other model.
        weights: each row's share in the mean, such as its trained tokens; None: alike. Values are sums over that weight.
        shown: what becomes of a mean before it is compared, such as `exp` for a perplexity.
    """
    weight = np.ones(len(before)) if weights is None else np.asarray(weights, dtype=np.float64)
    kept = weight > 0
    if not kept.any():
        return None
    weight = weight[kept]
    was, now = np.asarray(before, dtype=np.float64)[kept], np.asarray(after, dtype=np.float64)[kept]
    drawn = _drawn(np.stack([was, now, weight]), np.random.default_rng(seed))
    changes = shown(drawn[1] / drawn[2]) - shown(drawn[0] / drawn[2])
    mean_before, mean_after = (float(shown(np.asarray(value.sum() / weight.sum()))) for value in (was, now))
    low, high = np.percentile(changes, _TWO_SIDED)
    lower, upper = np.percentile(changes, (_ONE_SIDED, 100.0 - _ONE_SIDED))
    return Change(
        rows=int(kept.sum()),
        before=mean_before,
        after=mean_after,
        change=mean_after - mean_before,
        low=float(low),
        high=float(high),
        lower_bound=float(lower),
        upper_bound=float(upper),
        p=_p(changes),
    )


def _drawn(values: Floats, draw: np.random.Generator) -> Floats:
    """The sums over as many rows drawn with repetition, DRAWS times: (quantities, rows) -> (quantities, DRAWS)."""
    if values.shape[1] > _MOST_DRAWN:
        starts = np.linspace(0, values.shape[1], _MOST_DRAWN, endpoint=False).astype(np.int64)
        values = np.add.reduceat(values, starts, axis=1)
    rows = values.shape[1]
    at_once = max(1, _NUMBERS_AT_ONCE // rows)
    sums = [
        values[:, draw.integers(rows, size=(min(at_once, DRAWS - done), rows))].sum(axis=2)
        for done in range(0, DRAWS, at_once)
    ]
    return np.concatenate(sums, axis=1)


def _p(changes: Floats) -> float:
    """How often chance alone would do as much, either way; never 0, for so many draws cannot tell (Davison & Hinkley 1997)."""
    tail = min(int((changes <= 0).sum()), int((changes >= 0).sum()))
    return min(1.0, 2.0 * (tail + 1) / (DRAWS + 1))
