"""The registry on both engines: its tables, its migrations, its outbox."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from engines.postgres import empty_database, postgres
from sqlalchemy import Engine, MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from tunemill.curator_api import alias_store
from tunemill.curator_api.recipe import Imported, Recipe, Search
from tunemill.registry import conflicts, outbox, rule_sets, tables
from tunemill.registry.open import migrate, open_registry
from tunemill.registry.rule_sets import LearnedRef, RuleSet
from tunemill.schemas import wire
from tunemill.schemas.learned import LearnedTag, Model
from tunemill.schemas.records import DatasetReady, Erasure
from tunemill.schemas.topics import DATASETS_READY, ERASURES, RUNS_STATUS, Topic

VERSION = {
    "project": "p", "name": "n", "version": 1, "digest": "d", "manifest_url": "/m", "rows": 1, "splits": {}, "draft": {},
    "report": {}, "by": "person:x", "created_ms": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'registry.db'}"
        return
    with empty_database(request.getfixturevalue("postgres_server")) as made:
        yield made


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = open_registry(url)
    migrate(made)
    yield made
    made.dispose()


def ready(version: int) -> DatasetReady:
    return DatasetReady(
        event_id=f"e{version}", ts_ms=1, name="math", version=version, digest="d" * 64, manifest_url="/m", rows=3
    )


def append(engine: Engine, *versions: int) -> None:
    with engine.begin() as connection:
        for version in versions:
            outbox.append(connection, DATASETS_READY, ready(version), event_id=f"e{version}")


def test_an_event_that_no_bus_would_take_is_never_committed(engine: Engine) -> None:
    """It would stand before all others, for ever."""
    giant = msgspec.structs.replace(ready(1), recipe={"note": "x" * DATASETS_READY.max_message_bytes})
    with pytest.raises(outbox.EventTooLarge), engine.begin() as connection:
        outbox.append(connection, DATASETS_READY, giant, event_id="e1")
    assert outbox.pending(engine, [DATASETS_READY]) == 0


class Published:
    """A bus for the relay: remembers what was published; refuses after a number of messages if told to."""

    def __init__(self, *, refuse_after: int | None = None) -> None:
        self.messages: list[tuple[str, str, int]] = []
        self.refuse_after = refuse_after

    async def __call__(self, topic: Topic, key: str, value: bytes) -> None:
        if self.refuse_after is not None and len(self.messages) >= self.refuse_after:
            raise ConnectionError("the bus is away")
        self.messages.append((topic.name, key, wire.decode(value, DatasetReady).version))


def test_the_migrations_make_exactly_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*tables.metadata.tables, "alembic_version"}


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    append(engine, 1)
    migrate(engine)
    assert outbox.pending(engine, [DATASETS_READY]) == 1


def upgrade(engine: Engine, revision: str) -> None:
    """As `migrate`, but no further than to this revision."""
    config = Config()
    with as_file(files("tunemill.registry") / "migrations") as folder, engine.begin() as connection:
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def of_before(engine: Engine, table: str, *rows: dict[str, Any]) -> None:
    """Rows of a table that is no longer among ours."""
    with engine.begin() as connection:
        found = Table(table, MetaData(), autoload_with=connection)
        connection.execute(insert(found), list(rows))


@pytest.fixture
def before(url: str) -> Iterator[Engine]:
    made = open_registry(url)
    upgrade(made, "0002")
    yield made
    made.dispose()


def test_tag_edits_from_before_edits_were_numbered_are_numbered_per_log_in_their_order(before: Engine) -> None:
    acts = [
        ("p", "a", "add", "x:1", 10),
        ("p", "b", "add", "x:1", 20),
        ("p", "a", "remove", "x:1", 30),
        ("q", "a", "add", "x:2", 40),
        ("p", "a", "add", "x:3", 50),
    ]
    names = ("project", "log_id", "action", "tag", "ts_ms")
    of_before(before, "tag_edits", *({**dict(zip(names, act, strict=True)), "by": "person:ann"} for act in acts))
    with before.begin() as connection:
        connection.execute(text("DELETE FROM tag_edits WHERE ts_ms = 20"))  # so that the numbers have a gap
    migrate(before)
    ours = tables.edits.c
    wanted = (ours.seq, ours.project, ours.log_id, ours.revision, ours.kind, ours.tag, ours.ts_ms, ours.applied_ms)
    with before.begin() as connection:
        assert connection.execute(select(*wanted).order_by(ours.seq)).all() == [
            (1, "p", "a", 1, "tag", "x:1", 10, 10),
            (3, "p", "a", 2, "untag", "x:1", 30, 30),
            (4, "q", "a", 1, "tag", "x:2", 40, 40),
            (5, "p", "a", 3, "tag", "x:3", 50, 50),
        ]
        rows = connection.execute(select(ours.value, ours.why, ours.by, ours.job_id)).all()
        assert set(rows) == {(None, None, "person:ann", None)}
        made = connection.execute(
            insert(tables.edits).values(project="p", log_id="a", revision=4, kind="consent", by="person:ann", ts_ms=60)
        )
        assert made.inserted_primary_key == (6,)


def test_backfills_from_before_there_were_other_jobs_are_jobs_and_can_go_on(before: Engine) -> None:
    done = {
        "project": "p",
        "query": "refund",
        "revision": 3,
        "status": "failed",
        "total": 9,
        "seen": 4,
        "changed": 2,
        "place": [7, "log"],
        "error": {"code": "internal", "message": "unforeseen OSError"},
        "by": "person:ann",
        "created_ms": 5,
        "finished_ms": 6,
        "lease_owner": None,
        "lease_until_ms": None,
    }
    running = {**done, "status": "running", "place": None, "error": None, "finished_ms": None}
    held = {"lease_owner": "me", "lease_until_ms": 8}
    of_before(before, "backfills", {"backfill_id": "1", **done}, {"backfill_id": "2", **running, **held})
    change = {"log_id": "a", "added": [["x:1", "r@1"]], "taken": []}
    of_before(before, "backfill_changes", {"backfill_id": "1", **change})
    migrate(before)
    more = dict.fromkeys(("work", "why", "result", "idempotency_key", "request_digest")) | {"kind": "rules"}
    with before.connect() as connection:
        found = connection.execute(select(tables.jobs).order_by(tables.jobs.c.job_id)).mappings().all()
        assert found == [{"job_id": "1", **done, **more}, {"job_id": "2", **running, **held, **more}]
        assert connection.execute(select(tables.job_changes)).mappings().all() == [{"job_id": "1", **change}]


def test_drafts_from_before_there_were_recipes_are_searches_with_what_was_imported(before: Engine) -> None:
    upgrade(before, "0003")
    draft = {"query": "tag:topic:math", "limit": 5, "seed": 3, "test_share": 0.2}
    whole = {"query": "", "limit": None, "seed": 0, "test_share": 0.1}
    named = {"project": "p", "created_ms": 1}
    of_before(
        before,
        "datasets",
        {**named, "name": "math", "draft": draft, "updated_ms": 1},
        {**named, "name": "all", "draft": whole, "updated_ms": 1},
    )
    version = {"version": 1, "digest": "d", "manifest_url": "/m", "provenance_path": "/p", "rows": 1, "splits": {}}
    of_before(before, "versions", {**named, **version, "name": "math", "draft": draft, "report": {}, "by": "person:x"})
    migrate(before)
    with before.begin() as connection:
        drafts = {one.name: one.draft for one in connection.execute(select(tables.datasets))}
        made = connection.execute(select(tables.versions)).mappings().one()
        assert (made["draft"], made["revision"], made["shape"], made["sources_url"]) == (drafts["math"], 1, "chat", "")
    assert {name: msgspec.convert(one, Recipe) for name, one in drafts.items()} == {
        "math": Recipe(ingredients=(Search(query="tag:topic:math", limit=5), Imported()), seed=3, test_share=0.2),
        "all": Recipe(ingredients=(Search(query=""), Imported())),
    }


def test_runs_from_before_there_were_priorities_have_the_usual_one_and_keep_what_they_say(before: Engine) -> None:
    upgrade(before, "0005")
    run = {"run_id": "r", "run_key": "k", "project": "p", "name": "math", "version": 1, "digest": "d"}
    run |= {"manifest_url": "/m", "recipe": {"method": "lora"}, "status": "queued", "attempt": 0, "event_seq": 1}
    of_before(before, "runs", run | {"created_ms": 5})
    migrate(before)
    with before.connect() as connection:
        found = connection.execute(select(tables.runs)).mappings().one()
    assert {name: found[name] for name in run} == run
    assert (found["priority"], found["sources_url"], found["plan"], found["launcher"]) == (0, "", None, None)


def test_a_registry_in_which_nothing_was_done_yet_counts_from_one(before: Engine) -> None:
    migrate(before)
    row = {"project": "p", "log_id": "a", "revision": 1, "kind": "tag", "tag": "x:1", "by": "person:ann", "ts_ms": 1}
    with before.begin() as connection:
        assert connection.execute(insert(tables.edits).values(row)).inserted_primary_key == (1,)


def test_two_edits_of_one_log_never_have_the_same_number(engine: Engine) -> None:
    row = {"project": "p", "log_id": "a", "revision": 1, "kind": "tag", "tag": "x:1", "by": "person:ann", "ts_ms": 1}
    with engine.begin() as connection:
        connection.execute(insert(tables.edits).values(row))
        connection.execute(insert(tables.edits).values({**row, "project": "q"}))
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(insert(tables.edits).values({**row, "kind": "untag"}))


MIGRATE = "import sys; from tunemill.registry.open import migrate, open_registry; migrate(open_registry(sys.argv[1]))"


def test_several_processes_may_migrate_at_once(url: str) -> None:
    processes = [subprocess.Popen([sys.executable, "-W", "error", "-c", MIGRATE, url]) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0, 0, 0, 0]
    engine = open_registry(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    engine.dispose()


def test_a_version_needs_its_dataset(engine: Engine) -> None:
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(insert(tables.versions).values(VERSION | {"name": "nobody-made-me"}))


def test_transactions_that_read_and_then_write_do_not_lose_updates(engine: Engine) -> None:
    """On SQLite a deferred transaction would fail half-way here with "database is locked"."""
    with engine.begin() as connection:
        connection.execute(insert(tables.datasets).values(project="p", name="n", draft={}, created_ms=0, updated_ms=0))
    where = tables.datasets.c.name == "n"
    failures: list[BaseException] = []

    def add() -> None:
        try:
            for _ in range(10):
                with engine.begin() as connection:
                    count = connection.execute(select(tables.datasets.c.updated_ms).where(where).with_for_update())
                    connection.execute(tables.datasets.update().where(where).values(updated_ms=count.scalar_one() + 1))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with engine.connect() as connection:
        assert connection.execute(select(tables.datasets.c.updated_ms)).scalar_one() == 40


def test_an_alias_that_two_people_give_at_once_is_of_the_last_of_them(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(tables.datasets).values(project="p", name="n", draft={}, created_ms=0, updated_ms=0))
        connection.execute(insert(tables.versions), [VERSION | {"version": number} for number in (1, 2)])
    with ThreadPoolExecutor(1) as other:
        with engine.begin() as connection:
            here = {"project": "p", "name": "n", "alias": "prod"}
            conflicts.put(connection, tables.aliases, here, {"version": 1, "by": "person:ann", "updated_ms": 1})
            second = other.submit(alias_store.put, engine, "p", "n", "prod", 2, by="person:bob")
            wait([second], timeout=0.2)
        second.result()
    assert alias_store.find(engine, "p", "n", "prod") == 2


async def test_the_relay_publishes_in_order_and_once(engine: Engine) -> None:
    append(engine, 1, 2, 3)
    bus = Published()
    assert await outbox.relay(engine, [DATASETS_READY], bus) == 3
    assert await outbox.relay(engine, [DATASETS_READY], bus) == 0
    assert bus.messages == [("datasets.ready", "math", version) for version in (1, 2, 3)]
    assert outbox.pending(engine, [DATASETS_READY]) == 0


async def test_the_relay_leaves_other_topics_alone(engine: Engine) -> None:
    append(engine, 1)
    bus = Published()
    assert await outbox.relay(engine, [ERASURES, RUNS_STATUS], bus) == 0
    assert (outbox.pending(engine, [DATASETS_READY]), outbox.pending(engine, [ERASURES])) == (1, 0)


def test_an_event_of_a_transaction_that_failed_does_not_exist(engine: Engine) -> None:
    with pytest.raises(RuntimeError), engine.begin() as connection:
        outbox.append(connection, ERASURES, Erasure(erasure_id="e", ts_ms=1, log_id="l"), event_id="e")
        raise RuntimeError("the power goes")
    assert outbox.pending(engine, [ERASURES]) == 0


def test_an_event_is_recorded_once(engine: Engine) -> None:
    append(engine, 1)
    with pytest.raises(IntegrityError):
        append(engine, 1)


async def test_what_the_bus_refused_stays_and_goes_later_in_order(engine: Engine) -> None:
    append(engine, 1, 2, 3)
    away = Published(refuse_after=1)
    with pytest.raises(ConnectionError):
        await outbox.relay(engine, [DATASETS_READY], away)
    assert outbox.pending(engine, [DATASETS_READY]) == 2
    back = Published()
    await outbox.relay(engine, [DATASETS_READY], back)
    assert [version for _, _, version in away.messages + back.messages] == [1, 2, 3]


class Killed(BaseException):
    """The process ends here."""


async def test_a_crash_between_publish_and_mark_sends_twice_never_zero_times(engine: Engine) -> None:
    append(engine, 1, 2)
    bus = Published()

    async def publish_and_die(topic: Topic, key: str, value: bytes) -> None:
        await bus(topic, key, value)
        raise Killed

    with pytest.raises(Killed):
        await outbox.relay(engine, [DATASETS_READY], publish_and_die)
    await outbox.relay(engine, [DATASETS_READY], bus)
    assert [version for _, _, version in bus.messages] == [1, 1, 2]


async def test_two_relays_at_once_lose_nothing(engine: Engine) -> None:
    append(engine, *range(1, 6))
    one, other = Published(), Published()

    async def relay_the_other_first(topic: Topic, key: str, value: bytes) -> None:
        if not other.messages:
            await outbox.relay(engine, [DATASETS_READY], other)
        await one(topic, key, value)

    await outbox.relay(engine, [DATASETS_READY], relay_the_other_first)
    sent = {version for _, _, version in one.messages + other.messages}
    assert sent == {1, 2, 3, 4, 5}
    with engine.connect() as connection:
        unsent = select(func.count()).where(tables.outbox.c.sent_ms.is_(None))
        assert connection.execute(unsent).scalar_one() == 0


def test_a_set_of_rules_takes_the_place_of_the_one_before_and_the_older_ones_stay(engine: Engine) -> None:
    assert rule_sets.in_force(engine, "default") == RuleSet()
    first = rule_sets.put(engine, "default", by="person:ann", document="rules: []")
    learned = [LearnedRef("team:billing", 3)]
    second = rule_sets.put(engine, "default", by="person:bob", learned=learned)
    assert (second.revision, second.document, second.learned) == (2, "rules: []", tuple(learned))
    assert rule_sets.in_force(engine, "default") == second
    assert rule_sets.revision_in_force(engine, "default") == 2
    assert rule_sets.find(engine, "default", 1) == first
    assert rule_sets.find(engine, "default", 0) == RuleSet()
    assert rule_sets.find(engine, "default", 3) is None
    assert rule_sets.in_force(engine, "other") == RuleSet()
    back = rule_sets.put(engine, "default", by="person:ann", document=None)
    assert (back.revision, back.document, back.learned) == (3, None, tuple(learned))
    assert rule_sets.put(engine, "default", by="person:bob", document=None, learned=learned) == back, "nothing is new"
    with engine.connect() as connection:
        rows = connection.execute(select(tables.audit.c.by, tables.audit.c.action, tables.audit.c.target)).all()
    assert [row.target for row in rows] == ["1", "2", "3"]


def test_a_set_is_not_put_over_one_that_its_author_has_not_seen(engine: Engine) -> None:
    rule_sets.put(engine, "default", by="person:ann", document="rules: []", expected_revision=0)
    with pytest.raises(rule_sets.RevisionChanged) as caught:
        rule_sets.put(engine, "default", by="person:bob", document="rules: [1]", expected_revision=0)
    assert caught.value.revision == 1
    assert rule_sets.in_force(engine, "default").document == "rules: []"


def test_sets_that_are_put_at_the_same_time_get_a_number_each(engine: Engine) -> None:
    threads = [
        threading.Thread(
            target=rule_sets.put, args=(engine, "default"), kwargs={"by": f"person:{n}", "document": str(n)}
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    documents = [rule_sets.find(engine, "default", number) for number in range(1, 9)]
    assert sorted(str(found and found.document) for found in documents) == [str(n) for n in range(8)]


def test_the_learned_tags_of_a_set_come_whole_and_in_its_order(engine: Engine) -> None:
    model = Model({"user": {"refund": 1.5}}, bias=-1.0, threshold=0.25)
    row = {"project": "default", "model": msgspec.to_builtins(model), "report": {}, "by": "person:ann", "created_ms": 1}
    with engine.begin() as connection:
        for tag, version in (("a:b", 1), ("a:b", 2), ("c:d", 1)):
            connection.execute(insert(tables.learned_tags).values(**row, tag=tag, version=version))
    refs = [LearnedRef("c:d", 1), LearnedRef("a:b", 2)]
    made = rule_sets.put(engine, "default", by="person:ann", learned=refs)
    found = rule_sets.learned_in(engine, "default", made)
    assert found == (LearnedTag("c:d", 1, model), LearnedTag("a:b", 2, model))
    with pytest.raises(KeyError):
        rule_sets.learned_in(engine, "other", made)
