"""What is decided by of each row, in columns: a few dozen bytes a row, so that millions fit in memory. Pure."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.rows import Row

SLOTS = 64  # bytes of a sketch
_SPARE = 16  # a column that is full grows by this part of itself
_SLICE = "slice:"
T = TypeVar("T", bound=np.generic)
ABSENT = "none"  # a slice's value of a row that has none

Sketches = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # (n, SLOTS), and which rows have one
Digests = tuple[bytes, bytes]  # as `Row.digests` gives them
Codes = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a row, in the order in which the rows came. A u64 of a text is the first 8 bytes of its SHA-256."""

    row_id: NDArray[
        np.uint64
    ]  # (n, 2): of the digest's first 16 bytes, which no two rows share that say different things
    key: NDArray[np.uint64]  # of row_key
    of_log: NDArray[np.bool_]  # whether that is the log_id of a log that the row was made of
    conversation: NDArray[np.uint64]  # its digest's first 8 bytes
    ingredient: Codes
    ts_ms: NDArray[np.int64]  # 0: none
    held_out: NDArray[np.bool_]  # by the set that a row is of
    slices: dict[str, Codes]  # places in `values`
    values: dict[str, tuple[str, ...]]
    sketch: NDArray[np.uint8] | None  # (n, SLOTS)
    has_sketch: NDArray[np.bool_]
    log_keys: NDArray[np.uint64]  # of every other log that a row was made of
    log_rows: NDArray[np.uint32]  # the row of each
    joined: NDArray[np.uint64]  # conversations that are one with a row's own
    joined_rows: NDArray[np.uint32]  # the row of each
    draw: NDArray[np.uint64]  # what is drawn for a row, and how ties are broken, is made of it and of the seed
    seed: np.uint64  # of the text of the seed


class _Column:
    """A column as it grows in place, so that it is never in memory twice."""

    __slots__ = ("_array", "_used")

    def __init__(self, begun: NDArray[Any]) -> None:
        self._array = begun.copy()
        self._used = len(begun)

    def extend(self, values: NDArray[Any]) -> None:
        """Add entries; the column is as wide as the widest of them."""
        whole = self._used + len(values)
        if values.itemsize > self._array.itemsize:
            self._array = self._array.astype(values.dtype)
        if whole > len(self._array):
            self._array.resize((whole + whole // _SPARE, *self._array.shape[1:]), refcheck=False)
        self._array[self._used : whole] = values
        self._used = whole

    def taken(self) -> NDArray[Any]:
        """What was added. Nothing can be added any more."""
        self._array.resize((self._used, *self._array.shape[1:]), refcheck=False)
        return self._array


class Facts:
    """The columns as they grow, a page of rows at a time."""

    __slots__ = ("_codes", "_columns", "_rows", "_seed")

    def __init__(self, *, seed: int, slices: Sequence[str]) -> None:
        self._seed = seed
        self._codes: dict[str, dict[str, int]] = {name: {} for name in slices}
        self._columns: dict[str, _Column] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add_page(self, rows: Sequence[Row], sketches: Sketches | None = None) -> list[Digests]:
        """Take in the next rows; gives their digests.

        Args:
            sketches: of these rows; given for every page or for none.
        """
        logs = [
            (_u64(log_id), self._rows + i)
            for i, row in enumerate(rows)
            for log_id in row.log_ids
            if log_id != row.row_key
        ]
        joined = [(int(one, 16), self._rows + i) for i, row in enumerate(rows) for one in row.joined]
        digests = [row.digests() for row in rows]
        page: dict[str, NDArray[Any]] = dict(
            row_id=_u64s(b"".join([row_id[:16] for row_id, _ in digests])).reshape(-1, 2),
            key=hashes([row.row_key for row in rows]),
            of_log=np.array([row.row_key in row.log_ids for row in rows], dtype=np.bool_),
            conversation=np.array([int(row.conversation[:16], 16) for row in rows], dtype=np.uint64),
            ingredient=_narrow([row.ingredient for row in rows]),
            ts_ms=np.array([row.ts_ms or 0 for row in rows], dtype=np.int64),
            held_out=np.array([row.held_out for row in rows], dtype=np.bool_),
            log_keys=np.array([key for key, _ in logs], dtype=np.uint64),
            log_rows=np.array([row for _, row in logs], dtype=np.uint32),
            joined=np.array([one for one, _ in joined], dtype=np.uint64),
            joined_rows=np.array([row for _, row in joined], dtype=np.uint32),
            **(dict(zip(("sketch", "has_sketch"), sketches, strict=True)) if sketches else {}),
            **{_SLICE + name: self._coded(name, rows) for name in self._codes},
        )
        for name, column in page.items():
            if name in self._columns:
                self._columns[name].extend(column)
            else:
                self._columns[name] = _Column(column)
        self._rows += len(rows)
        return digests

    def taken(self) -> Columns:
        """The columns of all pages: they are given away, so that whoever has them can let go of them."""
        if not self._columns:
            self.add_page(())
        arrays: dict[str, Any] = {name: column.taken() for name, column in self._columns.items()}
        self._columns = {}
        return Columns(
            slices={name: arrays.pop(_SLICE + name) for name in self._codes},
            values={name: tuple(codes) for name, codes in self._codes.items()},
            sketch=arrays.pop("sketch", None),
            has_sketch=arrays.pop("has_sketch", np.zeros(self._rows, dtype=np.bool_)),
            draw=arrays["key"],
            seed=np.uint64(_u64(f"seed {self._seed}")),
            **arrays,
        )

    def _coded(self, name: str, rows: Sequence[Row]) -> Codes:
        codes = self._codes[name]
        values = [row.slices.get(name, ABSENT) for row in rows]
        for value in dict.fromkeys(values):
            codes.setdefault(value, len(codes))
        return _narrow([codes[value] for value in values])


def _narrow(numbers: Sequence[int]) -> Codes:
    """These numbers in as few bytes as the largest takes."""
    found: Codes = np.array(numbers, dtype=np.min_scalar_type(max(numbers, default=0)))
    return found


def begins(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Where another value begins."""
    found = np.ones(len(ordered), bool)
    found[1:] = ordered[1:] != ordered[:-1]
    return found


def distinct(values: NDArray[T]) -> NDArray[T]:
    """The different values, in order. numpy's own `unique` fills a table of several times their size."""
    ordered = np.sort(values)
    return ordered[begins(ordered)]


def hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """The first 8 bytes of the SHA-256 of each of these texts."""
    return _u64s(b"".join([hashlib.sha256(text.encode()).digest()[:8] for text in texts]))


def _u64s(digests: bytes) -> NDArray[np.uint64]:
    """The numbers that these are, 8 bytes each."""
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _u64(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
