"""Rules that are put in force are taken up by a worker that runs; what cannot be read or understood is not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fakes.index_memory import MemoryIndex
from prometheus_client import REGISTRY
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.registry import rule_sets
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas import wire
from tunemill.schemas.records import LogRecord, Message
from tunemill.schemas.topics import LOGS
from tunemill.streams import rulebook as module
from tunemill.streams.errors import RulesInvalid
from tunemill.streams.local import run_local
from tunemill.streams.rulebook import Rulebook, open_rulebook
from tunemill.streams.rules import load_rules

REFUNDS = """\
rules:
  - {name: refunds, version: 1, tag: "topic:refund", any: [{in: user, literal: refund}]}
"""
STARTER = {rule.name for rule in load_rules().rules}
WRONG = REFUNDS.replace("literal: refund", "regex: '('")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Engine]:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteBus]:
    made = SqliteBus(tmp_path / "bus.db")
    yield made
    await made.close()


def refund(log_id: str) -> LogRecord:
    return LogRecord(log_id=log_id, ts_ms=1, messages=(Message(role="user", content="I want a refund, please"),))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for lies in a fake
            await asyncio.sleep(0.01)


def names(rulebook: Rulebook) -> set[str]:
    return {rule.name for rule in rulebook.rules.rules}


def metric(name: str) -> float | None:
    return REGISTRY.get_sample_value(name)


async def test_a_worker_that_runs_tags_by_new_rules_without_a_restart(
    bus: SqliteBus, registry: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)
    rulebook, index, stop = open_rulebook(registry), MemoryIndex(), asyncio.Event()
    loop = asyncio.create_task(run_local(bus, index, rulebook, stop=stop))
    await bus.publish(LOGS, [Outgoing(wire.encode(refund("before")))])
    await until(lambda: "before" in index.logs)
    rule_sets.put(registry, "default", by="person:ann", document=REFUNDS)
    await until(lambda: rulebook.revision == 1)
    await bus.publish(LOGS, [Outgoing(wire.encode(refund("after")))])
    await until(lambda: "after" in index.logs)
    stop.set()
    await loop
    tags = {log_id: {tag.tag: tag.by for tag in logged.tags} for log_id, logged in index.logs.items()}
    assert "topic:refund" not in tags["before"]
    assert tags["after"]["topic:refund"] == "refunds@1"


async def test_without_a_set_of_its_own_a_project_has_the_starter_set(registry: Engine) -> None:
    rulebook = open_rulebook(registry)
    assert rulebook.revision == 0
    assert names(rulebook) == STARTER
    rule_sets.put(registry, "default", by="person:ann", document=REFUNDS)
    rule_sets.put(registry, "default", by="person:ann", document=None)
    await rulebook.look()
    assert (rulebook.revision, names(rulebook)) == (2, STARTER)
    assert metric("tunemill_rules_revision") == 2


async def test_rules_of_another_project_are_not_ours(registry: Engine) -> None:
    rulebook = open_rulebook(registry)
    rule_sets.put(registry, "other", by="person:ann", document=REFUNDS)
    await rulebook.look()
    assert rulebook.revision == 0


async def test_rules_that_are_not_understood_are_not_taken_up_and_the_next_are(registry: Engine) -> None:
    rule_sets.put(registry, "default", by="person:ann", document=REFUNDS)
    rulebook = open_rulebook(registry)
    rule_sets.put(registry, "default", by="person:bob", document=WRONG)
    await rulebook.look()
    assert (rulebook.revision, names(rulebook)) == (1, {"refunds"})
    assert metric("tunemill_rules_behind") == 1
    assert metric("tunemill_rules_revision") == 1
    rule_sets.put(registry, "default", by="person:bob", document=REFUNDS.replace("refunds", "money"))
    await rulebook.look()
    assert (rulebook.revision, names(rulebook)) == (3, {"money"})
    assert metric("tunemill_rules_behind") == 0


async def test_a_registry_that_goes_away_leaves_the_rules_as_they_are(registry: Engine) -> None:
    rule_sets.put(registry, "default", by="person:ann", document=REFUNDS)
    rulebook = open_rulebook(registry)
    with registry.begin() as connection:
        connection.execute(text("ALTER TABLE rule_sets RENAME TO gone"))
    await rulebook.look()
    assert (rulebook.revision, names(rulebook)) == (1, {"refunds"})
    assert metric("tunemill_rules_behind") == 1
    with registry.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO rule_sets"))
    await rulebook.look()
    assert metric("tunemill_rules_behind") == 0


def test_nothing_starts_without_the_rules_in_force(registry: Engine, tmp_path: Path) -> None:
    rule_sets.put(registry, "default", by="person:ann", document=WRONG)
    with pytest.raises(RulesInvalid):
        open_rulebook(registry)
    empty = open_registry(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(OperationalError):
        open_rulebook(empty)
    empty.dispose()
