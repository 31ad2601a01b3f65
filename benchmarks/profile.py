"""Where the stream's CPU goes: microseconds a log by stage, from samples of the running code.

    python -m benchmarks.profile --input logs.jsonl.gz --json

The same work as `ingest --engine stub`, messages to answered requests, on one thread so that one timer sees all of it. Each time
that some CPU has been used, it is put down to the stage of the innermost of our modules that is running; what a library does
counts as the stage that called it. A module that is in no stage is named itself.
"""

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TypeVar

import typer

from benchmarks.batches import SAMPLE, Batches, read
from benchmarks.harness import Figure, report
from benchmarks.ingest_stub import LONG_LOG_BYTES, RULES, CpuClock, longer, work_through
from benchmarks.many_rules import rules_in_all
from benchmarks.stub_elasticsearch import stub_elasticsearch
from tunemill.streams.rules import load_rules

WARMING_LOGS = 2_000
EVERY_S = 0.001  # of CPU, or as often as the kernel can
STAGES = {
    "decode": ("streams.unpack", "streams.decode", "streams.formats", "streams.confluent", "schemas"),
    "mask secrets": ("streams.mask", "privacy.secrets"),
    "private data": ("privacy",),
    "language": ("streams.language",),
    "rules": ("streams.rules", "streams.rule", "streams.conditions", "streams.patterns", "streams.text"),
    "learned tags": ("streams.learned",),
    "fingerprint": ("streams.fingerprint",),
    "near-duplicates": ("streams.near",),
    "digest": ("schemas.ids",),
    "tag, count, acknowledge": ("streams.tag", "streams.process", "streams.batch", "streams.erased", "bus"),
    "document": ("indexer.document", "indexer.bulk"),
    "request and answer": ("indexer",),
}
_STAGE_OF = {f"tunemill.{module}": stage for stage, modules in STAGES.items() for module in modules}

T = TypeVar("T")


def main(
    input: Annotated[Path, typer.Option(help="Logs of any accepted shape: JSON lines, gzipped or not.")] = SAMPLE,
    logs: Annotated[int, typer.Option(help="Logs to work on, of each kind.")] = 20_000,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure microseconds of CPU a log."""
    batches = Batches(read(input), logs, load_rules())
    long = Batches(longer(batches.records, LONG_LOG_BYTES), logs, rules_in_all(RULES))
    kinds = {f"logs of {kind.mean_log_bytes:,} bytes, {len(kind.rules.rules)} rules": kind for kind in (batches, long)}
    with stub_elasticsearch() as url:
        found = {name: _profile(kind, url) for name, kind in kinds.items()}
    for name, stages in found.items():
        print(f"{name}:")
        for stage, us in sorted(stages.items(), key=lambda item: -item[1]):
            print(f"  {us:7.1f} us  {stage}")
    figures = {name: Figure("us of CPU a log", (sum(stages.values()),)) for name, stages in found.items()}
    report("profile", figures, {}, {"input": input.name, "logs": logs}, as_json=json, also={"us_per_log": found})


def _profile(batches: Batches, url: str) -> dict[str, float]:
    """Microseconds a log, by stage."""
    asyncio.run(work_through(Batches(batches.records, WARMING_LOGS, batches.rules), url, CpuClock()))
    sampler = _Sampler()
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_Inline())
        runner.run(work_through(batches, url, sampler))
    return {stage: round(seconds / batches.count * 1e6, 2) for stage, seconds in sampler.stages.items()}


class _Sampler(CpuClock):
    """A clock that also puts its time down to stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: dict[str, float] = defaultdict(float)
        self._seen_s = 0.0
        signal.signal(signal.SIGPROF, self._sample)

    def start(self) -> None:
        """Go on."""
        super().start()
        self._seen_s = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def stop(self) -> None:
        """Halt; what was used since the last sample is nobody's."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        super().stop()

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        now_s = time.process_time()
        self.stages[_stage(frame)] += now_s - self._seen_s
        self._seen_s = now_s


def _stage(frame: FrameType | None) -> str:
    """The stage of the innermost of our modules."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("tunemill."):
            parts = name.split(".")
            prefixes = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
            return next((_STAGE_OF[prefix] for prefix in prefixes if prefix in _STAGE_OF), name)
        frame = frame.f_back
    return "event loop"


class _Inline(ThreadPoolExecutor):
    """Runs what is given to it at once, on the thread that gives it."""

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """The work, done."""
        done: Future[T] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


if __name__ == "__main__":
    typer.run(main)
