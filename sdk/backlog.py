"""Logs that wait to be sent, oldest first: those that could not be sent, then those on disk, then those in memory.

Memory is filled by the application. With a spool, a thread of its own moves logs from memory to disk, behind those that are
there: all of them while the receiver is away, and else as many as keep memory half empty.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunemill.sdk.buffer import Buffer
from tunemill.sdk.counts import Counts
from tunemill.sdk.entry import Entry
from tunemill.sdk.errors import SpoolError, place, warn
from tunemill.sdk.limits import ROUND_BYTES, ROUND_LOGS
from tunemill.sdk.spool import Segment, Spool

_LINGER_S = 0.05  # a log waits this long for company
_AGAIN_S = 1.0  # until a spool that took nothing is tried again
_PATIENCE_S = 2.0  # with a receiver that is silent, before logs go to disk


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent together."""

    entries: tuple[Entry, ...]
    entered: int  # how many logs had entered memory up to the last of these
    segment: Segment | None = None  # where they lie on disk


class Backlog:
    """The way from memory, over disk if need be, to the sending thread."""

    def __init__(self, memory: Buffer, spool: Spool | None, counts: Counts) -> None:
        self._memory = memory
        self._spool = spool
        self._counts = counts
        self._unsent: Batch | None = None  # taken, and not yet settled
        self._taken_at = 0.0
        self._is_away = False
        self._is_told = False
        self._order = threading.Lock()  # memory is emptied, and the spool used, by one thread at a time
        self._ended = threading.Event()
        self._is_closed = False
        self._mover = threading.Thread(target=self._move_all, name="tunemill-spool", daemon=True)

    @property
    def has_spool(self) -> bool:
        """Whether what is not sent is kept for the next process."""
        return self._spool is not None

    def open(self) -> None:
        """Take over what processes that have ended left on disk, and begin to move logs there."""
        with self._order:
            if self._spool is None:
                return
            found = self._spool.take_over()
            self._counts.add(logged=found.logs + found.broken, spooled=found.logs, failed=found.broken)
            self._tell_broken(found.broken)
            with contextlib.suppress(RuntimeError):  # the interpreter shuts down: `close` moves what is left
                self._mover.start()

    def take(self) -> Batch | None:
        """The next logs to send, waiting for some; None once memory is closed and everything is sent. Then `settle` them."""
        while self._unsent is None:
            nudges = self._memory.nudges
            with self._order:
                self._taken_at = time.monotonic()
                self._unsent = self._next()
            if self._unsent is None:
                if self._memory.is_closed and not self._memory and not self._spool:
                    return None
                self._memory.wait(_LINGER_S, nudges=nudges)
        self._taken_at = time.monotonic()
        return self._unsent

    def settle(self, batch: Batch, left: Sequence[Entry], *, failed: int) -> None:
        """What was taken is sent, but for those that failed, and those left, which come first the next time."""
        with self._order:
            if self._is_closed:
                return  # what was taken is on disk, or counted as failed
            done = len(batch.entries) - len(left)
            segment = self._unsent.segment if self._unsent is not None else None
            self._counts.add(sent=done - failed, failed=failed, spooled=-done if segment is not None else 0)
            self._unsent = Batch(tuple(left), batch.entered, segment) if left else None
            if self._spool is not None:
                self._keep(self._spool, Batch(tuple(left), batch.entered, segment))
        if not left:
            self._counts.settled(batch.entered)

    def away(self, is_away: bool) -> None:
        """The receiver is away, or it is back."""
        if self._is_away != is_away:
            self._is_away = is_away
            self._memory.nudge()

    def end(self) -> None:
        """Nothing more comes in; what is here can still be taken."""
        self._memory.close()

    def close(self) -> None:
        """Put everything that is left on disk, if there is a spool."""
        self._ended.set()
        self._memory.close()
        if self._mover.is_alive():
            self._mover.join()
        with self._order:
            self._is_closed = True
            spool, self._spool = self._spool, None  # whoever is stuck in sending may not use it any more
            if spool is None:
                return
            try:
                if self._unsent is not None and self._unsent.segment is None:
                    self._keep(spool, self._unsent)
                while self._memory:
                    self._move(spool)
            except SpoolError as error:
                self._tell(error)
            spool.close()

    def leave_to_parent(self) -> None:
        """After a fork."""
        if self._spool is not None:
            self._spool.leave_to_parent()

    def _next(self) -> Batch | None:
        """The oldest logs that are not taken, if there are any."""
        while self._spool is not None and (segment := self._spool.first()) is not None:
            try:
                return self._from_disk(self._spool, segment)
            except SpoolError as error:
                self._counts.add(failed=segment.logs, spooled=-segment.logs)
                self._counts.settled(segment.entered)
                warn("%s; it stays where it is, and the next process sends it", error)
        entries = self._memory.first(ROUND_LOGS, ROUND_BYTES)
        return Batch(tuple(entries), self._memory.drop(len(entries))) if entries else None

    def _from_disk(self, spool: Spool, segment: Segment) -> Batch:
        contents = spool.read_first()
        missing = segment.logs - len(contents.entries)
        if missing:
            segment.logs -= missing
            self._counts.add(failed=missing, spooled=-missing)
            self._tell_broken(missing)
        return Batch(contents.entries, segment.entered, segment)

    def _keep(self, spool: Spool, left: Batch) -> None:
        """What is left goes to where it came from, or to disk, ahead of everything; if that fails it stays in memory."""
        try:
            if left.segment is not None:
                spool.keep(left.entries)
            elif left.entries:
                spool.put_back(left.entries, left.entered)
                self._counts.add(spooled=len(left.entries))
        except SpoolError as error:
            self._tell(error)
        else:
            self._unsent = None

    def _move_all(self) -> None:
        """The moving thread's work, until the end."""
        try:
            while not self._ended.is_set():
                nudges = self._memory.nudges
                idle_s = self._move_some()
                if not self._ended.wait(idle_s):
                    self._memory.wait(_LINGER_S, nudges=nudges, longest_s=_AGAIN_S)
        except Exception as fault:  # may not end in an application's traceback, nor in silence
            warn("the spooling thread stopped (%s); logs wait in memory", place(fault))

    def _move_some(self) -> float:
        """Move what should be moved; how many seconds there is nothing to do afterwards."""
        try:
            self._copy_overdue()
            moved = 0
            while self._is_moving():
                with self._order:
                    if self._spool is not None:
                        moved += self._move(self._spool)
        except SpoolError as error:
            self._tell(error)
            return _AGAIN_S
        return 0.0 if moved else _LINGER_S

    def _copy_overdue(self) -> None:
        """What the sending thread has been waiting on for long is on disk, too, if this process should end before it is sent.

        Raises:
            SpoolError: it stays in memory alone.
        """
        with self._order:
            batch = self._unsent
            if self._spool is not None and batch is not None and batch.segment is None and self._is_overdue():
                self._spool.put_back(batch.entries, batch.entered)
                self._counts.add(spooled=len(batch.entries))
                self._unsent = replace(batch, segment=self._spool.first())
                warn("the receiver is silent; logs wait on disk")

    def _is_overdue(self) -> bool:
        return self._unsent is not None and time.monotonic() - self._taken_at > _PATIENCE_S

    def _is_moving(self) -> bool:
        is_away = (self._is_away or self._is_overdue()) and not self._ended.is_set()
        return self._memory.is_filling or (is_away and bool(self._memory))

    def _move(self, spool: Spool) -> int:
        """The oldest in memory become the newest on disk; how many.

        Raises:
            SpoolError: they stay in memory.
        """
        entries = self._memory.first(ROUND_LOGS, spool.portion_bytes)
        if entries:
            spool.append(entries, self._memory.taken + len(entries))
            self._memory.drop(len(entries))
            self._counts.add(spooled=len(entries))
            self._memory.nudge()  # whoever waits for logs in memory finds them on disk now
        self._is_told = False
        return len(entries)

    def _tell(self, error: SpoolError) -> None:
        """Once for each time that the spool takes nothing."""
        if not self._is_told:
            self._is_told = True
            warn("%s; logs wait in memory, and are dropped when that is full", error)

    def _tell_broken(self, broken: int) -> None:
        if broken:
            warn("%d logs in the spool were unreadable, as after a crash, and are skipped", broken)
