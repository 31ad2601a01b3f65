"""The producer: takes logs from an application and publishes them in the background.

After construction nothing here raises into the application, and nothing waits longer than it says.
"""

import atexit
import logging
import os
import threading
from typing import Any, Self

import msgspec

from tunemill.schemas.ids import PROJECT, new_id
from tunemill.schemas.packing import pack
from tunemill.schemas.records import LogRecord
from tunemill.schemas.topics import LOGS
from tunemill.sdk.buffer import Buffer, Entry
from tunemill.sdk.context import Context, current, in_context
from tunemill.sdk.counts import Counts, Stats
from tunemill.sdk.delivery import Delivery
from tunemill.sdk.openai_pair import fields as pair_fields
from tunemill.sdk.record import record
from tunemill.sdk.sender import Sender, open_sender

LOGGER = logging.getLogger("tunemill.sdk")

MAX_LOG_BYTES = LOGS.max_message_bytes - 16 * 2**10  # room for the key and Kafka's framing
_EXIT_S = 5.0

_LIVE: "set[Producer]" = (
    set()
)  # those whose thread runs; held here, because an application may forget one that still has logs
_LEFT_TO_PARENT: list[
    object
] = []  # connections of the process we were forked from; closing them here would close them there


class Producer:
    """Publishes logs to `kafka://host:port[,host:port...]` or to a tunemill server at `http(s)://host[:port]`.

    Safe to use from many threads and from asyncio, and after a fork, where it starts empty. Give it up with `close` or
    as a context manager; what is left when the interpreter exits is sent then, for at most five seconds.

    Args:
        app: names the application in every log that names none.
        project: the project of every log that names none.
        api_key: for `http(s)`; sent as a bearer token.
        buffer_bytes: how much may wait in memory while the receiver is away.
        block_s: the longest that one `log` waits for room in memory before it drops the log and counts it.

    Raises:
        UnknownUrl: the URL names neither engine.
        BadKey: the key holds characters that no HTTP header can carry.
    """

    def __init__(
        self,
        url: str,
        *,
        app: str | None = None,
        project: str = PROJECT,
        api_key: str | None = None,
        buffer_bytes: int = 64 * 2**20,
        block_s: float = 0.1,
    ) -> None:
        self._url = url
        self._app = app
        self._project = project
        self._api_key = api_key
        self._buffer_bytes = buffer_bytes
        self._block_s = block_s
        self._delivery: Delivery | None = None
        self._closed = False
        self._lost = 0  # failed or dropped, as the last flush saw it
        self._begin(open_sender(url, api_key=api_key))

    def log(self, log: LogRecord | None = None, /, *, request: Any = None, response: Any = None, **fields: Any) -> str:
        """Take one log and return its log_id at once; it is sent in the background.

        Give a LogRecord; or its fields by name (`messages=[...], output="...", model="..."`), with messages in OpenAI's
        shape; or what OpenAI was asked and answered (`request={...}, response=completion`), with any further fields.
        A field that LogRecord does not have is kept in `extra`. What cannot be taken is counted as dropped, with a warning.
        """
        return self._log(log, request, response, fields, context=current(), block_s=self._block_s)

    def log_from(self, context: Context, *, request: Any, response: Any, **fields: Any) -> str:
        """As `log`, with the context of an earlier moment, and without ever waiting."""
        return self._log(None, request, response, fields, context=context, block_s=0.0)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until what was logged before is sent, at most `timeout_s`.

        Returns:
            True if every log since the last flush is durable at the receiver; False if some still wait, failed or were dropped.
        """
        self._buffer.hurry()
        settled = self._counts.wait_settled(self._counts.read(), timeout_s)
        stats = self._counts.read()
        lost, self._lost = self._lost, stats.failed + stats.dropped
        return settled and self._lost == lost

    def close(self, timeout_s: float = _EXIT_S) -> None:
        """Send what waits, for at most about `timeout_s`, and stop; what is then unsent is counted as failed, with a warning."""
        with self._lock:
            delivery, self._delivery = self._delivery, None
            closed, self._closed = self._closed, True
        self._buffer.close()
        if delivery is not None:
            delivery.finish(timeout_s)
        _LIVE.discard(self)
        if not closed:
            self._say_lost(self._counts.fail_waiting())

    def stats(self) -> Stats:
        """What became of the logs so far."""
        return self._counts.read()

    def note_dropped(self, log_id: str, reason: str) -> None:
        """Count a log that could not be taken, and say so. The reason may hold no log text."""
        self._counts.add(logged=1, dropped=1)
        LOGGER.warning("tunemill: log %s was dropped: %s", log_id, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _begin(self, sender: Sender) -> None:
        """An empty producer, whose thread starts with the first log."""
        self._sender = sender
        self._buffer = Buffer(self._buffer_bytes)
        self._counts = Counts()
        self._lock = threading.Lock()
        self._delivery = None
        self._closed = False
        self._full = False
        self._lost = 0

    def begin_in_child(self) -> None:
        """After a fork: what waits is the parent's to send, and its thread and connections are not ours."""
        _LEFT_TO_PARENT.extend((self._sender, self._delivery))
        self._begin(open_sender(self._url, api_key=self._api_key))

    def _log(
        self,
        log: LogRecord | None,
        request: Any,
        response: Any,
        fields: dict[str, Any],
        *,
        context: Context,
        block_s: float,
    ) -> str:
        log_id = log.log_id if log is not None else str(fields.get("log_id") or new_id())
        try:
            if log is None:
                pair = pair_fields(request, response) if request is not None else {}
                log = record({**pair, **fields, "log_id": log_id})
            self._take(self._entry(in_context(log, context)), block_s)
        except Exception as error:
            self.note_dropped(log_id, f"it cannot be read as a log ({type(error).__name__})")
        return log_id

    def _entry(self, log: LogRecord) -> Entry:
        log = msgspec.structs.replace(
            log, app=log.app or self._app, project=self._project if log.project == PROJECT else log.project
        )
        return Entry(log.log_id, str(log.session_id) if log.session_id else None, pack((log,)))

    def _take(self, entry: Entry, block_s: float) -> None:
        if len(entry.line) > MAX_LOG_BYTES:
            self.note_dropped(entry.log_id, f"it is {len(entry.line)} bytes, over the limit of {MAX_LOG_BYTES}")
        elif not self._start():
            self.note_dropped(entry.log_id, "the producer is closed")
        else:
            self._put(entry, block_s)

    def _start(self) -> bool:
        """Start the thread unless it runs; False once closed."""
        with self._lock:
            if self._delivery is None and not self._closed:
                delivery = Delivery(self._buffer, self._sender, self._counts)
                delivery.start()
                self._delivery = delivery
                _LIVE.add(self)
            return not self._closed

    def _put(self, entry: Entry, block_s: float) -> None:
        """Counted as logged first: the thread may have sent it before `put` returns."""
        self._counts.add(logged=1)
        if self._buffer.put(entry, block_s=block_s):
            self._full = False
            return
        self._counts.add(dropped=1)
        if not self._full:
            self._full = True
            LOGGER.warning("tunemill: no room in memory, logs are dropped from %s on until there is", entry.log_id)

    def _say_lost(self, unsent: int) -> None:
        stats = self._counts.read()
        if unsent:
            LOGGER.warning("tunemill: %d logs were still unsent when time was up at close", unsent)
        if stats.failed + stats.dropped:
            LOGGER.warning(
                "tunemill: of %d logs %d were sent, %d failed and %d were dropped",
                stats.logged, stats.sent, stats.failed, stats.dropped,
            )  # fmt: skip


def _close_all() -> None:
    for producer in list(_LIVE):
        producer.close(_EXIT_S)


def _begin_all_in_child() -> None:
    inherited = list(_LIVE)
    _LIVE.clear()
    for producer in inherited:
        producer.begin_in_child()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_in_child)
