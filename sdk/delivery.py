"""The producer's thread: takes waiting logs, packs and sends them, and tries again while the receiver is away."""

import contextlib
import random
import threading
import time
from collections.abc import Sequence

from tunemill.sdk.backlog import Backlog, Batch
from tunemill.sdk.entry import Entry
from tunemill.sdk.errors import PartlyRefused, SendError, TooLarge, Unavailable, place, warn
from tunemill.sdk.pack import Pack, packs, singly
from tunemill.sdk.sender import Sender

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


class Delivery:
    """One thread's work from the backlog to the sender."""

    def __init__(self, backlog: Backlog, sender: Sender) -> None:
        self._backlog = backlog
        self._sender = sender
        self._failed = 0  # of the batch that is being sent
        self._closing = threading.Event()
        self._give_up_at = float("inf")
        self._away = False
        self._thread = threading.Thread(target=self._run, name="tunemill-sdk", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Send what is left, for at most `timeout_s`; then let go of the sender. With a spool, the rest goes there."""
        self._give_up_at = time.monotonic() + timeout_s
        self._closing.set()
        self._backlog.end()
        if self._thread.ident is not None:  # a signal may close what is about to start
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._sender.abandon()
            self._thread.join(2.0)  # the sender's own closing
        self._backlog.close()

    def _run(self) -> None:
        try:
            self._backlog.open()
            attempt = 0
            while not self._is_time_up() and (batch := self._backlog.take()) is not None:
                self._failed = 0
                left = self._attempt(batch)
                self._backlog.settle(batch, left, failed=self._failed)
                attempt = attempt + 1 if left else 0
                if left and not self._wait_to_retry(attempt):
                    return
        except Exception as fault:  # may not end in an application's traceback, nor in silence
            warn("the sending thread stopped (%s); logs are no longer sent, and dropped", place(fault))
        finally:
            self._backlog.end()  # nobody waits for room that nobody makes
            with contextlib.suppress(Exception):
                self._sender.close()

    def _attempt(self, batch: Batch) -> list[Entry]:
        """Send once; the logs to send again: all of them after a fault that nobody foresaw."""
        try:
            self._sender.connect()
            return self._send(packs(batch.entries, self._sender.lane))
        except Unavailable as error:
            self._say_away(error)
        except Exception as fault:
            self._failed = 0
            self._say_away(Unavailable(f"a fault of the SDK ({place(fault)})"))
        return list(batch.entries)

    def _send(self, outgoing: Sequence[Pack]) -> list[Entry]:
        again: list[Entry] = []
        for pack, error in zip(outgoing, self._sender.send(outgoing), strict=True):
            again += self._settle(pack, error)
        return again

    def _settle(self, pack: Pack, error: SendError | None) -> list[Entry]:
        """Note what failed; the logs to send again."""
        if isinstance(error, Unavailable):
            self._say_away(error)
            return list(pack.entries)
        if isinstance(error, TooLarge) and len(pack.entries) > 1:
            return self._send_singly(pack)
        self._say_back()
        refused = _refused(pack, error)
        if refused:
            warn("%d logs failed, the first of them %s: %s", len(refused), refused[0].log_id, error)
        self._failed += len(refused)
        return []

    def _send_singly(self, pack: Pack) -> list[Entry]:
        try:
            self._sender.connect()
        except Unavailable:
            return list(pack.entries)
        return self._send(singly(pack))

    def _wait_to_retry(self, attempt: int) -> bool:
        """Wait, longer each time, with jitter so that many processes don't return at once. False when time is up."""
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        if self._closing.wait(wait_s):
            if self._backlog.has_spool:
                return False  # nothing is lost by leaving it to the next process
            time.sleep(min(_FIRST_WAIT_S, max(0.0, self._give_up_at - time.monotonic())))
        return not self._is_time_up()

    def _is_time_up(self) -> bool:
        return time.monotonic() >= self._give_up_at

    def _say_away(self, error: SendError) -> None:
        """One warning per outage."""
        self._backlog.away(True)
        if not self._away:
            self._away = True
            where = "on disk" if self._backlog.has_spool else "in memory"
            warn("logs wait %s and are sent later: %s", where, error)

    def _say_back(self) -> None:
        self._backlog.away(False)
        self._away = False


def _refused(pack: Pack, error: SendError | None) -> list[Entry]:
    """Those of its logs that the receiver will never take."""
    if isinstance(error, PartlyRefused):
        return [entry for position, entry in enumerate(pack.entries) if position in error.positions]
    return list(pack.entries) if error is not None else []
