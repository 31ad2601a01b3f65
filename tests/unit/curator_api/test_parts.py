"""Rows as files: one content, one sequence of bytes, whichever way it was cut; and what was written is read back whole."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.parts import (
    Bucket,
    StoredRow,
    bits_for,
    bucket_of,
    buckets,
    columns_of,
    one_bucket,
    order,
    parquet_bytes,
    rows_from,
    sources_bytes,
)
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.schemas.records import ToolCall

CALL = ToolCall(id="c1", name="add", arguments='{"a": 2')


def stored(number: int, split: str = "train", answer: str = "yes", **more: Any) -> StoredRow:
    row = Row(
        row_key=f"log-{number}",
        log_id=f"log-{number}",
        conversation=f"{number:016x}",
        messages=(RowMessage(role="user", content=f"question {number}"), RowMessage(role="assistant", content=answer)),
        tools=None,
        log_ids=(f"log-{number}",),
        **more,
    )
    return of(row, split)


def of(row: Row, split: str = "train") -> StoredRow:
    place = int.from_bytes(row.place()[:8])
    return StoredRow(row=row, row_id=row.row_id(), row_keys=(row.row_key,), place=place, split=split)


def chunked(rows: Sequence[StoredRow], sizes: random.Random) -> Iterator[list[StoredRow]]:
    rows = sorted(rows, key=order)
    while rows:
        count = sizes.randint(1, 40)
        yield list(rows[:count])
        rows = rows[count:]


def content(found: Iterator[Bucket]) -> dict[tuple[str, int], tuple[bytes, bytes]]:
    return {(one.split, one.number): (parquet_bytes(one.rows), sources_bytes(one.stored)) for one in found}


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 400), st.integers(0, 99), st.integers(0, 5), st.integers(0, 3))
def test_the_bytes_of_a_bucket_do_not_depend_on_how_the_rows_came(
    count: int, seed: int, train_bits: int, test_bits: int
) -> None:
    rows = [stored(number, "test" if number % 5 == 0 else "train") for number in range(count)]
    bits = {"train": train_bits, "test": test_bits}
    one = content(buckets([sorted(rows, key=order)], bits, "chat"))
    other = content(buckets(chunked(rows, random.Random(seed)), bits, "chat"))
    alone = {
        (split, number): one_bucket(
            [
                row
                for row in sorted(rows, key=order)
                if row.split == split and bucket_of(row.place, bits[split]) == number
            ],
            split,
            number,
            "chat",
        )
        for split, number in one
    }
    assert one == other == {key: (parquet_bytes(it.rows), sources_bytes(it.stored)) for key, it in alone.items()}


@pytest.mark.parametrize(("rows", "bits"), [(0, 0), (32, 0), (33, 1), (64, 1), (65, 2), (1_000, 5), (10**9, 12)])
def test_a_bucket_holds_32_rows_at_most_on_average(rows: int, bits: int) -> None:
    assert bits_for(rows) == bits


def test_a_row_comes_back_with_everything_that_it_was_written_with() -> None:
    row = Row(
        row_key="b",
        log_id="b",
        conversation="0123456789abcdef",
        messages=(
            RowMessage(role="system", content="be short"),
            RowMessage(role="user", content="add"),
            RowMessage(role="assistant", tool_calls=(CALL, ToolCall(name="none", arguments="{}"))),
            RowMessage(role="tool", content="", tool_call_id="c1", name="add"),
            RowMessage(role="assistant", content="four \N{PILE OF POO}"),
        ),
        tools='[{"type":"function"}]',
        tags=("topic:math", "good"),
        language="de",
        edited=True,
        masked=("email",),
        log_ids=("b", "c"),
        ts_ms=7,
        app="tutor",
        model="m",
        finish_reason="stop",
        slices={"app": "tutor", "meta:group": "none"},
        licence="yes",
        tokens=12,
        corrected=True,
        ingredient=3,
    )
    other = stored(1)
    both = sorted([StoredRow(**{**as_fields(of(row)), "row_keys": ("b", "c")}), other], key=order)
    bucket = one_bucket(both, "train", 0, "chat")
    assert rows_from(parquet_bytes(bucket.rows), sources_bytes(bucket.stored), "train") == both
    texts = [text for one in bucket.rows.to_pylist() for text in one["messages"]]
    (message,) = [message for text in texts if "tool_calls" in (message := json.loads(text))]
    assert message["tool_calls"][0] == {
        "id": "c1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 2'},
    }


def test_a_preference_row_comes_back_and_stands_in_the_columns_that_trainers_take() -> None:
    row = stored(1, rejected=(RowMessage(role="assistant", content="no"),))
    bucket = one_bucket([row], "train", 0, "preference")
    assert tuple(bucket.rows.column_names) == columns_of("preference")
    assert rows_from(parquet_bytes(bucket.rows), sources_bytes(bucket.stored), "train") == [row]
    (columns,) = bucket.rows.to_pylist()
    assert [len(columns[name]) for name in ("prompt", "chosen", "rejected")] == [1, 1, 1]


def test_sources_of_another_part_are_refused() -> None:
    one, other = (one_bucket([stored(number)], "train", 0, "chat") for number in (1, 2))
    with pytest.raises(ValueError, match="not those of the part"):
        rows_from(parquet_bytes(one.rows), sources_bytes(other.stored), "train")


def as_fields(row: StoredRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}
