"""The embedded engine: an append-only log and its readers' places in one SQLite file.

One topic is one partition. Several processes may use the file; each reads all of a topic, also where two share a group.
"""

import asyncio
import json
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TypeVar

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.limits import check_sizes
from tunemill.bus.port import SCRUBBED, Message, Outgoing
from tunemill.schemas.topics import Topic

T = TypeVar("T")
Step = Callable[[sqlite3.Connection], T]

PARTITION = 0
LOOK_AGAIN_S = 0.1  # how often a waiting reader looks for what another process published
BUSY_S = 30.0  # how long to wait for another process's write
MAX_POLL_BYTES = 32 * 2**20  # a poll stops early rather than fill the memory

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    topic TEXT NOT NULL, offset INTEGER NOT NULL, key TEXT, value BLOB NOT NULL, ts_ms INTEGER NOT NULL, headers TEXT,
    PRIMARY KEY (topic, offset)
);
CREATE TABLE IF NOT EXISTS places (
    reader_group TEXT NOT NULL, topic TEXT NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (reader_group, topic)
) WITHOUT ROWID;
"""
END = "SELECT coalesce(max(offset) + 1, 0) FROM messages WHERE topic = ?"
APPEND = "INSERT INTO messages (topic, offset, key, value, ts_ms, headers) VALUES (?, ?, ?, ?, ?, ?)"
COLUMNS = "topic, offset, key, value, ts_ms, headers"
READ = f"SELECT {COLUMNS} FROM messages WHERE topic = ? AND offset >= ? ORDER BY offset LIMIT ?"  # noqa: S608  constants
TAIL = f"SELECT {COLUMNS} FROM messages WHERE topic = ? ORDER BY offset DESC LIMIT ?"  # noqa: S608  constants
AT = f"SELECT {COLUMNS} FROM messages WHERE topic = ? AND offset = ?"  # noqa: S608  constants
SCRUB = "UPDATE messages SET value = ?, key = NULL WHERE topic = ? AND offset = ?"
SCRUBS = "PRAGMA user_version"  # how often something was scrubbed since nothing was left of what had been
EMPTY = "UPDATE messages SET value = x'', key = NULL, headers = ? WHERE topic = ? AND offset = ?"
PLACE = "SELECT next_offset FROM places WHERE reader_group = ? AND topic = ?"
REMEMBER = """
INSERT INTO places (reader_group, topic, next_offset) VALUES (?, ?, ?)
ON CONFLICT (reader_group, topic) DO UPDATE SET next_offset = excluded.next_offset
"""


class SqliteBus:
    """A `Bus` in one file. SQLite's blocking calls run on one thread of its own, off the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-bus")
        self._connection: sqlite3.Connection | None = None  # touched by that thread only
        self._published = asyncio.Event()  # replaced by a fresh one at each publish
        self._closed = False

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Make the file exist; within it a topic begins with its first message."""
        await self._run(lambda connection: None)

    async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
        """Append in one transaction, which is on the disk when this returns."""
        check_sizes(topic, messages)
        await self._run(lambda connection: _append(connection, topic.name, messages))
        woken, self._published = self._published, asyncio.Event()
        woken.set()

    @asynccontextmanager
    async def subscribe(self, topics: Sequence[Topic], *, group: str | None) -> AsyncIterator["SqliteSubscription"]:
        """Read from where the group last committed, else from the start."""
        names = [topic.name for topic in topics]
        yield SqliteSubscription(self, await self._run(lambda connection: _places(connection, group, names)), group)

    async def tail(self, topic: Topic, *, limit: int) -> Sequence[Message]:
        """The newest messages, newest first."""
        return await self._run(
            lambda connection: [_message(row) for row in connection.execute(TAIL, (topic.name, limit))]
        )

    async def read(self, topic: Topic, places: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], Message]:
        """The messages at these places; those that are not there are left out."""
        offsets = [offset for partition, offset in places if partition == PARTITION]
        found = await self._run(lambda connection: _at(connection, topic.name, offsets))
        return {(message.partition, message.offset): message for message in found}

    async def end_offsets(self, places: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """The offset that the next message of each (topic, partition) will get."""
        return await self._run(lambda connection: {place: _end(connection, place[0]) for place in places})

    async def scrub(self, topic: Topic, changed: Mapping[tuple[int, int], bytes]) -> int:
        """Put other values in place of those of the messages at these places."""
        values = {offset: value for (partition, offset), value in changed.items() if partition == PARTITION}
        return await self._run(lambda connection: _scrub(connection, topic.name, values))

    async def expunge(self) -> None:
        """Write the file anew without its free space; who publishes meanwhile waits."""
        await self._run(_expunge)

    async def kept_until_ms(self, topic: Topic) -> None:
        """Never: the file keeps every message."""

    async def ping(self) -> None:
        """Return if the file can be read."""
        await self._run(lambda connection: connection.execute("SELECT count(*) FROM places").fetchone())

    async def close(self) -> None:
        """Let go of the file; a closed bus is not used again."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    async def _run(self, step: Step[T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: step(self._connect()))
        except (sqlite3.Error, OSError) as error:
            raise BusUnavailable(
                f"the bus file {self._path} cannot be used ({error}): check its folder, its owner and the free space"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")  # an answered publish survives a power cut
                connection.executescript(SCHEMA)
                _add_headers(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteSubscription:
    """One reader's place in some topics of the file."""

    def __init__(self, bus: SqliteBus, places: Mapping[str, int], group: str | None) -> None:
        self._bus = bus
        self._places = dict(places)
        self._turn = deque(places)  # which topic is read first: they take turns, so that a full one starves no other
        self._group = group

    async def poll(self, *, max_messages: int, timeout_s: float) -> Sequence[Message]:
        """The next messages, as soon as there is one."""
        deadline = time.monotonic() + timeout_s
        while True:
            published = self._bus._published  # taken before the look, so that nothing slips in between
            found = await self._bus._run(lambda connection: self._read(connection, max_messages))
            left = deadline - time.monotonic()
            if found or left <= 0:
                self._places |= {message.topic: message.offset + 1 for message in found}
                return found
            await _wait(published, min(left, LOOK_AGAIN_S))

    async def commit(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        """Remember the group's places, durably."""
        if self._group is None:
            raise ValueError("a reader without a group has no place to commit")
        rows = [(self._group, topic, offset) for (topic, _), offset in next_offsets.items()]
        await self._bus._run(lambda connection: _remember(connection, rows))

    async def lag(self) -> int:
        """How many messages are not polled yet."""
        return await self._bus._run(lambda connection: sum(_end(connection, t) - p for t, p in self._places.items()))

    def _read(self, connection: sqlite3.Connection, max_messages: int) -> list[Message]:
        found: list[Message] = []
        size = 0
        self._turn.rotate(-1)
        for topic in self._turn:
            # Closed also when not read to its end: an open cursor would keep the log's old pages.
            with closing(connection.execute(READ, (topic, self._places[topic], max_messages - len(found)))) as rows:
                for row in rows:
                    found.append(_message(row))
                    size += len(found[-1].value)
                    if size >= MAX_POLL_BYTES:
                        return found
        return found


def _append(connection: sqlite3.Connection, topic: str, messages: Sequence[Outgoing]) -> None:
    with _writing(connection):
        first = _end(connection, topic)
        now_ms = time.time_ns() // 1_000_000
        rows = (
            (
                topic,
                first + i,
                message.key,
                message.value,
                now_ms,
                json.dumps(dict(message.headers)) if message.headers else None,
            )
            for i, message in enumerate(messages)
        )
        connection.executemany(APPEND, rows)


def _add_headers(connection: sqlite3.Connection) -> None:
    """Give a file from before there were headers their column; of two processes that open it at once, the second finds it."""
    if _has_headers(connection):
        return
    with _writing(connection):
        if not _has_headers(connection):
            connection.execute("ALTER TABLE messages ADD COLUMN headers TEXT")


def _has_headers(connection: sqlite3.Connection) -> bool:
    return any(name == "headers" for _, name, *_ in connection.execute("PRAGMA table_info(messages)"))


def _at(connection: sqlite3.Connection, topic: str, offsets: Sequence[int]) -> list[Message]:
    rows = [connection.execute(AT, (topic, offset)).fetchone() for offset in offsets]
    return [_message(row) for row in rows if row is not None]


def _remember(connection: sqlite3.Connection, rows: Sequence[tuple[str, str, int]]) -> None:
    with _writing(connection):
        connection.executemany(REMEMBER, rows)


def _scrub(connection: sqlite3.Connection, topic: str, values: Mapping[int, bytes]) -> int:
    headers = json.dumps({SCRUBBED: "1"})
    with _writing(connection):
        done = [
            connection.execute(SCRUB, (value, topic, offset))
            if value
            else connection.execute(EMPTY, (headers, topic, offset))
            for offset, value in values.items()
        ]
        (scrubs,) = connection.execute(SCRUBS).fetchone()
        if done:
            connection.execute(f"{SCRUBS} = {scrubs + 1:d}")  # PRAGMA takes no parameters
    return sum(one.rowcount for one in done)


def _expunge(connection: sqlite3.Connection) -> None:
    """Overwriting what is deleted is not enough: pages also hold copies of what SQLite moved to others before."""
    (scrubs,) = connection.execute(SCRUBS).fetchone()
    if not scrubs:
        return
    connection.execute("VACUUM")
    is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise sqlite3.OperationalError("another process reads the bus file: its old pages are still in use")
    with _writing(connection):
        if connection.execute(SCRUBS).fetchone() == (scrubs,):
            connection.execute(f"{SCRUBS} = 0")


def _places(connection: sqlite3.Connection, group: str | None, topics: Sequence[str]) -> dict[str, int]:
    found = {topic: connection.execute(PLACE, (group, topic)).fetchone() for topic in topics}
    return {topic: row[0] if row else 0 for topic, row in found.items()}


def _end(connection: sqlite3.Connection, topic: str) -> int:
    return int(connection.execute(END, (topic,)).fetchone()[0])


def _message(row: tuple[str, int, str | None, bytes, int, str | None]) -> Message:
    topic, offset, key, value, ts_ms, headers = row
    return Message(topic, PARTITION, offset, key, value, ts_ms, json.loads(headers) if headers else {})


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction that takes the write lock first, so that the next offset is read and used by one process at a time."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
