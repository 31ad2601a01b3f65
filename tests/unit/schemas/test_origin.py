"""What lies beside a part is read back without the library that wrote it."""

import msgspec
import pyarrow as pa
import pytest

from tunemill.schemas.origin import Origin, read_origins

ROWS = [
    Origin(row_id="a", row_keys=("l1", "l2"), log_ids=("l1", "l2"), conversation="c", slices={"team": "billing"}),
    Origin(row_id="b", row_keys=("imported",), conversation="d", licence="yes", language="de"),
]


def written(rows: list[Origin]) -> bytes:
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    return bytes(pa.Codec("zstd", 1).compress(lines, asbytes=True))


@pytest.mark.parametrize("rows", [ROWS, []])
def test_rows_are_read_in_their_order(rows: list[Origin]) -> None:
    assert read_origins(written(rows)) == rows


@pytest.mark.parametrize("content", [b"", b"{}", written(ROWS)[:-3]], ids=["empty", "not compressed", "cut off"])
def test_what_is_no_sources_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"zstd|cut off"):
        read_origins(content)
