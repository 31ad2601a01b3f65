"""Rows in Parquet files, some at a time: of any known format in, of a version's own columns out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tunemill.curator_api.message_text import spelled
from tunemill.curator_api.openai_chat import messages_in
from tunemill.curator_api.parts import MESSAGE_COLUMNS, StoredRow, rows_table
from tunemill.curator_api.rows import Row, imported_row, tools_text

MAGIC = b"PAR1"
ROWS_AT_ONCE = 500


class NotParquet(Exception):
    """It begins like a Parquet file and cannot be read as one. Says nothing of what it holds."""


class MoreThanAllowed(Exception):
    """The file holds more than may be read out of it: a small one may stand for more than the memory holds."""


def values(file: BinaryIO, *, most_bytes: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows as JSON-like objects, in order; never more than some hundred of them are in memory.

    Args:
        most_bytes: so much may be read out of it; what is over that is not.

    Raises:
        NotParquet: the file is cut off or damaged, or holds what Python has no value for.
        MoreThanAllowed: it holds more.
    """
    read = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=ROWS_AT_ONCE):
            read += batch.nbytes
            if most_bytes is not None and read > most_bytes:
                raise MoreThanAllowed
            yield from (_opened(row) for row in batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise NotParquet("it begins like a Parquet file and cannot be read as one: it may be cut off") from error
    except (ValueError, ArithmeticError, LookupError) as error:  # as Python's own types say no
        raise NotParquet(
            "a value in it cannot be read: text must be UTF-8, and times of the years 1 to 9999"
        ) from error


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its messages as objects where they are JSON text, as in files of ours."""
    texts = {name: row[name] for name in MESSAGE_COLUMNS if _are_texts(row.get(name))}
    return {**row, **{name: [_decoded(text) for text in held] for name, held in texts.items()}}


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _decoded(text: str) -> Any:
    try:
        return spelled(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def table_of(values: Sequence[Mapping[str, Any]], shape: str) -> pa.Table:
    """Rows that were written in OpenAI's format, in the columns that a version's own files have."""
    rows = [_row_in(value) for value in values]
    stored = [StoredRow(row=row, row_id=row.row_id(), row_keys=(), place=0, split="") for row in rows]
    return rows_table(stored, shape)


def _row_in(value: Mapping[str, Any]) -> Row:
    """The row as it was written: nothing is checked again that was checked when it was published."""
    asked = value.get("input", value)
    messages = messages_in(asked["messages"], "messages")
    if "preferred_output" not in value:
        return imported_row(messages, tools_text(asked.get("tools")))
    better, worse = (messages_in(value[name], name) for name in ("preferred_output", "non_preferred_output"))
    return imported_row((*messages, *better), tools_text(asked.get("tools")), worse)
