"""Which logs and rows an earlier ingredient has met already: each counts for the first that finds it. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.facts import hashes


class Seen:
    """Keys by 64 bits of their digests, 8 bytes each, so that millions fit in memory."""

    def __init__(self, *, ingredients: int) -> None:
        self._left = ingredients  # that are still to come: what the last one finds is not kept
        self._before: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._now: list[NDArray[np.uint64]] = []

    def next_ingredient(self) -> None:
        """What was met until now was met before."""
        self._before = np.sort(np.concatenate([self._before, *self._now]))
        self._now, self._left = [], self._left - 1

    def fresh(self, keys: Sequence[str]) -> list[bool]:
        """Whether each of these keys was met by no earlier ingredient; from now on it was, by this one."""
        if not len(self._before) and self._left <= 0:
            return [True] * len(keys)
        found = hashes(keys)
        if self._left > 0:
            self._now.append(found)
        places = np.searchsorted(self._before, found)
        return [
            place == len(self._before) or bool(self._before[place] != one)
            for place, one in zip(places.tolist(), found, strict=True)
        ]
