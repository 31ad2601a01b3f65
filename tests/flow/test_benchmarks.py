"""The benchmarks run and say what they promise to; their figures are not judged here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, *options: str) -> dict[str, Any]:
    """The JSON that a benchmark ends with."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_embedded_ingest_has_both_ratios() -> None:
    found = run("ingest", "--engine", "embedded", "--logs", "200", "--rounds", "1")
    assert found["ratio_tantivy"] > 0
    assert found["ratio_loop"] > 0
    assert found["settings"]["logs_per_round"] == 200


def test_the_stream_alone_is_measured_on_logs_of_4_kb_and_200_rules() -> None:
    found = run("ingest", "--engine", "stub", "--logs", "200", "--rounds", "1")
    assert found["logs_per_s_per_core"] > 0
    assert 4_000 < found["long_log_bytes"] < 6_000


def test_an_engine_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingest", "--engine", "solr"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"elasticsearch, embedded, stub" in done.stderr


def test_latency_of_the_embedded_engine() -> None:
    found = run("latency", "--engine", "embedded", "--seconds", "1", "--rounds", "1")
    assert 0 < found["figures"]["p50"]["median"] <= found["figures"]["p99"]["median"]
    assert found["settings"]["searched_logs"] >= 5


def test_a_backfill_is_measured_against_a_bare_loop() -> None:
    found = run("backfill", "--logs", "600", "--rounds", "1")
    assert found["ratios"]["ratio_loop"] > 0
    assert 0 < found["settings"]["changed"] < 600


def test_what_learned_tags_promise_is_held_against_what_they_keep() -> None:
    labels = ROOT / "benchmarks" / "labels"
    found = run(
        "learned_tags",
        "--labels",
        f"{labels}/topics.dev.jsonl",
        "--fresh",
        f"{labels}/topics.test.jsonl",
        "--rounds",
        "1",
    )
    learned = found["tags"]["topic:math"]
    assert learned["yes"] >= 10
    assert 0 < learned["kept"]["precision"]["share"] <= 1
    assert found["figures"]["1 learned tags"]["median"] > found["figures"]["0 learned tags"]["median"]


def test_the_profile_puts_all_cpu_down_to_stages() -> None:
    found = run("profile", "--logs", "6000")
    for name, stages in found["us_per_log"].items():
        assert {"decode", "rules", "document"} <= set(stages), name
        assert sum(stages.values()) == pytest.approx(found["figures"][name]["median"], rel=0.01)


def test_rivals_are_pinned_exactly_and_name_no_index() -> None:
    locks = list((ROOT / "benchmarks" / "rivals").glob("*.txt"))
    assert locks
    lines = [line for lock in locks for line in lock.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if "==" not in line or "://" in line or line.startswith(("#", "-"))] == []
