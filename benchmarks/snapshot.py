"""Publishing a version from a search, against what one writes by hand: scan, json.dumps, and the `datasets` library's Parquet.

    python -m benchmarks.snapshot --rows 100000 --json

Both read the same index, in turns, each in a process of its own: Elasticsearch where there is one, else the embedded index, whose
dump stands in place of `helpers.scan`. Publishing also checks consent and privacy, gives each row its identity, collapses
duplicates, splits by conversation, syncs to disk, writes where each row came from, card and report, and commits.
What a side wrote lies there until the end: ext4 takes 80 to 340 µs instead of 10 to make a file, while thousands were deleted in the
last minutes. The rules in force are read before the clock starts, as in a service, where it is done once.
`peak_bytes` is the process's largest resident memory less what it had before it began; `peak_bytes_whole` is all of it.
`small_change` edits 0.1 % of the answers, scattered by a seed, and amends the version; `neighbours` stand next to one another.
`growth` has the exponent of time over rows, fitted over `--sizes`, and that of CPU time. Each size is published once, and may be
larger than `--rows`. A million rows take some 3 GB of temporary files.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from engines import choose
from engines.errors import EngineAbsent

from benchmarks.harness import Figure, ratio, report, take_turns
from tunemill.indexer.open import open_index
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog

WORDS = 4_000  # in the vocabulary that the texts are made of
PROMPT_WORDS, ANSWER_WORDS = 120, 80  # about 1.2 kB a row, a short chat
WRITTEN = 8_000  # logs at once

Found = dict[str, Any]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sizes", type=_sizes, default=(), help="rows of the versions that growth is fitted over: 1000,10000"
    )
    parser.add_argument(
        "--engine", choices=("elasticsearch", "embedded"), help="where the logs lie, if not where they can"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if given.rows < 1:
        parser.error("--rows: at least 1")
    with ExitStack() as engines:
        url = _engine(engines, given.engine)
        project = f"bench-{uuid.uuid4().hex[:8]}"
        run = _Run(url, project, engines.enter_context(tempfile.TemporaryDirectory()))
        with _filled(url, project) as fill:
            seen: dict[int, Found] = {}
            for size in sorted({given.rows, *given.sizes}):  # the index only grows
                fill(size)
                seen |= {size: _side("publish", run)} if size in given.sizes else {}
                if size == given.rows:
                    measured = _measured(run, given)
            _report(given, measured, {"growth": _growth(seen)} if seen else {})


class _Run(NamedTuple):
    """Where the logs lie, and where the sides write."""

    url: str
    project: str
    folder: str


class _Measured(NamedTuple):
    """What was found at one size."""

    figures: dict[str, Figure]
    also: Found
    hand_written: str


def _measured(run: _Run, given: argparse.Namespace) -> _Measured:
    seen: dict[str, list[Found]] = {"publish": [], "hand_written": []}

    def once(side: str) -> float:
        found = _side(side, run)
        if found["rows"] != given.rows:
            raise RuntimeError(f"{side}: {found['rows']} rows of {given.rows}")
        seen[side].append(found)
        return float(found["rows"] / found["seconds"])

    sides = {side: lambda side=side: once(side) for side in seen}  # type: ignore[misc]  # each its own side
    figures = take_turns(sides, unit="rows/s", rounds=given.rounds)
    peaks = {side: max(found["peak_bytes"] - found["floor_bytes"] for found in some) for side, some in seen.items()}
    also = {
        "rows_per_s": round(figures["publish"].median, 1),
        "ratio_hand_written": round(ratio(figures["publish"], figures["hand_written"]), 3),
        "peak_bytes": peaks["publish"],
        "peak_bytes_whole": max(found["peak_bytes"] for found in seen["publish"]),
        "peak_bytes_hand_written": peaks["hand_written"],
        "written_bytes": seen["publish"][-1]["written_bytes"],
        "cpu_us_per_row": {side: round(1e6 * some[-1]["cpu_s"] / given.rows, 1) for side, some in seen.items()},
        "small_change": _small_change(run),
    }
    is_local = run.url.startswith("local:")
    rival = f"{'the index dump' if is_local else 'helpers.scan'}, json.dumps, Dataset.from_generator().to_parquet()"
    return _Measured(figures, also, rival)


def _report(given: argparse.Namespace, measured: _Measured, growth: Found) -> None:
    figures = measured.figures
    settings = {"rows": given.rows, "rounds": given.rounds, "hand_written": measured.hand_written}
    ratios = {"publish / hand_written": ratio(figures["publish"], figures["hand_written"])}
    report("snapshot", figures, ratios, settings, as_json=given.json, also={**growth, **measured.also})


def _small_change(run: _Run) -> Found:
    found = _side("change", run)
    whole = found["whole"]

    def against(part: Found) -> Found:
        return {
            "changed": part["changed"],
            "seconds": round(part["seconds"], 4),
            "time_ratio": round(part["seconds"] / whole["seconds"], 4),
            "bytes_ratio": round(part["written_bytes"] / whole["written_bytes"], 4),
        }

    return {**against(found["scattered"]), "neighbours": against(found["neighbours"])}


def _growth(seen: Mapping[int, Found]) -> Found:
    """How time and memory grow, by rows; of CPU seconds likewise, which other work on the machine changes less."""
    return {
        "seconds": {str(size): round(found["seconds"], 3) for size, found in seen.items()},
        "cpu_s": {str(size): round(found["cpu_s"], 3) for size, found in seen.items()},
        "peak_bytes": {str(size): found["peak_bytes"] - found["floor_bytes"] for size, found in seen.items()},
        "peak_bytes_whole": {str(size): found["peak_bytes"] for size, found in seen.items()},
        "exponent": _exponent({size: found["seconds"] for size, found in seen.items()}),
        "exponent_cpu": _exponent({size: found["cpu_s"] for size, found in seen.items()}),
    }


def _exponent(seconds: Mapping[int, float]) -> float | None:
    if len(seconds) < 2:
        return None
    xs, ys = [math.log(size) for size in seconds], [math.log(value) for value in seconds.values()]
    return round(statistics.linear_regression(xs, ys).slope, 3)


def _side(side: str, run: _Run) -> Found:
    command = [sys.executable, "-m", "benchmarks.snapshot_side", side, *run]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(made.stdout.splitlines()[-1]))


def _engine(engines: ExitStack, wanted: str | None) -> str:
    try:
        if wanted != "embedded":
            return engines.enter_context(choose.elasticsearch())
    except EngineAbsent:
        if wanted:
            raise
    return f"local:{engines.enter_context(tempfile.TemporaryDirectory())}"


@contextmanager
def _filled(url: str, project: str) -> Iterator[Any]:
    """What fills an index of its own up to so many logs; sizes only grow."""
    draw = random.Random(7)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(WORDS)]
    filled = 0

    async def fill_to(size: int) -> None:
        nonlocal filled
        index = open_index(url, project=project)
        await index.setup()
        while filled < size:
            count = min(WRITTEN, size - filled)
            await index.write([_log(number, draw, vocabulary) for number in range(filled, filled + count)])
            filled += count
        await index.refresh()
        await index.close()

    try:
        yield lambda size: asyncio.run(fill_to(size))
    finally:
        if not url.startswith("local:"):
            _forget(url, project)


def _forget(url: str, project: str) -> None:
    from elasticsearch import Elasticsearch

    from tunemill.indexer.mapping import alias

    with Elasticsearch(url, request_timeout=60) as client:
        for index in client.indices.get(index=f"{alias(project)}*"):
            client.indices.delete(index=index)
        client.indices.delete_index_template(name=alias(project))


def _log(number: int, draw: random.Random, vocabulary: list[str]) -> TaggedLog:
    record = LogRecord(
        log_id=f"log-{number:08}",
        ts_ms=1_700_000_000_000 + number,
        messages=(Message(role="user", content=" ".join(draw.choices(vocabulary, k=PROMPT_WORDS))),),
        output=(Message(role="assistant", content=" ".join(draw.choices(vocabulary, k=ANSWER_WORDS))),),
        session_id=f"session-{number // 3}",
        consent="train",
    )
    return TaggedLog(log=record, content_digest=f"{number:064x}", tags=(Tag("topic:math", "rule@1"),), language="en")


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(one) for one in text.split(",")))


if __name__ == "__main__":
    main()
