"""Sketches of texts, by which those that say nearly the same are known from one another. Pure.

MinHash (A. Broder, "On the resemblance and containment of documents", 1997) over pairs of words, a byte of each minimum kept
(P. Li and A. C. König, "b-Bit Minwise Hashing", 2010). The same on every machine, by the same version of `rensa`.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from tunemill.schemas.sketch import SLOTS

_SEED = 42
_MIN_PAIRS = 16  # of fewer, one word is too much of the whole
_MAX_BYTES = 2**16  # of a text: what comes after decides hardly anything. And of texts at a time

Words = NDArray[np.uint64]
Sketches = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # (n, SLOTS), and which texts have one


def _powers(factor: int) -> Words:
    """The factor to the power of 0, 1, 2, ..., modulo 2**64."""
    factors = np.full(2 * _MAX_BYTES, factor, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


# A word's hash is the polynomial of its bytes (R. Karp, M. Rabin, "Efficient randomized pattern-matching algorithms", 1987): the sum
# over all bytes before its end less that before its start, shifted to the origin. So one pass of numpy finds those of many texts.
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
_POWERS = _powers(_BASE)
_INVERSES = _powers(pow(_BASE, -1, 2**64))
_MIX = np.uint64(0xBF58476D1CE4E5B9)  # of splitmix64


def sketches(texts: Iterable[str]) -> Sketches:
    """Each text's sketch, and whether it has one: of too little text there is none. Case and white space do not count."""
    found = [_sketches(chunk) for chunk in _chunks(map(_as_read, texts))]
    if not found:
        return np.empty((0, SLOTS), np.uint8), np.empty(0, np.bool_)
    return np.concatenate([sketch for sketch, _ in found]), np.concatenate([has for _, has in found])


def _as_read(text: str) -> bytes:
    """As much of it as is read, and one space behind it."""
    return text[:_MAX_BYTES].lower().encode(errors="replace")[: _MAX_BYTES - 1] + b" "


def _chunks(texts: Iterator[bytes]) -> Iterator[list[bytes]]:
    """The texts in order, so many at a time that their numbers stay near the processor."""
    chunk: list[bytes] = []
    size = 0
    for text in texts:
        if size + len(text) > _MAX_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def _sketches(texts: Sequence[bytes]) -> Sketches:
    pairs, counts = _pairs(texts)
    bounds = np.concatenate(([0], np.cumsum(counts)))
    rows = RMinHash.digest_matrix_from_flat_token_hashes(pairs, bounds.astype(np.uint64), SLOTS, _SEED).to_rows()
    return np.array(rows, np.uint32).astype(np.uint8), counts >= _MIN_PAIRS


def _pairs(texts: Sequence[bytes]) -> tuple[Words, NDArray[np.int64]]:
    """A hash of each two neighbouring words, those of all texts in order, and how many each text has."""
    read = np.frombuffer(b"".join(texts), np.uint8)
    sums = np.zeros(len(read) + 1, np.uint64)
    np.cumsum(read * _POWERS[: len(read)], out=sums[1:])
    ends = np.flatnonzero((read == ord(" ")) | (read - np.uint8(ord("\t")) <= 4))  # " \t\n\v\f\r"; below 9 it wraps
    starts = np.concatenate(([0], ends[:-1] + 1))
    is_word = ends > starts
    starts, ends = starts[is_word], ends[is_word]
    words = (sums[ends] - sums[starts]) * _INVERSES[starts]
    words = (words ^ (words >> np.uint64(32))) * _MIX
    before = np.searchsorted(starts, np.cumsum([len(text) for text in texts]))  # words up to the end of each text
    pairs = words[:-1] * np.uint64(_BASE) + words[1:]
    pairs = np.delete(pairs, before[(before > 0) & (before < len(words))] - 1)  # those of two texts
    return pairs ^ (pairs >> np.uint64(32)), np.maximum(np.diff(before, prepend=0) - 1, 0)
