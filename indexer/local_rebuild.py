"""The embedded search made anew beside the one in use, which is searched and written meanwhile, and put in its place."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tunemill.indexer.bodies import Bodies
from tunemill.indexer.document import to_document
from tunemill.indexer.errors import IndexUnavailable
from tunemill.indexer.projection import Projection
from tunemill.schemas.records import TaggedLog

PAGE = 1000  # logs that are done between two writes of others
MOST_LATE_PAGES = 20  # of logs that came meanwhile; then, or when few are left, others wait until all are done


class LocalRebuild:
    """A search that grows. It belongs to the writing thread."""

    def __init__(self, in_use: Path, bodies: Bodies) -> None:
        self._in_use = in_use
        self._bodies = bodies
        self._folder = in_use.with_name(f"{in_use.name}.new")
        self._changed: set[str] = set()
        self._reached = 0
        self._fresh: Projection | None = Projection(self._folder, None)

    def note(self, log_ids: Iterable[str]) -> None:
        """These logs are changed or deleted meanwhile: looked at again in the end."""
        self._changed.update(log_ids)

    def add(self, logs: Mapping[int, TaggedLog], *, upto: int) -> None:
        """Take logs in, by their numbers: all up to a number that are to be found."""
        self._reached = upto
        with _tantivy_errors(self._folder):
            self._open.add([(seq, to_document(tagged)) for seq, tagged in logs.items()])

    def take_place_of(self, projection: Projection) -> Projection:
        """Put it in the place of the search in use. Who reads that one goes on reading it."""
        with _tantivy_errors(self._folder):
            while late := self._bodies.stored_after(self._reached, PAGE):
                self.add({seq: stored.tagged for seq, stored in late.items()}, upto=max(late))
            self._open.replace(
                [
                    (log_id, row.seq if row else 0, to_document(row.tagged) if row else None)
                    for log_id, row in self._bodies.rows_of(sorted(self._changed))
                ]
            )
            self._open.finish()
            self._fresh = None
            projection.stop_writing()
            shutil.rmtree(self._in_use)
            self._folder.rename(self._in_use)  # a crash before this: the next start makes it anew from the bodies
            return Projection(self._in_use, self._bodies)

    def drop(self) -> None:
        """Forget it, if it did not take its place."""
        if self._fresh is not None:
            self._fresh.close()
            self._fresh = None
            shutil.rmtree(self._folder)

    @property
    def _open(self) -> Projection:
        if self._fresh is None:
            raise RuntimeError("it took its place, or was dropped")
        return self._fresh


@contextmanager
def _tantivy_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # a full disk, or an unreadable file
        raise IndexUnavailable(f"the search in {folder} cannot be written") from error
