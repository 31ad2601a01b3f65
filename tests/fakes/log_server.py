"""What receives logs over HTTP, as the server does: every item of a body is read as the stream reads it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fakes.http_server import Answer, Asked, json_answer, serving

from tunemill.schemas.packing import split
from tunemill.schemas.records import LogRecord
from tunemill.streams.decode import decode
from tunemill.streams.errors import Undecodable


@dataclass
class LogServer:
    """Its address, what it was asked, and the logs that it took, in order."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    logs: list[LogRecord] = field(default_factory=list)
    away: Iterator[int] = field(default_factory=lambda: iter(()))  # statuses to answer with before anything is taken

    def answer(self, asked: Asked) -> Answer:
        """Take what can be read; refuse the rest item by item."""
        status = next(self.away, None)
        if status is not None:
            return Answer(status)
        rejected = []
        items = split(asked.body)
        for position, item in enumerate(items):
            try:
                found = decode(item, ts_ms=0)
                assert isinstance(found, LogRecord)
                self.logs.append(found)
            except Undecodable as error:
                rejected.append({"item": position, "code": error.code, "reason": str(error)})
        return json_answer({"accepted": len(items) - len(rejected), "rejected": rejected}, 202)


@contextmanager
def log_server(*, port: int = 0, away: Iterable[int] = ()) -> Iterator[LogServer]:
    """Take logs until the block ends."""
    taking = LogServer(away=iter(away))
    with serving(taking.answer, port=port) as server:
        taking.url, taking.asked = server.url, server.asked
        yield taking
