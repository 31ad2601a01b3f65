"""Rows on their way into a version, kept outside memory: as they come in, and then again in the order of their places.

A row is written to a temporary file that has no name, so that nothing of it is left even where the process is killed. What is
decided by stays in memory in columns.
"""

import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import Self

import msgspec

from tunemill.curator_api.facts import Columns, Facts, Sketches
from tunemill.curator_api.parts import StoredRow, order
from tunemill.curator_api.recipe import Recipe, slice_names
from tunemill.curator_api.rows import Row
from tunemill.curator_api.select import Selected
from tunemill.schemas.manifest import SPLITS

_PILES = 256  # rows by the first byte of their place: one pile at a time is read back
_HELD_BYTES = 16 * 2**20  # written out together, so that a pile lies in few pieces
_HEAD = struct.Struct("<IQ")  # bytes of a row, and its number

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
        self._file = tempfile.TemporaryFile(prefix="tunemill-")  # noqa: SIM115  # closed by close()
        self._piles = [bytearray() for _ in range(_PILES)]
        self._pieces: list[list[tuple[int, int]]] = [[] for _ in range(_PILES)]  # offset and length
        self._held = 0
        self._end = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Row).decode

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
        number = len(self._facts)
        columns = self._facts.add_page(rows, self._sketch(rows) if self._sketch else None)
        for row, pile in zip(rows, (columns.place >> 56).tolist(), strict=True):
            content = self._encode(row)
            self._piles[pile] += _HEAD.pack(len(content), number)
            self._piles[pile] += content
            self._held += _HEAD.size + len(content)
            number += 1
        if self._held >= _HELD_BYTES:
            self._write_out()

    def columns(self) -> Columns:
        """What is decided by of all rows so far."""
        return self._facts.freeze()

    def kept(self, columns: Columns, selected: Selected) -> Iterator[list[StoredRow]]:
        """The rows that stay, in their order, some at a time; rows that say the same as one."""
        self._write_out()
        ids = columns.row_id.tobytes()
        for pile in range(_PILES):
            if found := list(self._read(pile)):
                rows = _together(found, ids, columns, selected)
                yield sorted(rows, key=order)

    def _write_out(self) -> None:
        for pile, held in enumerate(self._piles):
            if held:
                self._pieces[pile].append((self._end, len(held)))
                self._file.write(held)
                self._end += len(held)
                held.clear()
        self._file.flush()
        self._held = 0

    def _read(self, pile: int) -> Iterator[tuple[int, Row]]:
        content = b"".join(os.pread(self._file.fileno(), length, offset) for offset, length in self._pieces[pile])
        view, at = memoryview(content), 0
        while at < len(view):
            length, number = _HEAD.unpack_from(view, at)
            at += _HEAD.size
            yield number, self._decode(view[at : at + length])
            at += length


def _together(
    found: Sequence[tuple[int, Row]], ids: bytes, columns: Columns, selected: Selected
) -> Iterator[StoredRow]:
    """The rows of one pile that stay. Those that say the same lie in one pile, and one of them stands for all."""

    def row_id(numbered: tuple[int, Row]) -> bytes:
        return ids[32 * numbered[0] : 32 * numbered[0] + 32]

    for identity, same in groupby(sorted(found, key=row_id), key=row_id):
        rows = dict(same)
        kept = next((number for number in rows if selected.reason[number] == 0), None)
        if kept is not None:
            keys = {row.row_key for row in rows.values()} - {rows[kept].row_key}
            logs = {log_id for row in rows.values() for log_id in row.log_ids}
            yield StoredRow(
                row=msgspec.structs.replace(
                    rows[kept], log_ids=tuple(sorted(logs)), conversation=f"{int(selected.conversation[kept]):016x}"
                ),
                row_id=identity.hex(),
                row_keys=(rows[kept].row_key, *sorted(keys)),
                place=int(columns.place[kept]),
                split=SPLITS[selected.split[kept]],
            )
