"""What is decided by of each row, in columns: a few dozen bytes a row, so that millions fit in memory. Pure."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.rows import Row

SLOTS = 64  # bytes of a sketch
_SPARE = 8  # a column that is full grows by this part of itself
_SLICE = "slice:"
ABSENT = "none"  # a slice's value of a row that has none

Sketches = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # (n, SLOTS), and which rows have one


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a row, in the order in which the rows came. A u64 of a text is the first 8 bytes of its SHA-256."""

    row_id: NDArray[np.bytes_]  # (n,) S32: the digest
    key: NDArray[np.uint64]  # of row_key
    draw: NDArray[np.uint64]  # of the key and the seed: what is drawn for a row, and how ties are broken, is made of it
    place: NDArray[np.uint64]  # of the text of the beginning
    conversation: NDArray[np.uint64]  # its digest's first 8 bytes
    ingredient: NDArray[np.uint16]
    ts_ms: NDArray[np.int64]  # 0: none
    held_out: NDArray[np.bool_]  # by the set that a row is of
    slices: dict[str, NDArray[np.uint32]]  # codes: places in `values`
    values: dict[str, tuple[str, ...]]
    sketch: NDArray[np.uint8] | None  # (n, SLOTS)
    has_sketch: NDArray[np.bool_]
    log_keys: NDArray[np.uint64]  # of every log that a row was made of
    log_rows: NDArray[np.uint32]  # the row of each
    joined: NDArray[np.uint64]  # conversations that are one with a row's own
    joined_rows: NDArray[np.uint32]  # the row of each


class _Column:
    """A column as it grows in place, so that it is never in memory twice."""

    __slots__ = ("_array", "_used")

    def __init__(self, begun: NDArray[Any]) -> None:
        self._array = begun.copy()
        self._used = len(begun)

    def extend(self, values: NDArray[Any]) -> None:
        """Add entries. None of what `entries` gave may be looked at any more."""
        whole = self._used + len(values)
        if whole > len(self._array):
            self._array.resize((whole + whole // _SPARE, *self._array.shape[1:]), refcheck=False)
        self._array[self._used : whole] = values
        self._used = whole

    def entries(self) -> NDArray[Any]:
        """What was added so far."""
        return self._array[: self._used]


class Facts:
    """The columns as they grow, a page of rows at a time."""

    __slots__ = ("_codes", "_columns", "_frozen", "_rows", "_seed")

    def __init__(self, *, seed: int, slices: Sequence[str]) -> None:
        self._seed = seed
        self._codes: dict[str, dict[str, int]] = {name: {} for name in slices}
        self._columns: dict[str, _Column] = {}
        self._frozen: Columns | None = None  # what was given away: it does not grow
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add_page(self, rows: Sequence[Row], sketches: Sketches | None = None) -> Columns:
        """Take in the next rows; gives their columns.

        Args:
            sketches: of these rows; given for every page or for none.
        """
        key = hashes([row.row_key for row in rows])
        keys = dict(zip([row.row_key for row in rows], key.tolist(), strict=True))
        logs = [
            (keys[log_id] if log_id in keys else _u64(log_id), self._rows + i)
            for i, row in enumerate(rows)
            for log_id in row.log_ids
        ]
        joined = [(int(one, 16), self._rows + i) for i, row in enumerate(rows) for one in row.joined]
        digests = [row.digests() for row in rows]
        page = Columns(
            row_id=np.array([row_id for row_id, _ in digests], dtype="S32"),
            key=key,
            draw=key ^ np.uint64(_u64(f"seed {self._seed}")),
            place=_u64s(b"".join([place[:8] for _, place in digests])),
            conversation=np.array([int(row.conversation[:16], 16) for row in rows], dtype=np.uint64),
            ingredient=np.array([row.ingredient for row in rows], dtype=np.uint16),
            ts_ms=np.array([row.ts_ms or 0 for row in rows], dtype=np.int64),
            held_out=np.array([row.held_out for row in rows], dtype=np.bool_),
            slices={name: self._coded(name, rows) for name in self._codes},
            values={},
            sketch=sketches[0] if sketches else None,
            has_sketch=sketches[1] if sketches else np.zeros(len(rows), dtype=np.bool_),
            log_keys=np.array([key for key, _ in logs], dtype=np.uint64),
            log_rows=np.array([row for _, row in logs], dtype=np.uint32),
            joined=np.array([one for one, _ in joined], dtype=np.uint64),
            joined_rows=np.array([row for _, row in joined], dtype=np.uint32),
        )
        if self._frozen is not None:
            self._columns = {name: _Column(column) for name, column in _arrays(self._frozen).items()}
            self._frozen = None
        for name, column in _arrays(page).items():
            if name in self._columns:
                self._columns[name].extend(column)
            else:
                self._columns[name] = _Column(column)
        self._rows += len(rows)
        return page

    def freeze(self) -> Columns:
        """The columns of all pages."""
        if self._frozen is None:
            if not self._columns:
                self.add_page(())
            arrays: dict[str, Any] = {name: column.entries() for name, column in self._columns.items()}
            self._frozen = Columns(
                slices={name: arrays.pop(_SLICE + name) for name in self._codes},
                values={name: tuple(codes) for name, codes in self._codes.items()},
                sketch=arrays.pop("sketch", None),
                **arrays,
            )
            self._columns = {}
        return self._frozen

    def _coded(self, name: str, rows: Sequence[Row]) -> NDArray[np.uint32]:
        codes = self._codes[name]
        values = [row.slices.get(name, ABSENT) for row in rows]
        for value in dict.fromkeys(values):
            codes.setdefault(value, len(codes))
        return np.array([codes[value] for value in values], dtype=np.uint32)


def _arrays(columns: Columns) -> dict[str, NDArray[Any]]:
    """The columns by name; those of slices by names of their own."""
    found = {name: getattr(columns, name) for name in Columns.__struct_fields__}
    plain = {name: column for name, column in found.items() if isinstance(column, np.ndarray)}
    return plain | {_SLICE + name: column for name, column in columns.slices.items()}


def hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """The first 8 bytes of the SHA-256 of each of these texts."""
    return _u64s(b"".join([hashlib.sha256(text.encode()).digest()[:8] for text in texts]))


def _u64s(digests: bytes) -> NDArray[np.uint64]:
    """The numbers that these are, 8 bytes each."""
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _u64(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
