"""The benchmarks that need Kafka and Elasticsearch run, on few logs; their figures are not judged here."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clients.environments import EnvironmentAbsent, pinned
from engines.absent import skip_or_fail
from engines.choose import ELASTICSEARCH_VARIABLE, KAFKA_VARIABLE

ROOT = Path(__file__).parents[2]


def run(name: str, *options: str, elasticsearch_url: str | None = None) -> dict[str, Any]:
    """The JSON that a benchmark ends with. Without an address it has engines of its own: it counts all that they hold."""
    own = {key: value for key, value in os.environ.items() if key not in {KAFKA_VARIABLE, ELASTICSEARCH_VARIABLE}}
    own |= {ELASTICSEARCH_VARIABLE: elasticsearch_url} if elasticsearch_url else {}
    command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.live
@pytest.mark.usefixtures("kafka_url", "elasticsearch_url")
def test_ingest_has_a_ratio_to_each_rival_and_the_cpu_of_each_process() -> None:
    try:
        pinned(ROOT / "benchmarks" / "rivals" / "quix.txt")
    except EnvironmentAbsent as absent:
        skip_or_fail(str(absent))
    found = run("ingest", "--engine", "elasticsearch", "--logs", "300", "--rounds", "1")
    for name in ("ratio_raw_bulk", "ratio_quix", "ratio_async_bulk"):
        assert found[name] > 0
        assert found[f"{name}_one_log_messages"] > 0
    assert min(found["ratio_raw_bulk_two_workers"], found["ratio_quix_two_workers"]) > 0
    assert len(found["cpu_us_per_log"]) == 7
    for side, costs in found["cpu_us_per_log"].items():
        assert {"writer", "kafka", "elasticsearch", "elasticsearch, gc", "elasticsearch, jit"} == set(costs), side


@pytest.mark.live
def test_a_scan_is_measured_against_helpers_scan(elasticsearch_url: str) -> None:
    found = run("scan", "--logs", "300", "--rounds", "1", elasticsearch_url=elasticsearch_url)
    assert found["settings"]["found"] == 300
    assert min(found["ratios"].values()) > 0
    assert set(found["cpu_us_per_log"]) == {"dump", "scan", "helpers.scan"}


@pytest.mark.live
def test_searches_are_measured_against_the_same_bodies_by_hand(elasticsearch_url: str) -> None:
    options = ("--engine", "elasticsearch", "--sizes", "100,200", "--asks", "3")
    found = run("search", *options, elasticsearch_url=elasticsearch_url)
    assert len(found["by_hand"]) == len(found["ms"]) == 7
    for name in ("ratio_by_hand", "ratio_by_hand_with_highlights", "ratio_by_hand_without_ours"):
        assert min(kind[name] for kind in found["by_hand"].values()) > 0


@pytest.mark.live
def test_making_an_index_anew_is_measured_against_a_copy_by_hand(elasticsearch_url: str) -> None:
    options = ("--engine", "elasticsearch", "--logs", "700", "--rounds", "1")  # more than a page
    found = run("reindex", *options, elasticsearch_url=elasticsearch_url)
    assert set(found["ratios"]) == {"ratio_write", "ratio_by_hand"}
    assert min(found["ratios"].values()) > 0


@pytest.mark.live
def test_relevance_is_that_of_both_engines(elasticsearch_url: str, tmp_path: Path) -> None:
    texts = ("How long does a refund take?", "The refund of a refund")
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    corpus, judgements = tmp_path / "logs.jsonl", tmp_path / "judgements.json"
    corpus.write_text("".join(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in texts))
    graded = {"refund": {digests[0]: 1, digests[1]: 3}, "take refund": {digests[0]: 3, digests[1]: 1}}
    judgements.write_text(json.dumps(graded))
    options = ("--corpus", f"{corpus}", "--judgements", f"{judgements}")
    found = run("relevance", *options, elasticsearch_url=elasticsearch_url)
    best = {"ndcg_at_10": 1.0, "recall_at_50": 1.0, "nothing_found": 0}
    assert (found["engines"], found["difference"]) == ({"embedded": best, "elasticsearch": best}, 0)
    assert {quality["recall_at_50"] for quality in found["all_words"].values()} == {0.75}


@pytest.mark.live
@pytest.mark.usefixtures("kafka_url")
def test_memory_is_watched_while_the_index_is_well_slow_and_busy() -> None:
    found = run("memory", "--logs", "40000", "--seconds", "2")
    assert found["figures"]["steady"]["low"] > 0
    assert 0 < found["figures"]["slow index, messages in hand"]["high"] < 200
    assert found["figures"]["busy index"]["high"] > 0
