"""From logs to an immutable version over HTTP, and what a crash leaves at each step of it."""

import asyncio
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from engines.postgres import empty_database, postgres
from fakes.curator_api import Running, running_api, tagged
from fakes.search_memory import MemorySearch
from sqlalchemy import func, insert, select, text, update

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.open import open_bus
from tunemill.curator_api import draft_store, edit_store, ledger, relay
from tunemill.curator_api.edit_store import Act
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.recipe import Recipe, Search
from tunemill.curator_api.rows import RowEdit, RowMessage
from tunemill.curator_api.store import AlreadyDifferent, Files
from tunemill.indexer.open import open_index
from tunemill.indexer.search import SearchIndex
from tunemill.registry import tables
from tunemill.registry.open import migrate, open_registry
from tunemill.schemas import wire
from tunemill.schemas.manifest import manifest_digest
from tunemill.schemas.origin import read_origins
from tunemill.schemas.records import DatasetReady
from tunemill.schemas.topics import DATASETS_READY

LOGS = [
    tagged("m1", "What is 2+2?", "4", ts_ms=1),
    tagged("m2", "What is 3+3?", "6", ts_ms=2),
    tagged("m3", "What is 4+4?", "8", ts_ms=3, session_id="s1"),
    tagged("m4", "What is 5+5?", "10", ts_ms=4, session_id="s1"),
    tagged("pii", "I am a@b.example, what is 1+1?", "2", ts_ms=5, tags=("topic:math", "pii:email")),
    tagged("noconsent", "What is 6+6?", "12", ts_ms=6, consent="none"),
    tagged("failed", "What is 7+7?", None, ts_ms=7, status="error"),
    tagged("twin", "What is 2+2?", "4", ts_ms=8),
    tagged("poem", "Write a poem", "Roses", ts_ms=9, tags=("topic:poetry",)),
]


async def start(api: Running, name: str = "math", query: str = "tag:topic:math", **more: Any) -> httpx.Response:
    return await api.client.post("/v1/datasets", json={"name": name, "query": query, **more})


async def publish(api: Running, name: str = "math", **body: Any) -> httpx.Response:
    return await api.client.post(f"/v1/datasets/{name}/versions", json=body)


def edit(answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": answer}]}


async def events(api: Running) -> list[DatasetReady]:
    return [wire.decode(message.value, DatasetReady) for message in await api.bus.tail(DATASETS_READY, limit=99)]


async def sent_events(api: Running, count: int) -> list[DatasetReady]:
    """The events on the bus once there are so many of them, oldest first; the relay beside the API sends them."""
    async with asyncio.timeout(60):
        while len(found := await events(api)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return sorted(found, key=lambda event: event.version)


def sources(version: dict[str, Any]) -> list[str]:
    """The logs that a version was made of, as its files say."""
    path = Path(version["sources_url"])
    files = [path.parent / f"{sha256}.jsonl.zst" for sha256 in json.loads(path.read_bytes())["sources"]]
    return sorted(log_id for file in files for row in read_origins(file.read_bytes()) for log_id in row.log_ids)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(relay, "LONGEST_WAIT_S", 0.05)


async def test_a_draft_becomes_a_version_whose_files_say_exactly_what_is_in_it(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        assert (await start(api, test_share=0.5, seed=3)).status_code == 201
        answer = await publish(api, note="first", recipe={"method": "lora"})
        version = answer.json()
        assert answer.status_code == 201
        assert (version["name"], version["version"], version["rows"], version["note"]) == ("math", 1, 4, "first")
        assert version["report"]["excluded"] == {"consent": 1, "duplicate_content": 1, "pii": 1, "status_error": 1}
        assert version["report"]["matched"] == 8
        assert sum(version["splits"].values()) == 4
        manifest_file = Path(version["manifest_url"])
        assert manifest_file == tmp_path / "files/datasets/default/math/manifests" / f"{version['digest']}.json"
        assert manifest_digest(manifest_file.read_bytes()) == version["digest"]
        manifest = json.loads(manifest_file.read_bytes())
        assert (manifest["rows"], manifest["columns"]) == (4, ["row_id", "messages", "tools"])
        place = manifest_file.parents[1]
        for part in manifest["parts"]:
            content = (place / "parts" / f"{part['sha256']}.parquet").read_bytes()
            assert hashlib.sha256(content).hexdigest() == part["sha256"]
            rows = pq.read_table(io.BytesIO(content)).to_pylist()
            assert len(rows) == part["rows"] == version["splits"][part["split"]]
        assert set(sources(version)) == {"m1", "m2", "m3", "m4", "twin"}
        (event,) = await sent_events(api, 1)
        assert (event.name, event.version, event.digest, event.rows) == ("math", 1, version["digest"], 4)
        assert (event.manifest_url, event.recipe) == (version["manifest_url"], {"method": "lora"})
        assert (await api.client.get("/v1/datasets/math/versions/1")).json() == version


async def test_edits_and_deletions_make_the_next_version_and_the_diff_tells_them(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        first = (await publish(api)).json()
        assert (await api.client.patch("/v1/datasets/math/rows/m1", json=edit("four"))).status_code == 200
        assert (await api.client.delete("/v1/datasets/math/rows/twin")).status_code == 204
        assert (await api.client.delete("/v1/datasets/math/rows/m2")).status_code == 204
        await api.index.write([tagged("m9", "What is 9+9?", "18", ts_ms=99)])
        rows = (await api.client.get("/v1/datasets/math/rows")).json()
        assert (rows["total"], rows["excluded"]["deleted_by_person"]) == (4, 2)
        edited = {row["row_key"]: row for row in rows["rows"]}["m1"]
        assert (edited["edited"], edited["messages"][-1]["content"]) == (True, "four")
        second = (await publish(api)).json()
        assert (second["version"], second["rows"]) == (2, 4)
        assert second["digest"] != first["digest"]
        found = (await api.client.get("/v1/datasets/math/diff", params={"from": 1, "to": 2})).json()
        assert (found["added"], found["removed"], found["changed"]) == (1, 1, 1)
        change = next(row for row in found["rows"] if row["change"] == "changed")
        assert change["row_key"] == "m1"
        assert (change["before"][-1]["content"], change["after"][-1]["content"]) == ("4", "four")
        listed = (await api.client.get("/v1/datasets/math")).json()
        assert [version["version"] for version in listed["versions"]] == [2, 1]
        summary = (await api.client.get("/v1/datasets")).json()["datasets"]
        assert [(one["name"], one["versions"], one["latest_version"]) for one in summary] == [("math", 2, 2)]
        log = (await api.client.get("/v1/logs/m1")).json()
        assert log["output"][0]["content"] == "4"


async def test_publishing_the_same_again_is_a_clear_answer_and_no_version(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        first = (await publish(api)).json()
        again = await publish(api)
        assert again.status_code == 409
        problem = again.json()
        assert (problem["type"], problem["version"]) == ("urn:tunemill:problem:unchanged", 1)
        assert [event.version for event in await sent_events(api, 1)] == [1]
        await api.client.patch("/v1/datasets/math/rows/m1", json=edit("four"))
        await api.client.delete("/v1/datasets/math/rows/twin")
        await publish(api)
        await api.client.patch("/v1/datasets/math/rows/m1", json=edit("4"))
        third = (await publish(api)).json()
        assert (third["version"], third["digest"]) == (3, first["digest"])


async def test_equal_content_from_other_logs_has_the_digest_and_keeps_its_own_sources(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a", "q", "x"), tagged("b", "p", "y")) as api:
        await start(api, query="id:a OR id:c")
        one = (await publish(api)).json()
        await api.client.put("/v1/datasets/math/draft", json={"query": "id:b"})
        await publish(api)
        await api.index.write([tagged("c", "q", "x")])
        await api.client.put("/v1/datasets/math/draft", json={"query": "id:c"})
        three = (await publish(api)).json()
        assert (three["version"], three["digest"]) == (3, one["digest"])
        found = [(await api.client.get(f"/v1/datasets/math/versions/{number}")).json() for number in (1, 2, 3)]
        assert [sources(version) for version in found] == [["a"], ["b"], ["c"]]


async def test_an_idempotency_key_gives_the_same_version_again(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        sent = {"headers": {"idempotency-key": "k1"}, "json": {}}
        first = await api.client.post("/v1/datasets/math/versions", **sent)
        again = await api.client.post("/v1/datasets/math/versions", **sent)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()


async def test_a_dataset_of_no_rows_says_how_many_matched_and_why_none_is_left(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS[4:7]) as api:
        await start(api)
        refused = await publish(api)
        assert refused.status_code == 422
        problem = refused.json()
        assert problem["type"] == "urn:tunemill:problem:empty-dataset"
        assert (problem["matched"], problem["excluded"]) == (3, {"consent": 1, "pii": 1, "status_error": 1})
        await start(api, name="none", query="nothing-matches-this")
        assert (await publish(api, "none")).json()["matched"] == 0
        assert not api.files.exists() or list(api.files.rglob("*")) == []


NAMES = ["../up", "..", "a/b", "/etc/x", "a\\b", "A", "", "a" * 64, "a.b", "a%2fb", "ä", "-a", "a\n"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_is_a_path_or_odd_is_refused_with_the_pattern(tmp_path: Path, name: str) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        refused = await start(api, name=name)
        assert refused.status_code == 422
        assert refused.json()["pattern"] == "[a-z0-9][a-z0-9_-]{0,62}"
        assert (await api.client.get("/v1/datasets")).json() == {"datasets": []}
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} <= {"bus", "registry", "files"}


@pytest.mark.parametrize("path", ["..%2fup/versions", "%2e%2e/versions", "nobody/versions"])
async def test_a_path_in_place_of_a_name_leads_nowhere(tmp_path: Path, path: str) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        answer = await api.client.post(f"/v1/datasets/{path}", json={})
        assert answer.status_code in {404, 405}
        assert not api.files.exists() or list(api.files.rglob("*")) == []


async def test_a_dataset_is_started_once_and_its_query_is_checked(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await start(api)).status_code == 201
        assert (await start(api)).status_code == 409
        bad = await start(api, name="other", query='tag:"open')
        assert (bad.status_code, bad.json()["type"]) == (400, "urn:tunemill:problem:bad-query")
        changed = await api.client.put("/v1/datasets/math/draft", json={"query": "x AND"})
        assert changed.status_code == 400
        assert (await api.client.put("/v1/datasets/nobody/draft", json={"query": "x"})).status_code == 404
        assert (await api.client.get("/v1/datasets/nobody/rows")).status_code == 404


async def test_rows_come_in_pages_that_miss_and_repeat_nothing(tmp_path: Path) -> None:
    logs = [tagged(f"l{n:02}", f"question {n}") for n in range(25)]
    async with running_api(tmp_path, *logs) as api:
        await start(api, query="")
        keys: list[str] = []
        cursor: str | None = None
        while True:
            parameters = {"limit": 10} | ({"cursor": cursor} if cursor else {})
            page = (await api.client.get("/v1/datasets/math/rows", params=parameters)).json()
            keys += [row["row_key"] for row in page["rows"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert keys == [f"l{n:02}" for n in range(25)]
        assert (await api.client.get("/v1/datasets/math/rows", params={"cursor": "!"})).status_code == 400


async def test_an_edit_must_be_a_row_of_a_log_that_is_there(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        bad = await api.client.patch(
            "/v1/datasets/math/rows/m1", json={"messages": [{"role": "user", "content": "hi"}]}
        )
        assert (bad.status_code, bad.json()["type"]) == (422, "urn:tunemill:problem:invalid-row")
        assert (await api.client.patch("/v1/datasets/math/rows/nobody", json=edit("4"))).status_code == 404
        assert (await api.client.patch("/v1/datasets/nobody/rows/m1", json=edit("4"))).status_code == 404
        unknown = "import-" + "0" * 32
        assert (await api.client.delete(f"/v1/datasets/math/rows/{unknown}")).status_code == 404


async def test_what_is_exported_can_be_imported_and_gives_the_same_version(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        await publish(api)
        export = await api.client.get("/v1/datasets/math/versions/1/export")
        assert export.headers["content-type"] == "application/jsonl"
        assert len(export.text.splitlines()) == 4
        sides = [
            await api.client.get(f"/v1/datasets/math/versions/1/export?split={side}") for side in ("train", "test")
        ]
        assert sorted("".join(side.text for side in sides).splitlines()) == sorted(export.text.splitlines())
        await start(api, name="copy", query="nothing-matches-this", test_share=0)
        await start(api, name="plain", query="tag:topic:math", test_share=0)
        outcome = (await api.client.post("/v1/datasets/copy/import", content=export.content)).json()
        assert (outcome["lines"], outcome["imported"], outcome["errors"]) == (4, 4, [])
        again = (await api.client.post("/v1/datasets/copy/import", content=export.content)).json()
        assert (again["imported"], again["known"]) == (0, 4)
        copy, plain = (await publish(api, "copy")).json(), (await publish(api, "plain")).json()
        assert copy["digest"] == plain["digest"]
        assert copy["report"]["imported"] == 4


async def test_lines_that_cannot_be_imported_are_named_and_the_others_are_imported(tmp_path: Path) -> None:
    good = json.dumps(edit("4"))
    async with running_api(tmp_path) as api:
        await start(api)
        body = f"{good}\n\nnot json\n{{}}\n{good}\n"
        answer = await api.client.post("/v1/datasets/math/import", content=body.encode())
        assert answer.status_code == 200
        outcome = answer.json()
        assert (outcome["lines"], outcome["imported"], outcome["known"], outcome["failed"]) == (4, 1, 1, 2)
        assert [error["line"] for error in outcome["errors"]] == [3, 4]
        row = (await api.client.get("/v1/datasets/math/rows")).json()["rows"][0]
        assert (await api.client.patch(f"/v1/datasets/math/rows/{row['row_key']}", json=edit("5"))).status_code == 200
        version = (await publish(api)).json()
        assert (version["rows"], version["report"]["edited"]) == (1, 1)
        nothing = await api.client.post("/v1/datasets/math/import", content=b"x\ny\n")
        assert (nothing.status_code, nothing.json()["type"]) == (422, "urn:tunemill:problem:invalid-row")
        assert [error["line"] for error in nothing.json()["errors"]] == [1, 2]


async def test_a_file_that_was_changed_or_lost_is_said_and_never_used(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api, test_share=0)
        url = Path((await publish(api)).json()["manifest_url"])
        (part,) = (url.parents[1] / "parts").iterdir()
        kept = part.read_bytes()
        part.write_bytes(kept[:-1])
        async with asyncio.timeout(60):
            await api.client.delete("/v1/datasets/math/rows/m1")
            await api.client.delete("/v1/datasets/math/rows/twin")
            assert (await publish(api)).status_code == 201
        diff = await api.client.get("/v1/datasets/math/diff", params={"from": 1, "to": 2})
        assert (diff.status_code, diff.json()["type"]) == (500, "urn:tunemill:problem:damaged-file")
        assert part.name in diff.json()["detail"]
        url.unlink()
        export = await api.client.get("/v1/datasets/math/versions/1/export")
        assert (export.status_code, url.name in export.json()["detail"]) == (500, True)


def test_of_two_writers_of_one_name_the_first_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked and seen nothing there."""
    files = Files(str(tmp_path))
    assert files.put("parts/p", b"first") == str(tmp_path / "parts/p")
    monkeypatch.setattr(files._fs, "exists", lambda _path: False)
    with pytest.raises(AlreadyDifferent):
        files.put("parts/p", b"second")
    files.put("parts/p", b"first")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "parts").iterdir()] == [("p", b"first")]


async def test_an_import_brings_no_secret_and_no_private_data_in(tmp_path: Path) -> None:
    secret = "sk-proj-" + "a1B2" * 8
    bad = [
        {"messages": [{"role": "user", "content": "mail a@b.example"}, {"role": "assistant", "content": "done"}]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"use {secret}"}]},
        {**edit("4"), "tools": [{"type": "function", "function": {"name": "pay", "iban": "DE89370400440532013000"}}]},
    ]
    lines = "\n".join(json.dumps(row) for row in [edit("4"), *bad])
    async with running_api(tmp_path) as api:
        await start(api)
        outcome = (await api.client.post("/v1/datasets/math/import", content=lines.encode())).json()
        assert (outcome["imported"], outcome["failed"]) == (1, 3)
        reasons = {error["line"]: error["reason"] for error in outcome["errors"]}
        assert "messages[0]" in reasons[2] and "pii:email" in reasons[2]
        assert "messages[1]" in reasons[3] and "secret:api-key" in reasons[3]
        assert "tools" in reasons[4] and "pii:iban" in reasons[4]
        assert secret not in str(outcome)
        with api.registry.connect() as connection:
            assert secret not in str(connection.execute(select(tables.imported_rows)).all())


async def test_an_edit_brings_no_secret_in_and_no_private_data_that_its_log_does_not_hold(tmp_path: Path) -> None:
    looked_at = tagged("seen", "I am a@b.example, what is 1+1?", "2", ts_ms=5)  # a person removed its tag
    async with running_api(tmp_path, *LOGS, looked_at) as api:
        await start(api)
        for answer, kind in (("write to a@b.example", "pii:email"), ("ghp_" + "a1B2" * 10, "secret:api-key")):
            refused = await api.client.patch("/v1/datasets/math/rows/m1", json=edit(answer))
            assert (refused.status_code, kind in refused.json()["detail"]) == (422, True)
            assert answer not in refused.text
        fixed = {"messages": [{"role": "user", "content": "I am a@b.example"}, {"role": "assistant", "content": "Two"}]}
        assert (await api.client.patch("/v1/datasets/math/rows/seen", json=fixed)).status_code == 200
        rows = (await api.client.get("/v1/datasets/math/rows")).json()
        assert [row["row_key"] for row in rows["rows"] if row["edited"]] == ["seen"]


async def test_an_erased_log_is_in_no_draft_even_while_the_index_still_has_it(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        await api.client.patch("/v1/datasets/math/rows/m1", json=edit("a secret of m1"))
        await api.client.delete("/v1/logs/m1")
        await api.index.write([LOGS[0]])  # a replay, or a stream that has not heard yet
        rows = (await api.client.get("/v1/datasets/math/rows")).json()
        assert "m1" not in {row["row_key"] for row in rows["rows"]}
        assert rows["excluded"]["erased"] == 1
        assert (await publish(api)).json()["rows"] == 4
        with api.registry.connect() as connection:
            assert connection.execute(select(func.count()).select_from(tables.row_edits)).scalar_one() == 0


async def test_an_edit_that_comes_after_its_logs_erasure_is_not_written_down(tmp_path: Path) -> None:
    """The endpoint found the log, and then somebody erased it."""
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        ledger.erase(api.registry, "default", "m1", by="person:x")
        text = RowEdit((RowMessage(role="assistant", content="what m1 said"),))
        with pytest.raises(NotFound):
            draft_store.edit_rows(api.registry, "default", "math", {"m2": text, "m1": text}, by="person:y")
        draft = Recipe(ingredients=(Search(query="x"),))
        with pytest.raises(NotFound):
            draft_store.change(api.registry, "default", "math", draft, {"m1": None}, by="person:y")
        assert draft_store.find(api.registry, "default", "math").draft != draft
        with api.registry.connect() as connection:
            assert connection.execute(select(tables.row_edits)).all() == []


def test_an_erasure_waits_for_an_edit_under_way_and_takes_it_along(tmp_path: Path) -> None:
    """On PostgreSQL neither would see the other's row before it is committed. SQLite lets only one of them begin."""
    with postgres() as server, empty_database(server) as url:
        engine = open_registry(url)
        migrate(engine)
        draft_store.create(engine, "default", "math", Recipe(ingredients=(Search(query=""),)))
        held = {"project": "default", "name": "math", "row_key": "m1"}
        with ThreadPoolExecutor() as threads:
            with engine.begin() as editing:
                editing.execute(update(tables.datasets).values(updated_ms=1))
                editing.execute(insert(tables.row_edits).values(**held, action="edit", messages=[], by="x", ts_ms=1))
                erasing = threads.submit(ledger.erase, engine, "default", "m1", by="person:y")
                waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                while not erasing.done():
                    with engine.connect() as watching:
                        if watching.execute(waiting).scalar_one():
                            break
            erasing.result(timeout=60)
        with engine.connect() as connection:
            assert connection.execute(select(tables.row_edits)).all() == []
        engine.dispose()


async def test_a_log_that_is_erased_while_its_version_is_written_is_not_in_the_version(tmp_path: Path) -> None:
    class ErasedAfterTheScan(MemorySearch):
        api: Running | None = None

        async def dump(self, query: Any) -> Any:
            async for logs in super().dump(query):
                yield logs
            if self.api is not None:
                api, self.api = self.api, None
                await api.client.delete("/v1/logs/m2")

    index = ErasedAfterTheScan(*LOGS)
    async with running_api(tmp_path, index=index) as api:
        await start(api)
        index.api = api
        assert (await publish(api)).json()["rows"] == 3
        export = await api.client.get("/v1/datasets/math/versions/1/export")
        assert "3+3" not in export.text


async def test_events_wait_for_a_bus_that_is_away_and_come_in_order(tmp_path: Path) -> None:
    bus = open_bus(f"sqlite:{tmp_path / 'bus.db'}")

    class Away:
        """The same bus, which refuses to publish while it is away."""

        away = True
        refused = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(bus, name)

        async def publish(self, topic: Any, messages: Any) -> None:
            if self.away:
                self.refused += 1
                raise BusUnavailable("away")
            await bus.publish(topic, messages)

    away: Any = Away()
    async with running_api(tmp_path, *LOGS, bus=away) as api:
        await start(api)
        await publish(api)
        await api.client.delete("/v1/datasets/math/rows/m2")
        assert (await publish(api)).json()["version"] == 2
        async with asyncio.timeout(60):
            while away.refused < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await events(api) == []
        away.away = False
        assert [event.version for event in await sent_events(api, 2)] == [1, 2]


async def test_a_recipe_that_no_event_can_hold_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    giant = {"method": "lora", "base": "x" * DATASETS_READY.max_message_bytes}
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        refused = await publish(api, recipe=giant)
        assert (refused.status_code, "recipe" in refused.json()["detail"]) == (422, True)
        await publish(api)
        order = {"name": "math", "version": 1, "recipe": giant}
        assert (await api.client.post("/v1/runs", json=order)).status_code == 422
        assert [event.version for event in await sent_events(api, 1)] == [1]


async def test_a_run_can_be_asked_for_and_the_version_must_be_there(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        await publish(api)
        asked = await api.client.post("/v1/runs", json={"name": "math", "version": 1, "recipe": {"method": "lora"}})
        assert asked.status_code == 202
        missing = await api.client.post("/v1/runs", json={"name": "math", "version": 2, "recipe": {}})
        assert missing.status_code == 404
        found = await sent_events(api, 2)
        assert {event.event_id: event.recipe for event in found}[asked.json()["event_id"]] == {"method": "lora"}


async def digest_of(folder: Path, *, registry_url: str | None = None, index: SearchIndex | None = None) -> str:
    """The digest of a version that was made with every kind of change, in this folder."""
    folder.mkdir()
    async with running_api(folder, *LOGS, registry_url=registry_url, index=index) as api:
        await start(api)
        await api.client.patch("/v1/datasets/math/rows/m1", json=edit("four"))
        await api.client.post("/v1/datasets/math/import", content=json.dumps(edit("vier")).encode())
        await api.client.delete("/v1/logs/m4")
        version = (await publish(api)).json()
        assert version["rows"] == 5
        assert (await publish(api)).status_code == 409
        assert (await sent_events(api, 1))[0].digest == version["digest"]
        return str(version["digest"])


async def test_the_same_logs_give_the_same_digest_twice_and_on_the_embedded_index(tmp_path: Path) -> None:
    found = [await digest_of(tmp_path / name) for name in ("one", "two")]
    found.append(await digest_of(tmp_path / "local", index=open_index(f"local:{tmp_path / 'index'}")))
    assert len(set(found)) == 1


def test_the_same_logs_give_the_same_digest_on_postgresql(tmp_path: Path) -> None:
    with postgres() as server, empty_database(server) as url:
        found = [
            asyncio.run(digest_of(tmp_path / name, registry_url=where)) for name, where in (("a", None), ("b", url))
        ]
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("policy", "asked", "masked"),
    [
        (None, "I am [PII:email]", {"email": 1}),
        ("ingest", "I am [PII:email]", {"email": 1}),
        ("never", "I am a@b.example", {}),
    ],
)
async def test_the_policy_in_force_says_what_becomes_of_private_data(
    tmp_path: Path, policy: str | None, asked: str, masked: dict[str, int]
) -> None:
    async with running_api(tmp_path, tagged("m", "I am a@b.example", "Hello")) as api:
        if policy:
            document = f"private_data: {policy}\nrules: []\n"
            assert (await api.client.post("/v1/rules", json={"document": document})).is_success
        await start(api, test_share=0)
        mine = json.dumps({"messages": [{"role": "user", "content": "mail c@d.example"}, edit("4")["messages"][-1]]})
        imported = await api.client.post("/v1/datasets/math/import", content=mine.encode())
        assert imported.is_success == (policy == "never")
        version = (await publish(api)).json()
        assert version["report"]["private_data"] == (policy or "snapshot")
        assert version["report"]["masked"] == masked
        export = (await api.client.get("/v1/datasets/math/versions/1/export?split=train")).text
        assert asked in export
        left_out = await api.client.get("/v1/datasets/math/rows")
        assert asked in left_out.text


async def test_what_people_said_holds_before_the_index_has_it(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        said = {"m1": [Act("consent", value="none")], "m2": [Act("tag", "pii:email")]}
        await asyncio.to_thread(edit_store.record, api.registry, "default", said, by="person:ann")
        await start(api)
        rows = (await api.client.get("/v1/datasets/math/rows")).json()["rows"]
        assert {row["row_key"] for row in rows} == {"m3", "m4", "twin"}
