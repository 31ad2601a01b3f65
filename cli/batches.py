"""The numbered records of a file -> requests of a bounded size."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Numbered(Protocol):
    """What stands in a file, and where."""

    @property
    def number(self) -> int:
        """The place, counted up in the order of the file."""

    @property
    def value(self) -> bytes:
        """What stands there."""


Record = TypeVar("Record", bound=Numbered)


def batches(records: Iterable[Record], *, numbers: int, size_bytes: int) -> Iterator[list[Record]]:
    """Records in order, none left out, in batches that span at most so many numbers.

    Args:
        size_bytes: of the values of a batch; a larger value is a batch of its own.
    """
    batch: list[Record] = []
    batch_bytes = 0
    for record in records:
        is_far = bool(batch) and record.number - batch[0].number >= numbers
        if is_far or (batch and batch_bytes + len(record.value) > size_bytes):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(record)
        batch_bytes += len(record.value)
    if batch:
        yield batch
