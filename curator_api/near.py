"""Which rows say nearly the same: by their sketches, compared where they share a band of bytes. Pure.

What is compared is what was asked last and what is answered, as in `quality:near-duplicate` of a log.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.facts import Sketches
from tunemill.curator_api.joined import Places, join
from tunemill.curator_api.rows import Row
from tunemill.schemas.sketch import SLOTS
from tunemill.schemas.sketching import sketches as sketches_of_texts

DIVERSE = 0.8  # the similarity from which rows are of one cluster for `diverse`
MOST_COMPARED = 64  # of the next in a bucket; and the first
_LEAST_RECALL = 0.97
_WIDTHS = (4, 3, 2)  # bytes of a band; the narrower, the more is compared
_PAIRS = 2**15  # compared at a time: 6 MB
_MOST_FOUND = 2**20  # pairs that wait for being joined


class Bands(NamedTuple):
    """How sketches are cut."""

    width: int  # bytes
    number: int
    recall: float  # the share of pairs that are just as alike as asked for and share a band


class Clusters(NamedTuple):
    """Rows that are alike, directly or through others."""

    firsts: Places  # of each row the first one of its cluster, often itself
    bands: Bands
    crowded: int  # buckets too large for all pairs in them to be compared


def sketches(rows: Sequence[Row]) -> Sketches:
    """The rows' sketches, and which rows have one: of too few words there is none."""
    return sketches_of_texts(map(_text, rows))


def bands(similarity: float) -> Bands:
    """The widest bands by which enough pairs of this similarity are found."""
    same = _same_byte(similarity)
    for width in _WIDTHS:
        count = SLOTS // width
        recall = 1 - (1 - same**width) ** count
        if recall >= _LEAST_RECALL:
            break
    return Bands(width, count, recall)


def clusters(sketch: NDArray[np.uint8], rows: Places, similarity: float) -> Clusters:
    """Which of these rows are alike: all that are joined by pairs of at least this similarity.

    One band at a time: what it takes is a few numbers a row. In another order they have the same clusters, but the first of each
    is the first of that order.

    Args:
        sketch: of every row there is.
        rows: which of them, in order.
    """
    cut = bands(similarity)
    least = math.ceil(SLOTS * _same_byte(similarity) - 1e-9)
    firsts = np.arange(len(rows))
    crowded = 0
    for number in range(cut.number):
        buckets = _Buckets(sketch, rows, cut.width, number)
        crowded += buckets.crowded
        found: list[tuple[Places, Places]] = []
        for ones, others in buckets.pairs():
            found += _alike(sketch, rows, ones, others, firsts=firsts, least=least)
            if sum(len(one) for one, _ in found) > _MOST_FOUND:
                _join_all(firsts, found)
        _join_all(firsts, found)
    return Clusters(firsts, cut, crowded)


def _alike(
    sketch: NDArray[np.uint8], rows: Places, ones: Places, others: Places, *, firsts: Places, least: int
) -> Iterator[tuple[Places, Places]]:
    """Of these pairs those that have at least so many bytes in common; not those that are of one cluster already."""
    apart = firsts[ones] != firsts[others]
    ones, others = ones[apart], others[apart]
    for at in range(0, len(ones), _PAIRS):
        one, other = ones[at : at + _PAIRS], others[at : at + _PAIRS]
        same = np.count_nonzero(sketch[rows[one]] == sketch[rows[other]], axis=1) >= least
        if same.any():
            yield one[same], other[same]


def _join_all(firsts: Places, found: list[tuple[Places, Places]]) -> None:
    """Join these pairs, and forget them. It looks at all rows, so that it is not done for a few pairs."""
    if found:
        join(firsts, np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found]))
    found.clear()


def _same_byte(similarity: float) -> float:
    """The share of bytes that are the same in sketches of texts that are as alike: unlike ones are by chance."""
    return similarity + (1 - similarity) / 256


class _Buckets:
    """The rows in order of a band and of what follows it, so that those that share it stand together, the likest side by side."""

    def __init__(self, sketch: NDArray[np.uint8], rows: Places, width: int, number: int) -> None:
        keys = np.zeros(len(rows), np.uint64)
        for slot in range(number * width, number * width + 8):
            keys = (keys << np.uint64(8)) | sketch[rows, slot % SLOTS]
        self._order = np.argsort(keys, kind="stable")
        band = keys[self._order] >> np.uint64(8 * (8 - width))
        shares = np.flatnonzero(band[1:] == band[:-1])  # with the one after it
        begins = np.flatnonzero(np.concatenate(([True], np.diff(shares) != 1)))[: len(shares)]
        after = np.diff(np.append(begins, len(shares)))  # how many come after the first of each bucket
        self._places = shares
        self._left = np.repeat(shares[begins] + after, after) - shares  # how many come after each in its bucket
        large = after > MOST_COMPARED
        self._large = list(zip(shares[begins][large].tolist(), after[large].tolist(), strict=True))
        self.crowded = len(self._large)

    def pairs(self) -> Iterator[tuple[Places, Places]]:
        """Each row with the next of its bucket; each with the second next, and so on; in a crowded one each with the first."""
        at, left = self._places, self._left
        for step in range(1, MOST_COMPARED + 1):
            at, left = at[left >= step], left[left >= step]
            if not len(at):
                break
            yield self._order[at], self._order[at + step]
        for start, after in self._large:
            yield np.full(after, self._order[start]), self._order[start + 1 : start + after + 1]


def _text(row: Row) -> str:
    """What the user said last, and what is answered, better and worse."""
    asked = next((message for message in reversed(row.messages[:-1]) if message.role == "user"), None)
    said = [asked.content] if asked and asked.content else []
    for message in (*row.messages[-1:], *row.rejected):
        if message.content:
            said.append(message.content)
        for call in message.tool_calls:
            said += call.name, call.arguments
    return "\n".join(said)
