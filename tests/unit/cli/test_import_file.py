"""A file of rows as lines: half lines, wrong bytes, long lines, arrays, gzip that holds too much, Parquet."""

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.cli import import_file
from tunemill.cli.import_file import MAX_LINE_BYTES, Line, Unreadable, lines_in


def read(content: bytes, folder: Path) -> list[Line]:
    file = folder / "file"
    file.write_bytes(content)
    with file.open("rb") as raw:
        return list(lines_in(raw))


def test_lines_come_as_they_are_with_their_numbers(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": "\xff"}\n{"half": '
    assert read(content, tmp_path) == [Line(1, b'{"a": 1}'), Line(4, b'{"b": "\xff"}'), Line(5, b'{"half":')]


def test_a_line_of_40_mb_is_passed_over_and_the_next_is_not(tmp_path: Path) -> None:
    long = b'{"a": "' + b"x" * 40 * 2**20 + b'"}\n'
    first, second, third = read(b"{}\n" + long + b'{"b": 1}', tmp_path)
    assert (first.value, third) == (b"{}", Line(3, b'{"b": 1}'))
    assert (second.number, second.value, second.fault) == (2, b"", f"longer than {MAX_LINE_BYTES} bytes")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(st.lists(values), st.sampled_from([None, 1]), st.booleans(), st.integers(min_value=1, max_value=9))
def test_the_items_of_an_array_are_its_lines(items: list[Any], indent: int | None, is_ascii: bool, step: int) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "replace")
    kept, import_file._STEP_BYTES = import_file._STEP_BYTES, step  # it comes in pieces that end anywhere
    try:
        found = list(import_file._items(io.BufferedReader(io.BytesIO(text))))
    finally:
        import_file._STEP_BYTES = kept
    assert [line.number for line in found] == list(range(1, len(items) + 1))
    assert [json.loads(line.value) for line in found] == json.loads(text)
    assert not any(b"\n" in line.value for line in found)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"a": 1}, {"b": ', "item 2"),
        (b'[{"a": 1}', "does not end"),
        (b'[{"a": 1} {"b": 2}]', "no comma"),
        (b'[{"a": "\xff"}]', "not in UTF-8"),
        (b"[" * 100_000, "item 1"),
        (b'[{"a": "' + b"x" * 5 * 2**20 + b"\n", "item 1"),
        (b"PAR1 and nothing", "cut off"),
        (gzip.compress(b"{}\n" * 10_000, mtime=0)[:-9], "cut off"),
        (gzip.compress(b"{}\n" * 10_000, mtime=0)[:20] + b"damaged" * 20, "damaged"),
    ],
    ids=[
        "half an item",
        "no end",
        "no comma",
        "not UTF-8",
        "deep",
        "long",
        "half a Parquet",
        "half a gzip",
        "a wrong gzip",
    ],
)
def test_a_file_that_is_not_what_it_begins_like_says_so(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(content, tmp_path)


def test_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    packed = gzip.compress(b'{"a": 1}\n{"b"', mtime=0) + gzip.compress(b": 2}\n", mtime=0)
    assert [line.value for line in read(packed, tmp_path)] == [b'{"a": 1}', b'{"b": 2}']


def test_what_holds_far_more_than_its_size_is_refused_before_all_of_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_file, "ANY_RATIO_BYTES", 2**18)
    bomb = gzip.compress(b"{}\n" * 2**20, mtime=0)
    with pytest.raises(Unreadable, match="100 times"):
        read(bomb, tmp_path)
    monkeypatch.setattr(import_file, "ANY_RATIO_BYTES", 2**22)
    assert len(read(bomb, tmp_path)) == 2**20


def test_other_packing_is_not_opened(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", "{}\n" * 10)
    with pytest.raises(Unreadable, match="gzip"):
        read(out.getvalue(), tmp_path)


def test_parquet_rows_are_json_lines_without_what_is_null(tmp_path: Path) -> None:
    out = io.BytesIO()
    rows = [{"prompt": '{"not": "opened"}', "completion": str(number), "tools": None} for number in range(1_200)]
    pq.write_table(pa.Table.from_pylist(rows), out)
    found = read(out.getvalue(), tmp_path)
    assert (found[0].number, found[-1].number) == (1, 1_200)
    assert json.loads(found[7].value) == {"prompt": '{"not": "opened"}', "completion": "7"}
