"""Rows on their way into a version, kept outside memory: as they come in, and then again in the order of their places.

A row is written to a temporary file that has no name, so that nothing of it is left even where the process is killed. What is
decided by stays in memory in columns.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
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

_PILES, _PILE_SHIFT = 256, 56  # rows by the first byte of their place: one pile at a time is read back
_HELD_BYTES = 16 * 2**20  # written out together, so that a pile lies in few pieces
_ARRAY = b"\xdd"  # of msgpack, before a count of 32 bits: rows one after the other are read as one list

Sketch = Callable[[Sequence[Row]], Sketches]


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
        self._pieces: list[list[tuple[int, int]]] = [[] for _ in range(_PILES)]  # offset and length
        self._end = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Row]).decode

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
        columns = self._facts.add_page(rows, self._sketch(rows) if self._sketch else None)
        encoded = [self._encode(row) for row in rows]
        for one, pile in zip(encoded, (columns.place >> _PILE_SHIFT).tolist(), strict=True):
            self._piles[pile].append(one)
        self._held_bytes += sum(map(len, encoded))
        if self._held_bytes >= _HELD_BYTES:
            self._write_out()

    def columns(self) -> Columns:
        """What is decided by of all rows so far."""
        return self._facts.freeze()

    def kept(self, columns: Columns, selected: Selected) -> Iterator[list[StoredRow]]:
        """The rows that stay, in their order, some at a time; rows that say the same as one."""
        self._write_out()
        piles = columns.place >> _PILE_SHIFT
        numbers = np.argsort(piles, kind="stable")  # of the rows of each pile, as they lie in it
        ends = np.cumsum(np.bincount(piles.astype(np.intp), minlength=_PILES))
        for pile, its in enumerate(np.split(numbers, ends[:-1])):
            if len(its):
                yield list(_together(self._read(pile, len(its)), its, columns, selected))

    def _write_out(self) -> None:
        for pile, held in enumerate(self._piles):
            if held:
                length = sum(map(len, held))
                self._pieces[pile].append((self._end, length))
                self._file.writelines(held)
                self._end += length
                held.clear()
        self._held_bytes = 0
        self._file.flush()

    def _read(self, pile: int, count: int) -> list[Row]:
        pieces = (os.pread(self._file.fileno(), length, offset) for offset, length in self._pieces[pile])
        return self._decode(b"".join((_ARRAY, count.to_bytes(4), *pieces)))


def _together(
    rows: Sequence[Row], numbers: NDArray[np.intp], columns: Columns, selected: Selected
) -> Iterator[StoredRow]:
    """The rows of one pile that stay, in their order. Those that say the same lie in one pile, and one of them stands for all."""
    ids, places = columns.row_id[numbers].tobytes().hex(), columns.place[numbers].tolist()
    reasons, splits = selected.reason[numbers].tolist(), selected.split[numbers].tolist()
    conversations, held_out = selected.conversation[numbers].tolist(), selected.held_out[numbers].tolist()
    same: dict[str, list[int]] = {}
    for at in np.lexsort((columns.row_id[numbers], columns.place[numbers])).tolist():
        same.setdefault(ids[64 * at : 64 * at + 64], []).append(at)
    for row_id, its in same.items():
        stay = [at for at in its if reasons[at] == 0]
        if stay:
            kept = stay[0]
            row = _said_by_all(rows[kept], [rows[at] for at in its], f"{conversations[kept]:016x}")
            if held_out[kept]:
                row = msgspec.structs.replace(row, held_out=True)
            others = sorted({rows[at].row_key for at in its} - {row.row_key}) if len(its) > 1 else ()
            keys = (row.row_key, *others)
            yield StoredRow(row=row, row_id=row_id, row_keys=keys, place=places[kept], split=SPLITS[splits[kept]])


def _said_by_all(row: Row, those: Sequence[Row], conversation: str) -> Row:
    """The row with the logs and conversations of all of those that say what it says."""
    if len(those) == 1 and len(row.log_ids) < 2 and not row.joined and row.conversation[:16] == conversation:
        return msgspec.structs.replace(row, conversation=conversation)  # most rows
    logs = {log_id for one in those for log_id in one.log_ids}
    joined = {one for that in those for one in (that.conversation[:16], *that.joined)} - {conversation}
    return msgspec.structs.replace(
        row, log_ids=tuple(sorted(logs)), conversation=conversation, joined=tuple(sorted(joined))
    )
