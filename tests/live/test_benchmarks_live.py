"""The benchmarks that need Kafka and Elasticsearch run, on few logs; their figures are not judged here."""

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


def run(name: str, *options: str) -> dict[str, Any]:
    """The JSON that a benchmark ends with. It has engines of its own: it counts all that they hold."""
    own = {key: value for key, value in os.environ.items() if key not in {KAFKA_VARIABLE, ELASTICSEARCH_VARIABLE}}
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
    assert len(found["cpu_us_per_log"]) == 5
    for side, costs in found["cpu_us_per_log"].items():
        assert {"writer", "kafka", "elasticsearch", "elasticsearch, gc", "elasticsearch, jit"} == set(costs), side


@pytest.mark.live
@pytest.mark.usefixtures("kafka_url")
def test_memory_is_watched_while_the_index_is_well_slow_and_busy() -> None:
    found = run("memory", "--logs", "40000", "--seconds", "2")
    assert found["figures"]["steady"]["low"] > 0
    assert 0 < found["figures"]["slow index, messages in hand"]["high"] < 200
    assert found["figures"]["busy index"]["high"] > 0
