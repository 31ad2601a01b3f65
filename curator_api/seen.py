"""Which logs and rows gave a row to an earlier ingredient, and which it left out: each counts for the first. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.facts import hashes
from tunemill.curator_api.filters import Outcome
from tunemill.curator_api.rows import Left, Row


class Seen:
    """What came of the ingredients so far. One that gave no row of a log leaves it to those after it."""

    def __init__(self, *, ingredients: int) -> None:
        self._to_come = ingredients  # what the last one finds is not kept
        self._taken, self._left = _Keys(), _Keys()

    def next_ingredient(self) -> None:
        """What was met until now was met before."""
        self._taken.settle()
        self._left.settle()
        self._to_come -= 1

    def fresh(self, keys: Sequence[str]) -> list[bool]:
        """Whether no earlier ingredient has a row of each of these logs, or this row."""
        return [not is_held for is_held in self._taken.held(keys)]

    def counted(self, page: Sequence[Outcome]) -> list[Outcome]:
        """Take note of what an ingredient gives; without what an earlier one left out already."""
        left = [one.row_key for one in page if isinstance(one, Left)]
        again = iter(self._left.held(left))
        if self._to_come > 0:
            self._taken.add([key for one in page if not isinstance(one, Left) for key in _keys(one)])
            self._left.add(left)
        return [one for one in page if not (isinstance(one, Left) and next(again))]


def _keys(row: Row) -> tuple[str, ...]:
    """What the row stands for: itself, or both logs of a pair."""
    return (row.row_key, *row.log_ids) if row.rejected else (row.row_key,)


class _Keys:
    """Keys by 64 bits of their digests, 8 bytes each, so that millions fit in memory."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._now: list[NDArray[np.uint64]] = []

    def add(self, keys: Sequence[str]) -> None:
        """Take them in; they are held once this is settled."""
        self._now.append(hashes(keys))

    def settle(self) -> None:
        """From now on all that was added is held."""
        self._before = np.unique(np.concatenate([self._before, *self._now]))
        self._now = []

    def held(self, keys: Sequence[str]) -> list[bool]:
        """Whether each of these is among them."""
        if not len(self._before):
            return [False] * len(keys)
        found = hashes(keys)
        places = np.minimum(np.searchsorted(self._before, found), len(self._before) - 1)
        held: list[bool] = (self._before[places] == found).tolist()
        return held
