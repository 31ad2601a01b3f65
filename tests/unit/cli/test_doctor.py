"""`tunemill doctor`: what it says of how long logs are kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faust  # noqa: F401  # once it is imported, Python does not find it any more
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from tunemill.cli.app import app
from tunemill.curator_api import job_store, retention_store
from tunemill.registry.open import migrate, open_registry


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUS", "INDEX", "REGISTRY", "FILES", "SCHEMA_REGISTRY"):
        monkeypatch.delenv(f"TUNEMILL_{name}_URL", raising=False)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Engine]:
    made = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(made)
    yield made
    made.dispose()


def told(data: Path) -> list[dict[str, Any]]:
    """What it finds out about the retention."""
    result = CliRunner().invoke(app, ["doctor", "--data", str(data), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return [finding for finding in json.loads(result.stdout) if finding["name"] == "retention"]


def end(registry: Engine, status: job_store.Status, message: str) -> None:
    job_store.start(registry, "default", kind="retention", query="", total=1, by="retention")
    claimed = job_store.claim(registry, "default", "me")
    assert claimed
    job_store.finish(registry, claimed, status, error={"code": "internal", "message": message})


def test_nothing_is_said_and_nothing_made_where_there_is_no_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(tmp_path) == []
    monkeypatch.setenv("TUNEMILL_REGISTRY_URL", f"sqlite:///{tmp_path / 'other.db'}")
    assert told(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_a_policy_is_told_and_a_run_that_failed_with_what_to_do(tmp_path: Path, registry: Engine) -> None:
    (found,) = told(tmp_path)
    assert (found["ok"], found["says"]) == (True, "logs are kept for ever")
    retention_store.set_policy(registry, "default", max_age_days=90, max_bytes=5_000, by="person:ann")
    (found,) = told(tmp_path)
    assert (found["ok"], found["says"]) == (True, "logs are kept for 90 days and up to 5,000 bytes")
    end(registry, "failed", "unforeseen OSError")
    (found,) = told(tmp_path)
    assert (found["ok"], found["needed"], found["says"]) == (False, False, "the last run failed: unforeseen OSError")
    assert "tunemill jobs list" in found["remedy"]


@pytest.mark.parametrize("url", ["sqlite:///{}/empty.db", "sqlite:///{}/text.db", "nonsense"])
def test_a_registry_that_cannot_be_read_is_a_note(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("this is no database" * 100)
    monkeypatch.setenv("TUNEMILL_REGISTRY_URL", url.format(tmp_path))
    (found,) = told(tmp_path)
    assert (found["ok"], found["needed"]) == (False, False)
    assert "registry" in found["says"]
