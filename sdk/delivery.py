"""The producer's thread: takes waiting logs, packs and sends them, and tries again while the receiver is away."""

import logging
import random
import threading
import time
import traceback
from collections.abc import Sequence

from tunemill.sdk.buffer import Buffer, Entry
from tunemill.sdk.counts import Counts
from tunemill.sdk.errors import SendError, TooLarge, Unavailable
from tunemill.sdk.pack import Pack, packs, singly
from tunemill.sdk.sender import Sender

LOGGER = logging.getLogger("tunemill.sdk")

_ROUND_LOGS = 1024  # sent and waited for together: enough for every partition to be busy
_ROUND_BYTES = 4 * 2**20
_LINGER_S = 0.05  # a log waits this long for company
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


class Delivery:
    """One thread's work from the buffer to the sender."""

    def __init__(self, buffer: Buffer, sender: Sender, counts: Counts) -> None:
        self._buffer = buffer
        self._sender = sender
        self._counts = counts
        self._closing = threading.Event()
        self._give_up_at = float("inf")
        self._away = False
        self._thread = threading.Thread(target=self._run, name="tunemill-sdk", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Send what is left, for at most `timeout_s`; then let go of the sender."""
        self._give_up_at = time.monotonic() + timeout_s
        self._closing.set()
        self._buffer.close()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._sender.abandon()
            self._thread.join(2.0)  # the sender's own closing

    def _run(self) -> None:
        try:
            while entries := self._take():
                self._deliver(entries)
        except Exception as error:
            # A fault of ours may not end in an application's traceback, nor in silence. Its own text may hold log text.
            at = traceback.extract_tb(error.__traceback__)[-1]
            LOGGER.error(
                "tunemill: the sending thread stopped (%s in %s, line %s); logs are no longer sent",
                type(error).__name__, at.name, at.lineno,
            )  # fmt: skip
        finally:
            self._sender.close()

    def _take(self) -> list[Entry]:
        return self._buffer.take(max_entries=_ROUND_LOGS, max_bytes=_ROUND_BYTES, linger_s=_LINGER_S)

    def _deliver(self, entries: Sequence[Entry]) -> None:
        """Send until every log is settled, or until time is up at close: those left are counted there."""
        left, attempt = list(entries), 0
        while left:
            left = self._attempt(left)
            if left and not self._wait_to_retry(attempt):
                return
            attempt += 1
        self._counts.passed(len(entries))

    def _attempt(self, entries: Sequence[Entry]) -> list[Entry]:
        """Send once; the logs to send again."""
        try:
            self._sender.connect()
        except Unavailable as error:
            self._say_away(error)
            return list(entries)
        return self._send(packs(entries, self._sender.lane))

    def _send(self, outgoing: Sequence[Pack]) -> list[Entry]:
        again: list[Entry] = []
        for pack, error in zip(outgoing, self._sender.send(outgoing), strict=True):
            again += self._settle(pack, error)
        return again

    def _settle(self, pack: Pack, error: SendError | None) -> list[Entry]:
        """Count what is final; the logs to send again."""
        if error is None:
            self._away = False
            self._counts.add(sent=len(pack.entries))
            return []
        if isinstance(error, Unavailable):
            self._say_away(error)
            return list(pack.entries)
        if isinstance(error, TooLarge) and len(pack.entries) > 1:
            return self._send_singly(pack)
        LOGGER.warning(
            "tunemill: %d logs failed, the first of them %s: %s", len(pack.entries), pack.entries[0].log_id, error
        )
        self._counts.add(failed=len(pack.entries))
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
            time.sleep(min(_FIRST_WAIT_S, max(0.0, self._give_up_at - time.monotonic())))
        return time.monotonic() < self._give_up_at

    def _say_away(self, error: SendError) -> None:
        """One warning per outage."""
        if not self._away:
            self._away = True
            LOGGER.warning("tunemill: logs wait in memory and are sent later: %s", error)
