"""`tunemill demo`, as a new user starts it: the whole loop on the embedded engines with the real 135M model."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tunemill.schemas.manifest import manifest_digest

PRIVATE = ("@example.", "555 01", "4111 1111", "DE89 3704", "sk-")  # what the sample logs hold of private data and keys

pytestmark = [pytest.mark.model, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("demo") / "data"
    command = [sys.executable, "-m", "tunemill.cli", "demo", "--json", "--exit", "--data", str(folder), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    yield folder, json.loads(done.stdout.splitlines()[-1])


def test_every_log_is_accounted_for(demo: tuple[Path, dict[str, Any]]) -> None:
    _, said = demo
    assert said["counts"] == {"received": 917, "indexed": 903, "merged": 0, "duplicate": 6, "rejected": 8, "erased": 0}
    assert said["search_math_hits"] > 100


def test_two_versions_stand_beside_each_other_and_are_what_their_digests_say(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, said = demo
    first, second = said["versions"]
    assert (first["version"], second["version"]) == (1, 2)
    assert second["rows"] == first["rows"] - 1
    manifests = {path.stem: path.read_bytes() for path in folder.rglob("manifests/*.json")}
    assert set(manifests) == {first["digest"], second["digest"]}
    assert all(manifest_digest(content) == digest for digest, content in manifests.items())


def test_nothing_private_is_in_a_dataset(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = demo
    parts = list(folder.rglob("parts/*.parquet"))
    assert parts
    text = "".join(json.dumps(pq.read_table(part).to_pylist()) for part in parts)
    assert "Route the ticket" in text
    assert [word for word in PRIVATE if word in text] == []


def test_the_model_learns_the_task_and_keeps_what_it_could_do(demo: tuple[Path, dict[str, Any]]) -> None:
    _, said = demo
    run = said["run"]
    assert run["before"]["exact_match"] <= 0.1
    assert run["after"]["exact_match"] >= 0.8
    assert run["after"]["loss"] < run["before"]["loss"]
    assert run["retention"]["after"] - run["retention"]["before"] <= 0.2


def test_the_adapter_and_its_report_are_left(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, said = demo
    runs = folder / "files" / "runs"
    (adapter,) = runs.rglob("adapter_model.safetensors")
    (report,) = runs.rglob("report.md")
    assert adapter.stat().st_size > 100_000
    assert "Held-out answers" in report.read_text(encoding="utf-8")
    (manifest,) = runs.rglob("manifest.json")
    assert said["versions"][1]["digest"] in manifest.read_text(encoding="utf-8")
