"""Publishing a version from a search, against what one writes by hand: scan, json.dumps, and the `datasets` library's Parquet.

    python -m benchmarks.snapshot --rows 100000 --json

Both read the same index, in turns, each in a process of its own: Elasticsearch where there is one, else the embedded index, whose
dump stands in place of `helpers.scan`. Publishing also checks consent and privacy, gives each row its identity, collapses
duplicates, splits by conversation, syncs to disk, writes where each row came from, card and report, and commits.
What a side wrote lies there until the end: ext4 takes 80 to 340 µs instead of 10 to make a file, while thousands were deleted in the
last minutes. The rules in force are read before the clock starts, as in a service, where it is done once.
`peak_bytes` is the process's largest resident memory less what it had before it began; `peak_bytes_whole` is all of it.
`small_change` edits 0.1 % of the answers, scattered by a seed, and amends the version; `neighbours` stand next to one another.
`growth` is the exponent of time over rows, fitted over `--sizes`.
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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from engines import choose
from engines.errors import EngineAbsent

from benchmarks.harness import ratio, report, take_turns
from tunemill.indexer.open import open_index
from tunemill.schemas.records import LogRecord, Message, Tag, TaggedLog

WORDS = 4_000  # in the vocabulary that the texts are made of
PROMPT_WORDS, ANSWER_WORDS = 120, 80  # about 1.2 kB a row, a short chat
WRITTEN = 2_000  # logs at once

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
    with ExitStack() as engines:
        url = _engine(engines, given.engine)
        project = f"bench-{uuid.uuid4().hex[:8]}"
        run = _Run(url, project, engines.enter_context(tempfile.TemporaryDirectory()))
        with _filled(url, project) as fill:
            also = {"growth": _growth(run, fill, given.sizes)} if given.sizes else {}
            fill(given.rows)
            _measure(run, given, also)


class _Run(NamedTuple):
    """Where the logs lie, and where the sides write."""

    url: str
    project: str
    folder: str


def _measure(run: _Run, given: argparse.Namespace, also: Found) -> None:
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
    also |= {
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
    settings = {"rows": given.rows, "rounds": given.rounds, "hand_written": rival}
    ratios = {"publish / hand_written": ratio(figures["publish"], figures["hand_written"])}
    report("snapshot", figures, ratios, settings, as_json=given.json, also=also)


def _small_change(run: _Run) -> Found:
    found = _side("change", run)
    whole = found["whole"]

    def against(part: Found) -> Found:
        return {
            "rows": part["rows"],
            "seconds": round(part["seconds"], 4),
            "time_ratio": round(part["seconds"] / whole["seconds"], 4),
            "bytes_ratio": round(part["written_bytes"] / whole["written_bytes"], 4),
        }

    return {**against(found["scattered"]), "neighbours": against(found["neighbours"])}


def _growth(run: _Run, fill: Any, sizes: Sequence[int]) -> Found:
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    for size in sizes:
        fill(size)
        found = _side("publish", run)
        seconds[str(size)] = round(found["seconds"], 3)
        peaks[str(size)] = found["peak_bytes"] - found["floor_bytes"]
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in seconds.values()]
    exponent = statistics.linear_regression(xs, ys).slope if len(sizes) > 1 else None
    return {"seconds": seconds, "peak_bytes": peaks, "exponent": exponent and round(exponent, 3)}


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
