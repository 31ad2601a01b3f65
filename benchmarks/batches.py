"""What is measured on: the logs of a file, repeated under fresh ids, in every form in which a side takes them."""

import gzip
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import msgspec

from tunemill.bus.port import Message, Outgoing
from tunemill.indexer.bulk import Bulk
from tunemill.indexer.document import to_document
from tunemill.schemas.ids import new_id
from tunemill.schemas.packing import pack
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.schemas.topics import LOGS
from tunemill.streams.decode import decode
from tunemill.streams.process import process
from tunemill.streams.rules import Rules

SAMPLE = Path(__file__).parent.parent / "examples" / "logs.jsonl"
PACKED_LOGS = 64  # per message, as the SDK packs them


def read(path: Path) -> list[LogRecord]:
    """The logs in a file, as the stream decodes them; what else a line tells is left out."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    readings = (decode(line, ts_ms=0) for line in raw.splitlines() if line.strip())
    return [reading for reading in readings if isinstance(reading, LogRecord)]


def digest(record: LogRecord) -> str:
    """What a log is known by where its text must not stand: the SHA-256 of the first user message."""
    text = next((message.content or "" for message in record.messages if message.role == "user"), "")
    return sha256(text.encode()).hexdigest()


class Batches:
    """As many logs as a round takes, each time under fresh ids: an index must not have seen them."""

    def __init__(self, records: list[LogRecord], count: int, rules: Rules) -> None:
        self.records = records
        self.count = count
        self.rules = rules
        self.mean_log_bytes = round(sum(len(msgspec.json.encode(record)) for record in records) / len(records))
        self._tagged: list[TaggedLog] = []

    def fresh(self, count: int, *, start: int = 0) -> Iterator[LogRecord]:
        """So many logs from this one on, each under an id that nothing had before."""
        for place in range(start, start + count):
            yield msgspec.structs.replace(self.records[place % len(self.records)], log_id=new_id())

    def messages(self, count: int | None = None, *, per_message: int = PACKED_LOGS) -> Iterator[Outgoing]:
        """For the bus: packed as the SDK sends them, or with one log in each message as others do."""
        fresh = self.fresh(self.count if count is None else count)
        while chunk := list(islice(fresh, per_message)):
            yield Outgoing(pack(chunk), key=chunk[0].log_id)

    def tagged(self, count: int | None = None) -> Iterator[TaggedLog]:
        """What the stream makes of them: masked and tagged. Each log of the input is worked on once.

        Raises:
            ValueError: the stream rejects one, so that the sides would not write the same.
        """
        if not self._tagged:
            self._tagged = [self._process(record) for record in self.records]
        for place in range(self.count if count is None else count):
            known = self._tagged[place % len(self._tagged)]
            yield msgspec.structs.replace(known, log=msgspec.structs.replace(known.log, log_id=new_id()))

    def documents(self, count: int | None = None) -> Iterator[tuple[str, bytes, bytes]]:
        """The id, and the two lines of `_bulk`, of the document that each becomes."""
        for tagged in self.tagged(count):
            bulk = Bulk()
            bulk.create(to_document(tagged))
            action, document = bytes(bulk.body(range(1))).splitlines()
            yield tagged.log.log_id, action, document

    def _process(self, record: LogRecord) -> TaggedLog:
        message = Message(LOGS.name, 0, 0, record.log_id, pack([record]), 0)
        (result,) = process([message], self.rules, now_ms=0)[0]
        if not isinstance(result, TaggedLog):
            raise ValueError("the input has a record that the stream does not take as a whole log")
        return result
