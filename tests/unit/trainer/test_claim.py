"""One run, one trainer at a time: leases, tokens, and what is told about it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, insert, select, update

from tunemill.registry.open import migrate, open_registry
from tunemill.registry.tables import (
    datasets,
    model_aliases,
    now_ms,
    outbox,
    run_events,
    runs,
    versions,
    webhook_deliveries,
    webhooks,
)
from tunemill.schemas import wire
from tunemill.schemas.records import RunFinished, RunStatus
from tunemill.schemas.topics import RUNS_FINISHED, RUNS_STATUS, Topic
from tunemill.trainer.claim import Claim, claim_next, fail_attempt, insert_run, move, note, release, renew
from tunemill.trainer.errors import InvalidRun, LeaseLost, WorkerDied
from tunemill.trainer.recipe import resolve, spelled

LEASE_MS = 60_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def add(engine: Engine, run_id: str = "r1", key: str = "k1") -> bool:
    recipe = spelled(resolve({"method": "lora", "base": "/models/x"}))
    values = {"run_id": run_id, "run_key": key, "project": "default", "name": "d", "version": 1, "digest": "a" * 64}
    values |= {"manifest_url": "m", "recipe": recipe, "status": "queued", "attempt": 0, "event_seq": 0}
    return insert_run(engine, values | {"created_ms": now_ms()}, "added")


def take(engine: Engine, owner: str = "a", lease_ms: int = LEASE_MS) -> Claim:
    claim = claim_next(engine, owner, lease_ms=lease_ms)
    assert claim is not None
    return claim


def row(engine: Engine, run_id: str = "r1") -> Any:
    with engine.connect() as connection:
        return connection.execute(select(runs).where(runs.c.run_id == run_id)).mappings().one()


def sent(engine: Engine, topic: Topic) -> list[tuple[str, bytes]]:
    wanted = select(outbox.c.event_id, outbox.c.value).where(outbox.c.topic == topic.name).order_by(outbox.c.seq)
    with engine.connect() as connection:
        return [(event_id, value) for event_id, value in connection.execute(wanted)]


def told(engine: Engine) -> list[tuple[str, str]]:
    return [(event_id, wire.decode(value, RunStatus).status) for event_id, value in sent(engine, RUNS_STATUS)]


def ends(engine: Engine) -> list[RunFinished]:
    return [wire.decode(value, RunFinished) for _, value in sent(engine, RUNS_FINISHED)]


def test_the_same_key_is_one_run(engine: Engine) -> None:
    assert add(engine)
    assert not add(engine, run_id="r2")
    assert told(engine) == [("r1:1", "queued")]


def test_a_claimed_run_is_nobody_elses(engine: Engine) -> None:
    add(engine)
    claim = take(engine)

    assert claim_next(engine, "b", lease_ms=LEASE_MS) is None
    assert (claim.attempt, row(engine)["status"], row(engine)["lease_owner"]) == (1, "preparing", "a")


def test_a_claim_names_the_revision_of_the_version_that_has_its_digest(engine: Engine) -> None:
    whose = {"name": "d", "draft": {}, "created_ms": 1}
    rows = {"rows": 1, "splits": {}, "report": {}, "by": "us", "manifest_url": "m"}
    known = [("default", 1, "a", 3), ("default", 2, "a", 4), ("other", 1, "a", 5)]
    with engine.begin() as connection:
        for project in ("default", "other"):
            connection.execute(insert(datasets).values(**whose, project=project, updated_ms=1))
        for project, version, digest, revision in known:
            named = {"project": project, "version": version, "digest": digest * 64, "revision": revision}
            connection.execute(insert(versions).values(**whose, **rows, **named))
    add(engine)
    first = take(engine, lease_ms=-1)
    with engine.begin() as connection:  # rows were erased: what the run is on is none of the version's files any more
        connection.execute(update(versions).values(digest="b" * 64, revision=versions.c.revision + 1))

    assert (first.revision, take(engine).revision) == (3, None)


def test_a_silent_trainers_run_is_taken_over_and_its_token_refused(engine: Engine) -> None:
    add(engine)
    silent = take(engine, "a", lease_ms=-1)
    second = take(engine, "b")

    assert (second.attempt, second.failures) == (2, 1)
    for write in (
        lambda: renew(engine, silent, lease_ms=LEASE_MS),
        lambda: move(engine, silent, "succeeded", "too late"),
        lambda: note(engine, silent, [], {"step": 1}),
        lambda: fail_attempt(engine, silent, WorkerDied("x")),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert (row(engine)["status"], row(engine)["lease_owner"], row(engine)["progress"]) == ("preparing", "b", None)


def test_every_change_of_state_is_an_event_and_a_message(engine: Engine) -> None:
    add(engine)
    claim = take(engine)
    move(engine, claim, "running", "starts")
    entry = {"ts_ms": 5, "level": "info", "type": "metrics", "message": "step 1", "data": {"step": 1, "loss": 2.0}}
    note(engine, claim, [entry, entry], {"step": 1})
    move(engine, claim, "succeeded", "done", result={"before": {}}, error=None)

    with engine.connect() as connection:
        events = connection.execute(select(run_events.c.seq, run_events.c.type).order_by(run_events.c.seq)).all()
    assert [tuple(event) for event in events] == [
        (1, "message"),
        (2, "message"),
        (3, "message"),
        (4, "metrics"),
        (5, "metrics"),
        (6, "message"),
    ]
    assert told(engine) == [("r1:1", "queued"), ("r1:2", "preparing"), ("r1:3", "running"), ("r1:6", "succeeded")]
    assert (row(engine)["finished_ms"] is not None, row(engine)["lease_owner"]) == (True, None)
    with pytest.raises(LeaseLost):
        move(engine, claim, "running", "an ended run does not start again")


def test_the_end_of_a_run_is_told_once_with_what_came_of_it_to_the_bus_and_to_webhooks(engine: Engine) -> None:
    hook = {"webhook_id": "w", "project": "default", "url": "https://ci.example.com", "secret": "s", "by": "person:ann"}
    with engine.begin() as connection:
        connection.execute(insert(webhooks).values(hook | {"created_ms": 1}))
    add(engine)
    claim = take(engine)
    move(engine, claim, "running", "starts")
    assert ends(engine) == []
    scores = {"before": {"loss": 2.0}, "after": {"loss": 1.0}, "retention": {}, "gates": [{"name": "task_gain"}]}
    result = {**scores, "rows": {"train": 40}, "manifest_sha256": "ab" * 32}
    move(engine, claim, "succeeded", "done", data=result, result=result, artefact_url="/files/runs/r1")

    (end,) = ends(engine)
    assert (end.event_id, end.run_id, end.run_key, end.status) == ("r1:finished:1", "r1", "k1", "succeeded")
    assert (end.name, end.version, end.digest, end.project) == ("d", 1, "a" * 64, "default")
    assert (end.method, end.base) == ("lora", "/models/x")
    assert (end.artefact_url, end.manifest_sha256, end.scores) == ("/files/runs/r1", "ab" * 32, scores)
    with engine.connect() as connection:
        delivery = connection.execute(select(webhook_deliveries)).one()
    body = msgspec.json.decode(delivery.body)
    assert (delivery.event_id, body["type"]) == (end.event_id, "runs.finished")
    assert msgspec.convert(body["data"], RunFinished) == end


def test_the_candidate_is_the_run_that_succeeded_last(engine: Engine) -> None:
    for number, status in enumerate(("succeeded", "rejected", "failed", "succeeded")):
        add(engine, f"r{number}", f"k{number}")
        move(engine, take(engine), status, "over")
        with engine.connect() as connection:
            named = connection.execute(select(model_aliases.c.alias, model_aliases.c.run_id)).all()
        assert named == [("candidate", "r3" if number == 3 else "r0")]


def test_three_dead_workers_end_the_run(engine: Engine) -> None:
    add(engine)
    statuses = [fail_attempt(engine, take(engine), WorkerDied("killed", "look")) for _ in range(3)]

    assert statuses == ["queued", "queued", "failed"]
    assert [(end.event_id, end.status) for end in ends(engine)] == [("r1:finished:3", "failed")]
    assert row(engine)["error"] == {"code": "worker_died", "message": "killed", "remedy": "look", "failures": 3}
    assert claim_next(engine, "a", lease_ms=LEASE_MS) is None


def test_a_trainer_that_never_comes_back_three_times_ends_the_run(engine: Engine) -> None:
    add(engine)
    for _ in range(3):
        take(engine, lease_ms=-1)

    assert claim_next(engine, "d", lease_ms=LEASE_MS) is None
    assert (row(engine)["status"], row(engine)["error"]["code"]) == ("failed", "worker_died")


def test_a_hopeless_run_fails_at_once_and_a_shutdown_is_nobodys_failure(engine: Engine) -> None:
    add(engine)
    for _ in range(5):
        release(engine, take(engine), "shutting down")
    assert fail_attempt(engine, take(engine), InvalidRun("no rows", "add some")) == "failed"


def test_a_cancelled_run_never_starts(engine: Engine) -> None:
    add(engine)
    with engine.begin() as connection:
        connection.execute(update(runs).values(cancel_requested_ms=1))

    assert claim_next(engine, "a", lease_ms=LEASE_MS) is None
    assert row(engine)["status"] == "cancelled"
    assert [(end.event_id, end.status) for end in ends(engine)] == [("r1:finished:1", "cancelled")]


def test_the_oldest_run_comes_first_and_a_cancel_is_heard_when_renewing(engine: Engine) -> None:
    add(engine)
    add(engine, "r2", "k2")
    claim = take(engine)

    assert (claim.run_id, renew(engine, claim, lease_ms=LEASE_MS)) == ("r1", False)
    with engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.run_id == "r1").values(cancel_requested_ms=1))
    assert renew(engine, claim, lease_ms=LEASE_MS)
    assert take(engine).run_id == "r2"


def test_a_recipe_that_an_earlier_release_took_ends_its_run_with_the_reason_and_holds_up_no_other(
    engine: Engine,
) -> None:
    add(engine)
    with engine.begin() as connection:
        connection.execute(update(runs).values(recipe={"method": "lora", "base": "/models/x", "warmup": 3}))
    add(engine, run_id="r2", key="k2")

    assert take(engine).run_id == "r2"
    assert (row(engine)["status"], row(engine)["error"]["code"]) == ("failed", "invalid_recipe")


def test_however_a_run_ends_it_is_counted(engine: Engine) -> None:
    def counted(status: str) -> float:
        return REGISTRY.get_sample_value("tunemill_runs_total", {"status": status}) or 0.0

    before = [counted("cancelled"), counted("failed"), counted("rejected")]
    for number, name in enumerate(("r1", "r2", "r3")):
        add(engine, run_id=name, key=f"k{number}")
    with engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.run_id == "r1").values(cancel_requested_ms=1))
    fail_attempt(engine, take(engine), InvalidRun("no"))
    move(engine, take(engine), "rejected", "a gate")

    assert [counted("cancelled"), counted("failed"), counted("rejected")] == [count + 1 for count in before]
