"""Rows of any known format in Parquet files, some at a time."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

MAGIC = b"PAR1"
ROWS_AT_ONCE = 500


class NotParquet(Exception):
    """It begins like a Parquet file and cannot be read as one. Says nothing of what it holds."""


def values(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows as JSON-like objects, in order; never more than some hundred of them are in memory.

    Raises:
        NotParquet: the file is cut off or damaged.
    """
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=ROWS_AT_ONCE):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise NotParquet("it begins like a Parquet file and cannot be read as one: it may be cut off") from error
