"""What is decided by of each row, in columns: a few dozen bytes a row, so that millions fit in memory. Pure."""

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.rows import Row

SLOTS = 64  # bytes of a sketch
ABSENT = "none"  # a slice's value of a row that has none

Sketches = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # (n, SLOTS), and which rows have one


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a row, in the order in which the rows came. A u64 of a text is the first 8 bytes of its SHA-256."""

    row_id: NDArray[np.bytes_]  # (n,) S32: the digest
    key: NDArray[np.uint64]  # of row_key
    draw: NDArray[np.uint64]  # of "<seed>:<row_key>": how ties are broken
    place: NDArray[np.uint64]  # of the text of the beginning
    conversation: NDArray[np.uint64]  # its digest's first 8 bytes
    ingredient: NDArray[np.uint16]
    ts_ms: NDArray[np.int64]  # 0: none
    characters: NDArray[np.uint32]
    slices: dict[str, NDArray[np.uint32]]  # codes: places in `values`
    values: dict[str, tuple[str, ...]]
    sketch: NDArray[np.uint8] | None  # (n, SLOTS)
    has_sketch: NDArray[np.bool_]
    log_keys: NDArray[np.uint64]  # of every log that a row was made of
    log_rows: NDArray[np.uint32]  # the row of each


class Facts:
    """The columns as they grow, a page of rows at a time."""

    __slots__ = ("_codes", "_pages", "_rows", "_seed")

    def __init__(self, *, seed: int, slices: Sequence[str]) -> None:
        self._seed = seed
        self._codes: dict[str, dict[str, int]] = {name: {} for name in slices}
        self._pages: list[Columns] = []
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add_page(self, rows: Sequence[Row], sketches: Sketches | None = None) -> Columns:
        """Take in the next rows; gives their columns.

        Args:
            sketches: of these rows; given for every page or for none.
        """
        logs = [(_u64(log_id), self._rows + i) for i, row in enumerate(rows) for log_id in row.log_ids]
        page = Columns(
            row_id=np.array([bytes.fromhex(row.row_id()) for row in rows], dtype="S32"),
            key=np.array([_u64(row.row_key) for row in rows], dtype=np.uint64),
            draw=np.array([_u64(f"{self._seed}:{row.row_key}") for row in rows], dtype=np.uint64),
            place=np.array([int.from_bytes(row.place()[:8]) for row in rows], dtype=np.uint64),
            conversation=np.array([int(row.conversation[:16], 16) for row in rows], dtype=np.uint64),
            ingredient=np.array([row.ingredient for row in rows], dtype=np.uint16),
            ts_ms=np.array([row.ts_ms or 0 for row in rows], dtype=np.int64),
            characters=np.array([row.characters() for row in rows], dtype=np.uint32),
            slices={name: self._coded(name, rows) for name in self._codes},
            values={},
            sketch=sketches[0] if sketches else None,
            has_sketch=sketches[1] if sketches else np.zeros(len(rows), dtype=np.bool_),
            log_keys=np.array([key for key, _ in logs], dtype=np.uint64),
            log_rows=np.array([row for _, row in logs], dtype=np.uint32),
        )
        self._pages.append(page)
        self._rows += len(rows)
        return page

    def freeze(self) -> Columns:
        """The columns of all pages."""
        if not self._pages:
            self.add_page(())
        pages = self._pages
        sketched = [page.sketch for page in pages if page.sketch is not None]
        return Columns(
            row_id=np.concatenate([page.row_id for page in pages]),
            key=np.concatenate([page.key for page in pages]),
            draw=np.concatenate([page.draw for page in pages]),
            place=np.concatenate([page.place for page in pages]),
            conversation=np.concatenate([page.conversation for page in pages]),
            ingredient=np.concatenate([page.ingredient for page in pages]),
            ts_ms=np.concatenate([page.ts_ms for page in pages]),
            characters=np.concatenate([page.characters for page in pages]),
            slices={name: np.concatenate([page.slices[name] for page in pages]) for name in self._codes},
            values={name: tuple(codes) for name, codes in self._codes.items()},
            sketch=np.concatenate(sketched) if sketched else None,
            has_sketch=np.concatenate([page.has_sketch for page in pages]),
            log_keys=np.concatenate([page.log_keys for page in pages]),
            log_rows=np.concatenate([page.log_rows for page in pages]),
        )

    def _coded(self, name: str, rows: Sequence[Row]) -> NDArray[np.uint32]:
        codes = self._codes[name]
        found = (row.slices.get(name, ABSENT) for row in rows)
        return np.array([codes.setdefault(value, len(codes)) for value in found], dtype=np.uint32)


def _u64(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
