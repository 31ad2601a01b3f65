"""Rows as Parquet bytes: the same rows give the same bytes, on every machine with the same pyarrow."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tunemill.curator_api.rows import RowMessage, is_imported
from tunemill.curator_api.snapshot import Frozen
from tunemill.schemas.manifest import OldPart as Part

COLUMNS = ("row_id", "messages", "tools")
PART_ROWS = 50_000
PART_CHARACTERS = 64 * 2**20  # of text, before compression: a part fits in memory many times over

_TOOL_CALL = pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
_MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("tool_calls", pa.list_(_TOOL_CALL)),
        ("tool_call_id", pa.string()),
        ("name", pa.string()),
    ]
)
SCHEMA = pa.schema([("row_id", pa.string()), ("messages", pa.list_(_MESSAGE)), ("tools", pa.string())])
PROVENANCE = pa.schema([("row_id", pa.string()), ("row_key", pa.string()), ("log_id", pa.string())])


def parts(rows: Sequence[Frozen], split: str) -> Iterator[tuple[Part, bytes]]:
    """The content-addressed files of one split, in order of row_id, made one at a time."""
    for some in _chunks(row for row in rows if row.split == split):
        content = parquet_bytes(pa.Table.from_pylist([_as_columns(row) for row in some], schema=SCHEMA))
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"parts/{sha256}.parquet"
        yield Part(path=path, sha256=sha256, bytes=len(content), rows=len(some), split=split), content


def provenance(rows: Sequence[Frozen]) -> bytes:
    """Which logs say what each row says, as Parquet: row_id, row_key, and log_id (null for an imported row)."""
    pairs = [(row.row_id, key) for row in rows for key in row.row_keys]
    columns = {
        "row_id": [row_id for row_id, _ in pairs],
        "row_key": [key for _, key in pairs],
        "log_id": [None if is_imported(key) else key for _, key in pairs],
    }
    return parquet_bytes(pa.table(columns, schema=PROVENANCE))


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet. Each option that changes bytes is fixed here; no statistics, so that no text lies in the footer."""
    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        row_group_size=10_000,
    )
    return out.getvalue()


def _chunks(rows: Iterable[Frozen]) -> Iterator[list[Frozen]]:
    chunk: list[Frozen] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += length(row.row.messages)
        if len(chunk) >= PART_ROWS or characters >= PART_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def length(messages: Sequence[RowMessage]) -> int:
    """Characters in these messages: their text, and the arguments of their tool calls."""
    return sum(
        len(message.content or "") + sum(len(call.arguments) for call in message.tool_calls) for message in messages
    )


def _as_columns(row: Frozen) -> Mapping[str, object]:
    return {
        "row_id": row.row_id,
        "messages": [_message_columns(message) for message in row.row.messages],
        "tools": row.row.tools,
    }


def _message_columns(message: RowMessage) -> Mapping[str, object]:
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return {
        "role": message.role,
        "content": message.content,
        "tool_calls": calls or None,
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
