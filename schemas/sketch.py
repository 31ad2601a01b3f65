"""Sketches of logs: how alike two are, and the runs of bytes that alike ones share. Pure; made in `schemas/sketching.py`.

Locality-sensitive hashing: two sketches that are alike share a run of bytes somewhere (J. Leskovec, A. Rajaraman, J. D. Ullman,
"Mining of Massive Datasets", section 3.4).
"""

from struct import Struct

SLOTS = 64  # bytes of a sketch; the error of a similarity is about 0.05
MIN_SIMILARITY = 0.8  # of near-duplicates
BANDS = Struct("<8I")  # the first half of a sketch: of logs as alike as asked for, 98 in 100 share one of them
_BAND_DIGITS = 8  # hexadecimal
_PLACES = tuple((f"{at}:", slice(_BAND_DIGITS * at, _BAND_DIGITS * (at + 1))) for at in range(BANDS.size // 4))
_CHANCE = 1 / 256  # that two unlike bytes are the same


def similarity(sketch: bytes, other: bytes) -> float:
    """An estimate of Jaccard's similarity of the pairs of words behind two sketches: 1 for the same, 0 for unlike."""
    unlike = int.from_bytes(sketch) ^ int.from_bytes(other)  # a zero byte where they are the same
    share = unlike.to_bytes(SLOTS).count(0) / SLOTS
    return max(0.0, (share - _CHANCE) / (1 - _CHANCE))


def band_terms(fingerprint: str) -> tuple[str, ...]:
    """The runs of a sketch in hexadecimal text, each with its place: what an index finds alike logs by."""
    return tuple([place + fingerprint[digits] for place, digits in _PLACES])
