"""The producer: takes logs from an application and publishes them in the background.

After construction nothing here raises into the application, and nothing waits longer than it says.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from tunemill.schemas.ids import PROJECT, new_id
from tunemill.schemas.records import LogRecord
from tunemill.sdk.backlog import Backlog
from tunemill.sdk.buffer import Buffer
from tunemill.sdk.context import Context, current
from tunemill.sdk.counts import Counts, Stats
from tunemill.sdk.delivery import Delivery
from tunemill.sdk.entry import Entry, Origin, as_text, entry_as_is, entry_of_fields, entry_of_log
from tunemill.sdk.errors import BadPolicy, warn
from tunemill.sdk.limits import MAX_LOG_BYTES, ROUND_BYTES, ROUND_LOGS
from tunemill.sdk.sender import Sender, open_sender
from tunemill.sdk.spool import Spool

WhenFull = Literal["drop", "block", "spool"]

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
        when_full: what becomes of a log that memory has no room for. `drop`: it is dropped and counted, after `block_s`.
            `block`: the application waits until there is room; not on a thread that runs an event loop, where it drops.
            `spool`: while the receiver is away logs are kept in `spool_dir`, and sent from there, in order, by this process
            or the next; only when the disk has no room either, they are dropped and counted.
        block_s: the longest that one `log` waits for room in memory before it drops the log. Logs of `wrap` don't wait.
        spool_dir: a folder for this application's spools; several processes may share it. What is in it is log text.
        spool_bytes: how much this producer may keep there.

    Raises:
        UnknownUrl: the URL names neither engine.
        BadKey: the key holds characters that no HTTP header can carry.
        BadPolicy: `when_full` is none of the three, or it doesn't fit `spool_dir`.
    """

    def __init__(
        self,
        url: str,
        *,
        app: str | None = None,
        project: str = PROJECT,
        api_key: str | None = None,
        buffer_bytes: int = 64 * 2**20,
        when_full: WhenFull = "drop",
        block_s: float = 0.1,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_bytes: int = 2**30,
    ) -> None:
        _check(when_full, spool_dir)
        self._url = url
        self._origin = Origin(app, project)
        self._api_key = api_key
        self._buffer_bytes = buffer_bytes
        self._when_full = when_full
        self._block_s = block_s
        self._spool_dir = Path(spool_dir).absolute() if spool_dir is not None else None
        self._spool_bytes = spool_bytes
        self._delivery: Delivery | None = None
        self._closed = False
        self._lost = 0  # failed or dropped, as the last flush saw it
        self._begin(open_sender(url, api_key=api_key))
        if spool_dir is not None:
            self._start()  # there may be something in the spool

    def log(self, log: LogRecord | None = None, /, *, request: Any = None, response: Any = None, **fields: Any) -> str:
        """Take one log and return its log_id at once; it is sent in the background.

        Give a LogRecord; or its fields by name (`messages=[...], output="...", model="..."`), with messages in OpenAI's
        shape; or what OpenAI was asked and answered (`request={...}, response=completion`), with any further fields.
        A field that LogRecord does not have is kept in `extra`. What cannot be taken is counted as dropped, with a warning.
        """
        if log is None:
            return self.log_from(current(), {"request": request, "response": response, **fields}, block_s=self._block_s)
        log_id = _id_of(log)
        try:
            self._take(entry_of_log(log, current(), self._origin), self._block_s)
        except Exception as error:
            self._note_unreadable(log_id, error)
        return log_id

    def log_from(self, context: Context, fields: Mapping[str, Any], *, block_s: float = 0.0) -> str:
        """As `log`, with the context of an earlier moment, and without waiting unless told to."""
        log_id = _id_of(fields)
        try:
            self._take(entry_of_fields(log_id, fields, context, self._origin), block_s)
        except Exception as error:
            self._note_unreadable(log_id, error)
        return log_id

    def log_as_is(self, payload: Mapping[str, Any], *, log_id: str, session_id: str | None = None) -> None:
        """Take a record of any shape that the server reads (docs/formats.md); only app and project are added.

        Args:
            log_id: what a warning names it by; the server reads its own from the payload.
            session_id: the conversation that it keeps its order in.
        """
        log_id = _id_of({"log_id": log_id})
        try:
            self._take(entry_as_is(log_id, session_id, payload, self._origin), 0.0)
        except Exception as error:
            self._note_unreadable(log_id, error)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until what was logged before is sent, at most `timeout_s`.

        Returns:
            True if every log since the last flush is durable at the receiver; False if some still wait, failed or were dropped.
        """
        self._memory.nudge()
        settled = self._counts.wait_settled(self._memory.entered, 0.0 if self._closed else timeout_s)
        stats = self._counts.read()
        lost, self._lost = self._lost, stats.failed + stats.dropped
        return settled and self._lost == lost

    def close(self, timeout_s: float = _EXIT_S) -> None:
        """Send what waits, for at most about `timeout_s`, and stop.

        What is then unsent stays in the spool; without one it is counted as failed, with a warning.
        """
        with self._lock:
            delivery, self._delivery = self._delivery, None
            closed, self._closed = self._closed, True
        self._memory.close()
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
        warn("log %s was dropped: %s", log_id, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _begin(self, sender: Sender) -> None:
        """An empty producer, whose thread starts with the first log."""
        self._sender = sender
        self._counts = Counts()
        self._memory = Buffer(self._buffer_bytes, self._counts, wake_logs=ROUND_LOGS, wake_bytes=ROUND_BYTES)
        spool = Spool(self._spool_dir, self._spool_bytes) if self._spool_dir is not None else None
        self._backlog = Backlog(self._memory, spool, self._counts)
        self._lock = threading.RLock()  # a signal may interrupt its holder, and log
        self._delivery = None
        self._closed = False
        self._is_full = False
        self._lost = 0

    def begin_in_child(self) -> None:
        """After a fork: what waits is the parent's to send, and its thread, files and connections are not ours."""
        _LEFT_TO_PARENT.extend((self._sender, self._delivery))
        self._backlog.leave_to_parent()
        self._begin(open_sender(self._url, api_key=self._api_key))

    def _take(self, log: Entry, block_s: float) -> None:
        if log.size > MAX_LOG_BYTES:
            self.note_dropped(log.log_id, f"it is {log.size} bytes, over the limit of {MAX_LOG_BYTES}")
        elif not self._start():
            self.note_dropped(log.log_id, "the producer is closed")
        else:
            self._put(log, self._wait_s(block_s))

    def _wait_s(self, block_s: float) -> float | None:
        """How long a log may wait for room; None: as long as it takes."""
        # asyncio's own way to ask: the public one raises where there is no loop, which is the usual case.
        if asyncio._get_running_loop() is not None:
            return 0.0
        return None if self._when_full == "block" else block_s

    def _start(self) -> bool:
        """Start the thread unless it runs; False once closed."""
        if self._delivery is not None:
            return True
        with self._lock:
            if self._delivery is None and not self._closed:
                self._delivery = delivery = Delivery(self._backlog, self._sender)
                try:
                    delivery.start()
                except RuntimeError:  # no thread can be started: too many, or the interpreter shuts down
                    self._delivery = None
                    raise
                _LIVE.add(self)
            return not self._closed

    def _put(self, log: Entry, wait_s: float | None) -> None:
        if self._memory.put(log, wait_s=wait_s):
            self._is_full = False
            return
        self._counts.add(logged=1, dropped=1)
        if not self._is_full:
            self._is_full = True
            warn("no room in memory, logs are dropped from %s on until there is", log.log_id)

    def _note_unreadable(self, log_id: str, error: Exception) -> None:
        self.note_dropped(log_id, f"it cannot be read as a log ({type(error).__name__})")

    def _say_lost(self, unsent: int) -> None:
        stats = self._counts.read()
        if unsent:
            warn("%d logs were still unsent when time was up at close", unsent)
        if stats.spooled:
            warn("%d logs are in the spool and wait for the next process", stats.spooled)
        if stats.failed + stats.dropped:
            warn(
                "of %d logs %d were sent, %d failed, %d were dropped and %d are in the spool",
                stats.logged, stats.sent, stats.failed, stats.dropped, stats.spooled,
            )  # fmt: skip


def _id_of(log: Any) -> str:
    """The id that a record or its fields name, or a new one; an application's odd object is none."""
    try:
        given = log.get("log_id") if isinstance(log, Mapping) else log.log_id
        return as_text(given) if given else new_id()
    except Exception:
        return new_id()


def _check(when_full: str, spool_dir: object) -> None:
    if when_full not in ("drop", "block", "spool"):
        raise BadPolicy("when_full is drop, block or spool")
    if (when_full == "spool") != (spool_dir is not None):
        raise BadPolicy("when_full='spool' and spool_dir go together: give both or neither")


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
