"""Rows as Parquet bytes and back: the same rows give the same bytes, on every machine with the same pyarrow. Pure.

A version's rows are cut into buckets by the place that they have by their beginning. A bucket is two files with the same rows
in the same order: the part, which is what is trained on, and its sources, which say where each row came from.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, groupby
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tunemill.curator_api.message_text import from_text, to_text
from tunemill.curator_api.rows import Messages, Row
from tunemill.schemas.origin import Origin, read_origins

ROWS_A_BUCKET = 32  # at most, on average
MOST_BITS = 12  # 4,096 buckets a split

_TEXTS = pa.list_(pa.string())
_CHAT = pa.schema([("row_id", pa.string()), ("messages", _TEXTS), ("tools", pa.string())])
_PREFERENCE = pa.schema(
    [
        ("row_id", pa.string()),
        ("prompt", _TEXTS),
        ("chosen", _TEXTS),
        ("rejected", _TEXTS),
        ("tools", pa.string()),
    ]
)
MESSAGE_COLUMNS = ("messages", "prompt", "chosen", "rejected")
_SCHEMAS = {"chat": _CHAT, "preference": _PREFERENCE}


class StoredRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A row of a version, and everybody who says it."""

    row: Row  # of the one that stands for all; with the logs of all
    row_id: str
    row_keys: tuple[str, ...]  # its own, then the others, sorted
    place: int  # first 64 bits of the row's
    split: str


class Content(msgspec.Struct, frozen=True, gc=False):
    """What a row says."""

    row_id: str
    messages: Messages
    rejected: Messages
    tools: str | None


_encode = msgspec.json.Encoder(order="deterministic").encode
_ZSTD = pa.Codec("zstd", 1)
_KEPT = tuple(name for name in Origin.__struct_fields__ if name not in {"row_id", "row_keys"})  # as they are in a row


class Bucket(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The rows of one bucket."""

    split: str
    number: int
    stored: Sequence[StoredRow]
    rows: pa.Table


def columns_of(shape: str) -> tuple[str, ...]:
    """The columns of a part."""
    return tuple(_SCHEMAS[shape].names)


def bits_for(rows: int) -> int:
    """Into how many buckets so many rows of a split are cut, as a power of two."""
    return min(MOST_BITS, max(0, -(-rows // ROWS_A_BUCKET) - 1).bit_length())


def bucket_of(place: int, bits: int) -> int:
    """The bucket of a place: its first bits."""
    return place >> (64 - bits)


def order(row: StoredRow) -> tuple[int, str]:
    """Rows stand in this order, within a bucket and from one to the next."""
    return row.place, row.row_id


def buckets(chunks: Iterable[Sequence[StoredRow]], bits: Mapping[str, int], shape: str) -> Iterator[Bucket]:
    """The rows of a version cut into buckets.

    Args:
        chunks: the rows in their order. Of each chunk one table is made and sliced, which is far cheaper than one a bucket.
        bits: of each split.
    """
    open_ones: dict[str, Bucket] = {}  # the last of each split: the next chunk may go on with it
    for chunk in chunks:
        for split in bits:
            rows = [row for row in chunk if row.split == split]
            for found in _cut(rows, split, bits[split], shape):
                last = open_ones.get(split)
                if last is not None and last.number != found.number:
                    yield last
                    last = None
                open_ones[split] = found if last is None else _joined(last, found)
    yield from open_ones.values()


def one_bucket(rows: Sequence[StoredRow], split: str, number: int, shape: str) -> Bucket:
    """The bucket that these rows are, in their order."""
    return Bucket(split=split, number=number, stored=rows, rows=rows_table(rows, shape))


def rows_table(rows: Sequence[StoredRow], shape: str) -> pa.Table:
    """The rows in the columns of a part."""
    ids, tools = [row.row_id for row in rows], [row.row.tools for row in rows]
    if shape == "chat":
        return pa.table([ids, _messages([row.row.messages for row in rows]), tools], schema=_CHAT)
    return pa.table(
        [
            ids,
            _messages([row.row.messages[:-1] for row in rows]),
            _messages([row.row.messages[-1:] for row in rows]),
            _messages([row.row.rejected for row in rows]),
            tools,
        ],
        schema=_PREFERENCE,
    )


def sources_bytes(rows: Sequence[StoredRow]) -> bytes:
    """Where these rows came from, in their order: a line of JSON each, compressed. Parquet would take ten times as long."""
    lines = b"".join(_encode(_origin(row)) + b"\n" for row in rows)
    return bytes(_ZSTD.compress(lines, asbytes=True))


def rows_from(part: bytes, sources: bytes, split: str) -> list[StoredRow]:
    """The rows of a bucket, from its two files.

    Raises:
        ValueError: they are not of one bucket.
    """
    contents, origins = contents_from(part), read_origins(sources)
    if [one.row_id for one in contents] != [one.row_id for one in origins]:
        raise ValueError("the sources are not those of the part")
    return [_stored(*both, split) for both in zip(contents, origins, strict=True)]


def contents_from(part: bytes) -> list[Content]:
    """What each row of a part says."""
    table = pq.ParquetFile(pa.BufferReader(part)).read(use_threads=False)  # a few rows: threads would take longer
    return [Content(row["row_id"], *_content(row)) for row in table.to_pylist()]


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet. Each option that changes bytes is fixed here; no statistics, so that no text lies in the footer."""
    out = pa.BufferOutputStream()
    pq.write_table(
        table,
        out,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        row_group_size=max(1, table.num_rows),
    )
    return bytes(out.getvalue().to_pybytes())


def _cut(rows: Sequence[StoredRow], split: str, bits: int, shape: str) -> Iterator[Bucket]:
    if not rows:
        return
    whole = one_bucket(rows, split, 0, shape)
    start = 0
    for number, some in groupby([bucket_of(row.place, bits) for row in rows]):
        count = sum(1 for _ in some)
        yield Bucket(
            split=split,
            number=number,
            stored=rows[start : start + count],
            rows=whole.rows.slice(start, count),
        )
        start += count


def _joined(first: Bucket, second: Bucket) -> Bucket:
    return msgspec.structs.replace(
        first,
        stored=[*first.stored, *second.stored],
        rows=pa.concat_tables([first.rows, second.rows]).combine_chunks(),
    )


def _messages(rows: Sequence[Messages]) -> "pa.ListArray[Any]":
    """Lists of messages, each as JSON text."""
    texts = [to_text(message) for message in chain.from_iterable(rows)]
    offsets = pa.array([0, *accumulate(len(row) for row in rows)], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(texts, pa.string()))


def _origin(stored: StoredRow) -> Origin:
    row = stored.row
    return Origin(
        row_id=stored.row_id,
        row_keys=stored.row_keys,
        log_ids=row.log_ids,
        conversation=row.conversation,
        ts_ms=row.ts_ms,
        app=row.app,
        model=row.model,
        language=row.language,
        finish_reason=row.finish_reason,
        tags=row.tags,
        slices=row.slices,
        licence=row.licence,
        source=row.source,
        terms=row.terms,
        tokens=row.tokens,
        edited=row.edited,
        corrected=row.corrected,
        masked=row.masked,
        ingredient=row.ingredient,
        joined=row.joined,
        held_out=row.held_out,
    )


def _stored(content: Content, origin: Origin, split: str) -> StoredRow:
    keys, logs = origin.row_keys, origin.log_ids
    row = Row(
        row_key=keys[0],
        log_id=keys[0] if keys[0] in logs else next(iter(logs), None),
        messages=content.messages,
        rejected=content.rejected,
        tools=content.tools,
        **{name: getattr(origin, name) for name in _KEPT},
    )
    place = int.from_bytes(row.place()[:8])
    return StoredRow(row=row, row_id=content.row_id, row_keys=keys, place=place, split=split)


def _content(columns: Mapping[str, Any]) -> tuple[Messages, Messages, str | None]:
    said = {name: tuple(map(from_text, columns[name])) for name in MESSAGE_COLUMNS if name in columns}
    if "messages" in said:
        return said["messages"], (), columns["tools"]
    return (*said["prompt"], *said["chosen"]), said["rejected"], columns["tools"]
