"""A Faust worker in a process of its own, with one fault if asked for: `python faulty_worker.py BUS INDEX NAME PORT FAULT`.

A fault comes with the second write of logs, so that something lies before it and something behind it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from tunemill.indexer.open import open_index
from tunemill.schemas.outcome import Written
from tunemill.schemas.records import LogRecord, TaggedLog
from tunemill.streams import app, flow, liveness, process
from tunemill.streams.app import run_faust
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules
from tunemill.telemetry.logs import configure

FAULTS = (
    "none",
    "raises",  # when the logs are written
    "cancels",  # the agent, behind Faust's back
    "dies",  # when the logs are written, nothing is committed
    "hangs",  # the write never ends
    "slow",  # each write takes a moment
    "impatient",  # each part is written well after the one before, and a stall comes as soon as in one that hangs
    "reversed",  # the first parts take longest
    "unmasked",  # masking fails, from the start
)
STALL_S = 6.0
DRAIN_S = 2.0


class Faulty:
    """An index with a fault in `write`; all else is the real one's."""

    def __init__(self, index: Any, fault: str) -> None:
        self._index = index
        self._fault = fault
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        self._writes += 1
        number = self._writes
        if self._fault == "reversed":
            await asyncio.sleep(max(0.0, 3.0 - 0.5 * number))
        if self._fault == "impatient":
            await asyncio.sleep(1.5 * number)
        if self._fault == "hangs" and number >= 2:
            await asyncio.Event().wait()
        written: Sequence[Written] = await self._index.write(logs)
        match self._fault:
            case "slow":
                await asyncio.sleep(0.3)
            case "raises" if number >= 2:
                raise KeyError("nobody foresaw this")
            case "cancels" if number == 2:
                for task in asyncio.all_tasks():
                    if getattr(task.get_coro(), "__name__", "") == "_execute_actor":
                        task.cancel()
            case "dies" if number >= 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return written


def fails(_log: LogRecord) -> NoReturn:
    raise ZeroDivisionError


def main(bus: str, index: str, name: str, port: str, fault: str) -> None:
    configure(service="streams")
    if fault == "unmasked":
        process.mask = fails
    app.SESSION_TIMEOUT_S = 6.0  # the least that a broker takes
    app.LOOK_EVERY_S = 1.0
    flow.PART_MESSAGES = 50  # several parts in each wave
    run_faust(
        bus,
        lambda: Faulty(open_index(index, project=name), fault),
        Rulebook(load_rules()),
        health_port=int(port),
        group=name,
        stall_s=STALL_S if fault in ("hangs", "impatient") else liveness.STALL_S,
        drain_s=DRAIN_S,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
