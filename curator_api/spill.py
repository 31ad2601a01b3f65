"""Rows on their way into a version, kept outside memory: as they come in, and then again in the order of their places.

A row is written to a temporary file that has no name, so that nothing of it is left even where the process is killed. What is
decided by stays in memory in columns.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunemill.curator_api.facts import Columns, Facts, Sketches
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.recipe import Recipe, slice_names
from tunemill.curator_api.rows import Row
from tunemill.curator_api.select import Selected
from tunemill.schemas.manifest import SPLITS

_PILES, _PILE_SHIFT = 1024, 54  # rows by the first ten bits of their place
_HELD_BYTES = 8 * 2**20  # written out together, so that a pile lies in few pieces
_READ_BYTES = 2**20  # of piles read back together: each time tables are made, whose cost is the same for few rows
_ARRAY = b"\xdd"  # of msgpack, before a count of 32 bits: rows one after the other are read as one list

Sketch = Callable[[Sequence[Row]], Sketches]


class _Spilled(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row as it lies in the file."""

    number: int  # how many came before
    row_id: bytes
    place: int
    row: Row


_in_order = attrgetter("place", "row_id")


class Spill:
    """The rows of a recipe. Close it, best as a context: its file is gone then."""

    def __init__(self, recipe: Recipe, sketch: Sketch | None = None) -> None:
        """Begin with no row.

        Args:
            sketch: what near duplicates are found by; None where the recipe asks for none.
        """
        self._facts = Facts(seed=recipe.seed, slices=slice_names(recipe))
        self._sketch = sketch
        self._file = tempfile.TemporaryFile(prefix="tunemill-", buffering=2**20)  # noqa: SIM115  # closed by close()
        self._piles: list[list[bytes]] = [[] for _ in range(_PILES)]
        self._held_bytes = 0
        self._counts = np.zeros(_PILES, np.int64)
        self._written: list[NDArray[np.int64]] = []  # of each time: where the piece of each pile begins, and the end
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[_Spilled]).decode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._facts)

    def add(self, rows: Sequence[Row]) -> None:
        """Take in the next rows; none of them is kept in memory for long."""
        first = len(self._facts)
        digests = self._facts.add_page(rows, self._sketch(rows) if self._sketch else None)
        for number, (row, (row_id, place)) in enumerate(zip(rows, digests, strict=True), start=first):
            spilled = _Spilled(number, row_id, int.from_bytes(place[:8]), row)
            encoded = self._encode(spilled)
            self._piles[spilled.place >> _PILE_SHIFT].append(encoded)
            self._held_bytes += len(encoded)
        if self._held_bytes >= _HELD_BYTES:
            self._write_out()

    def columns(self) -> Columns:
        """What is decided by of all rows. No row can be added any more."""
        return self._facts.taken()

    def kept(self, selected: Selected) -> Iterator[list[StoredRow]]:
        """The rows that stay, in their order, some at a time; rows that say the same as one."""
        self._write_out()
        for first, end in self._readings():
            if rows := list(_together(self._read(first, end), selected)):
                yield rows

    def _write_out(self) -> None:
        lengths = [sum(map(len, held)) for held in self._piles]
        begin = self._written[-1][-1] if self._written else 0
        self._written.append(begin + np.cumsum([0, *lengths]))
        for pile, held in enumerate(self._piles):
            self._file.writelines(held)
            self._counts[pile] += len(held)
            held.clear()
        self._held_bytes = 0
        self._file.flush()

    def _readings(self) -> Iterator[tuple[int, int]]:
        """The piles that are read together: the first, and the one behind the last."""
        first = read_bytes = 0
        for pile, size in enumerate(np.diff(self._written, axis=1).sum(axis=0).tolist()):
            if pile > first and read_bytes + size > _READ_BYTES:
                yield first, pile
                first, read_bytes = pile, 0
            read_bytes += size
        yield first, _PILES

    def _read(self, first: int, end: int) -> list[_Spilled]:
        count = int(self._counts[first:end].sum())
        ends = [(int(begins[first]), int(begins[end])) for begins in self._written]
        pieces = (os.pread(self._file.fileno(), stop - start, start) for start, stop in ends)
        return self._decode(b"".join((_ARRAY, count.to_bytes(4), *pieces)))


def _together(spilled: Sequence[_Spilled], selected: Selected) -> Iterator[StoredRow]:
    """The rows of some piles that stay, in their order. Those that say the same are in one pile, and one of them stands for all."""
    numbers = [one.number for one in spilled]
    reasons, splits = selected.reason[numbers].tolist(), selected.split[numbers].tolist()
    conversations, held_out = selected.conversation[numbers].tolist(), selected.held_out[numbers].tolist()
    order = sorted(range(len(spilled)), key=lambda at: _in_order(spilled[at]))
    for row_id, same in groupby(order, key=lambda at: spilled[at].row_id):
        its = list(same)
        stay = [at for at in its if reasons[at] == 0]
        if stay:
            kept = stay[0]
            rows = [spilled[at].row for at in its]
            row = _said_by_all(spilled[kept].row, rows, f"{conversations[kept]:016x}")
            if held_out[kept]:
                row = msgspec.structs.replace(row, held_out=True)
            others = sorted({one.row_key for one in rows} - {row.row_key}) if len(rows) > 1 else ()
            yield StoredRow(
                row=row,
                row_id=row_id.hex(),
                row_keys=(row.row_key, *others),
                place=spilled[kept].place,
                split=SPLITS[splits[kept]],
            )


def _said_by_all(row: Row, those: Sequence[Row], conversation: str) -> Row:
    """The row with the logs and conversations of all of those that say what it says."""
    if len(those) == 1 and len(row.log_ids) < 2 and not row.joined and row.conversation[:16] == conversation:
        return msgspec.structs.replace(row, conversation=conversation)  # most rows
    logs = {log_id for one in those for log_id in one.log_ids}
    joined = {one for that in those for one in (that.conversation[:16], *that.joined)} - {conversation}
    return msgspec.structs.replace(
        row, log_ids=tuple(sorted(logs)), conversation=conversation, joined=tuple(sorted(joined))
    )
