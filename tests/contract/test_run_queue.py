"""The queue of runs on both engines of the registry: many that ring and claim at once make one run, and one worker, of each."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engines.postgres import empty_database, postgres
from sqlalchemy import Engine, func, select

from tunemill.registry import model_aliases, tables
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import now_ms, outbox, runs
from tunemill.schemas.records import DatasetReady
from tunemill.schemas.topics import RUNS_STATUS
from tunemill.trainer.claim import Claim, claim_next, insert_run
from tunemill.trainer.doorbell import ring
from tunemill.trainer.recipe import resolve, spelled


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def doors(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Engine]]:
    """Two connections to one registry, as two trainers have them."""
    if request.param == "sqlite":
        yield from _two(f"sqlite:///{tmp_path / 'registry.db'}")
        return
    with empty_database(request.getfixturevalue("postgres_server")) as made:
        yield from _two(made)


def _two(url: str) -> Iterator[list[Engine]]:
    engines = [open_registry(url), open_registry(url)]
    migrate(engines[0])
    yield engines
    for engine in engines:
        engine.dispose()


def at_once(work: Callable[[int], Any], times: int) -> list[Any]:
    """What each gives of so many that begin at the same moment."""
    together = threading.Barrier(times)

    def begin(number: int) -> Any:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(begin, range(times)))


def base_folder(folder: Path) -> Path:
    """What tells one base model from another; nothing loads it."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def test_an_event_that_comes_twenty_times_to_two_doorbells_at_once_is_one_run(
    doors: list[Engine], tmp_path: Path
) -> None:
    recipe = {"method": "lora", "base": str(base_folder(tmp_path / "base"))}
    known = {"name": "tickets", "version": 1, "digest": "d" * 64, "manifest_url": "/m", "rows": 3, "recipe": recipe}

    def ring_once(number: int) -> str | None:
        event = DatasetReady(event_id=f"e{number}", ts_ms=number, priority=7, sources_url="/s", **known)
        return ring(doors[number % 2], event)

    added = [run_id for run_id in at_once(ring_once, 20) if run_id is not None]
    with doors[0].connect() as connection:
        (run,) = connection.execute(select(runs)).mappings()
        told = connection.execute(select(func.count()).where(outbox.c.topic == RUNS_STATUS.name)).scalar_one()
    assert added == [run["run_id"]]
    assert (run["status"], run["priority"], run["sources_url"], told) == ("queued", 7, "/s", 1)


def test_many_that_claim_at_once_get_each_run_once(doors: list[Engine]) -> None:
    recipe = spelled(resolve({"method": "lora", "base": "/models/x"}))
    for name in ("r1", "r2", "r3"):
        values = {"run_id": name, "run_key": name, "project": "default", "name": "d", "version": 1, "digest": "a" * 64}
        values |= {"manifest_url": "m", "recipe": recipe, "status": "queued", "attempt": 0, "event_seq": 0}
        insert_run(doors[0], values | {"created_ms": now_ms()}, "added")

    def claim(number: int) -> Claim | None:
        return claim_next(doors[number % 2], f"trainer-{number}", lease_ms=60_000)

    claims = [claim for claim in at_once(claim, 8) if claim is not None]
    assert sorted(claim.run_id for claim in claims) == ["r1", "r2", "r3"]
    assert {claim.attempt for claim in claims} == {1}


def test_runs_that_succeed_at_once_leave_one_candidate(doors: list[Engine]) -> None:
    def succeed(number: int) -> None:
        with doors[number % 2].begin() as connection:
            model_aliases.put(connection, "default", "tickets", "candidate", f"r{number}", by="trainer")

    for _ in range(5):
        at_once(succeed, 8)
    with doors[0].connect() as connection:
        (named,) = connection.execute(select(tables.model_aliases)).mappings()
    assert named["run_id"] in {f"r{number}" for number in range(8)}
