"""What one can do with published versions: change a few rows, check every byte, put one back, name it, ask where it came from."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import httpx
import polars as pl
import pyarrow.dataset as ds
import pytest
from fakes.curator_api import Running, running_api, tagged
from fakes.search_memory import MemorySearch
from sqlalchemy import select, update

from tunemill.registry import tables
from tunemill.schemas.origin import read_origins
from tunemill.schemas.records import TaggedLog

TESTS = Path(__file__).parents[1]
LOGS = [tagged(f"l{n:04}", f"question {n}", f"answer {n}", ts_ms=n, session_id=f"s{n // 3}") for n in range(1_000)]


async def start(api: Running, name: str = "math", **recipe: Any) -> None:
    made = await api.client.post("/v1/datasets", json={"name": name, "query": "", **recipe})
    assert made.status_code == 201, made.text


async def publish(api: Running, name: str = "math", **body: Any) -> dict[str, Any]:
    made = await api.client.post(f"/v1/datasets/{name}/versions", json=body)
    assert made.status_code == 201, made.text
    return dict(made.json())


async def get(api: Running, path: str, **asked: Any) -> dict[str, Any]:
    found = await api.client.get(f"/v1/datasets/{path}", params=asked)
    assert found.status_code == 200, found.text
    return dict(found.json())


async def edit(api: Running, number: int, answer: str, question: str | None = None, name: str = "math") -> None:
    messages = [
        {"role": "user", "content": question or f"question {number}"},
        {"role": "assistant", "content": answer},
    ]
    sent = await api.client.patch(f"/v1/datasets/{name}/rows/l{number:04}", json={"messages": messages})
    assert sent.status_code == 200, sent.text


def listed(api: Running) -> set[str]:
    return {path.relative_to(api.files).as_posix() for path in api.files.rglob("*") if path.is_file()}


def parts(version: dict[str, Any]) -> list[Path]:
    manifest = Path(version["manifest_url"])
    names = [part["sha256"] for part in json.loads(manifest.read_bytes())["parts"]]
    return [manifest.parents[1] / "parts" / f"{name}.parquet" for name in names]


async def test_one_edited_answer_of_a_thousand_writes_one_part_by_either_way(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        await start(api, "twin")
        assert (await publish(api))["digest"] == (await publish(api, "twin"))["digest"]
        before = listed(api)
        for name in ("math", "twin"):
            await edit(api, 500, "another answer", name=name)
            await api.client.delete(f"/v1/datasets/{name}/rows/l0007")
        amended = await publish(api, amend="1")
        plain = await publish(api, "twin")
        assert amended["digest"] == plain["digest"]
        assert (amended["rows"], amended["report"]["edited"]) == (999, 1)
        counted = [
            one["report"][name] for one in (amended, plain) for name in ("rows", "splits", "edited", "languages")
        ]
        assert counted[:4] == counted[4:]
        assert amended["report"]["characters_per_row"] == plain["report"]["characters_per_row"]
        assert amended["report"]["matched"] == plain["report"]["matched"] == 1_000
        assert (amended["parent"], amended["lineage"]["amends"]) == (1, 1)
        for name in ("math", "twin"):
            fresh = sorted(Path(path).parent.name for path in listed(api) - before if f"/{name}/" in path)
            assert fresh.count("parts") == 2  # of the edited row, and of the deleted one
            assert fresh.count("manifests") == 1
        await edit(api, 500, "a third answer")
        before = listed(api)
        await publish(api, amend="latest")
        fresh = sorted(Path(path).parent.name for path in listed(api) - before)
        assert [name for name in fresh if name in {"parts", "manifests"}] == ["manifests", "parts"]
        assert len([path for path in listed(api) - before if path.endswith((".parquet", ".zst"))]) == 2


async def test_an_amended_row_stays_in_the_slices_that_ingredients_go_by(tmp_path: Path) -> None:
    logs = [tagged(f"l{number:04}", f"question {number}", model=f"m{number % 2}") for number in range(20)]
    balanced = {"kind": "search", "query": "", "limit": 19, "take": "balanced", "by": "model"}
    async with running_api(tmp_path, *logs) as api:
        body = {"name": "math", "ingredients": [balanced], "slices": ["app"]}
        assert (await api.client.post("/v1/datasets", json=body)).status_code == 201
        before = (await publish(api))["report"]["slices"]["model"]
        await edit(api, 4, "another answer")
        assert (await publish(api, amend="1"))["report"]["slices"]["model"] == before


async def test_an_edited_question_moves_a_row_and_the_digest_is_that_of_a_plain_publish(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS[:200]) as api:
        await start(api)
        await start(api, "twin")
        await publish(api)
        for name in ("math", "twin"):
            await edit(api, 5, "four", "What is 2+2?", name)
            await edit(api, 6, "four", "What is 2+2?", name)
        amended, plain = await publish(api, amend="v1"), await publish(api, "twin")
        assert amended["rows"] == plain["rows"] == 199
        assert amended["digest"] == plain["digest"]
        assert plain["report"]["excluded"] == {"duplicate_content": 1}
        assert amended["report"]["excluded"] == {"duplicate_content": 1}
        for name in ("math", "twin"):
            await edit(api, 6, "answer 6", name=name)
            await api.client.delete(f"/v1/datasets/{name}/rows/l0005")
        amended, plain = await publish(api, amend="latest"), await publish(api, "twin")
        assert amended["digest"] == plain["digest"]
        assert plain["report"]["excluded"] == {"deleted_by_person": 1}
        assert amended["report"]["excluded"] == {"deleted_by_person": 1}


async def test_no_amending_takes_private_data_past_a_stricter_policy(tmp_path: Path) -> None:
    logs = [tagged(f"l{number:04}", f"number {number} is u{number}@example.com") for number in range(9)]
    async with running_api(tmp_path, *logs) as api:
        await api.client.post("/v1/rules", json={"document": "private_data: never\nrules: []\n"})
        await start(api)
        assert (await publish(api))["report"]["private_data"] == "never"
        await api.client.delete("/v1/datasets/math/rows/l0001")
        await publish(api, amend="1")
        await api.client.post("/v1/rules", json={"document": "private_data: snapshot\nrules: []\n"})
        await api.client.delete("/v1/datasets/math/rows/l0002")
        refused = await api.client.post("/v1/datasets/math/versions", json={"amend": "2"})
        assert (refused.status_code, "restore it" in refused.json()["detail"]) == (422, True)
        await api.client.post("/v1/datasets/math/restore", json={"version": "2"})
        assert (await publish(api))["report"]["masked"] == {"email": 8}
        await api.client.delete("/v1/datasets/math/rows/l0003")
        assert (await publish(api, amend="3"))["rows"] == 7


async def test_amending_keeps_no_log_that_was_erased_since(tmp_path: Path) -> None:
    index = MemorySearch(*LOGS[:50])
    async with running_api(tmp_path, index=index) as api:
        await start(api)
        await publish(api)
        with api.registry.begin() as connection:
            line = {"erasure_id": "e", "project": "default", "log_id": "l0003", "by": "x", "ts_ms": 1}
            connection.execute(tables.erasures.insert().values(line))
        amended = await publish(api, amend="1")
        assert amended["rows"] == 49
        assert (await get(api, "math/versions/2/lineage", log="l0003"))["rows"] == []
        assert len((await get(api, "math/versions/1/lineage", log="l0003"))["rows"]) == 1


async def test_a_version_without_any_row_left_is_none(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS[:1]) as api:
        await start(api)
        await publish(api)
        await api.client.delete("/v1/datasets/math/rows/l0000")
        refused = await api.client.post("/v1/datasets/math/versions", json={"amend": "1"})
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:tunemill:problem:empty-dataset")
        missing = await api.client.post("/v1/datasets/math/versions", json={"amend": "7"})
        assert missing.status_code == 404


@pytest.mark.parametrize("damage", ["byte", "lost part", "lost sources", "manifest", "foreign", "registry", "keys"])
async def test_verify_finds_what_is_not_as_it_was(tmp_path: Path, damage: str) -> None:
    async with running_api(tmp_path, *LOGS[:200]) as api:
        await start(api)
        version = await publish(api)
        whole = await get(api, "math/versions/1/verify")
        assert (whole["ok"], whole["problems"], whole["rows"]) == (True, [], 200)
        assert whole["files"] == 2 * len(parts(version)) + 3
        part, manifest = parts(version)[1], Path(version["manifest_url"])
        sources = Path(version["sources_url"])
        if damage == "byte":
            content = bytearray(part.read_bytes())
            content[len(content) // 2] ^= 1
            part.write_bytes(content)
        elif damage == "lost part":
            part.unlink()
        elif damage == "lost sources":
            (sources.parent / f"{json.loads(sources.read_bytes())['sources'][0]}.jsonl.zst").unlink()
        elif damage == "keys":
            (sources.parent / f"{json.loads(sources.read_bytes())['keys']}.keys").write_bytes(b"")
        elif damage == "manifest":
            manifest.write_bytes(manifest.read_bytes().replace(b'"rows":200', b'"rows":201'))
        elif damage == "foreign":
            await start(api, "other", seed=5)
            other = await publish(api, "other")
            with api.registry.begin() as connection:
                moved = {"sources_url": other["sources_url"]}
                connection.execute(update(tables.versions).where(tables.versions.c.name == "math").values(moved))
            for file in Path(other["sources_url"]).parent.iterdir():
                (sources.parent / file.name).write_bytes(file.read_bytes())
        else:
            with api.registry.begin() as connection:
                connection.execute(update(tables.versions).values(rows=7))
        found = await get(api, "math/versions/1/verify")
        assert (found["ok"], len(found["problems"]) > 0) == (False, True)
        assert "answer" not in str(found["problems"])


async def test_a_restored_version_is_published_to_the_digest_that_it_had(tmp_path: Path) -> None:
    twin = tagged("twin", "question 3", "answer 3", ts_ms=9_999, session_id="elsewhere")
    async with running_api(tmp_path, *LOGS[:300], twin) as api:
        await start(api, test_share=0.3, seed=4)
        first = await publish(api)
        await edit(api, 3, "wrong")
        await api.client.delete("/v1/datasets/math/rows/l0100")
        await publish(api)
        restored = await api.client.post("/v1/datasets/math/restore", json={"version": "1"})
        assert restored.status_code == 200
        again = await publish(api)
        assert (again["version"], again["digest"]) == (3, first["digest"])
        assert again["lineage"]["versions"] == [{"version": "math@v1", "matched": 301}]
        assert set(row_keys(again)) == {f"l{n:04}" for n in range(300)} | {"twin"}
        copied = await api.client.post("/v1/datasets/math/restore", json={"version": "v2", "as": "copy"})
        assert copied.json()["name"] == "copy"
        assert (await publish(api, "copy"))["digest"] == (await get(api, "math/versions/2"))["digest"]
        await api.client.delete("/v1/logs/l0001")
        assert (await publish(api))["rows"] == first["rows"] - 1
        refused = await api.client.post("/v1/datasets/math/restore", json={"version": "1", "as": "copy"})
        assert refused.status_code == 409


async def test_later_turns_come_to_the_side_of_the_version_that_is_taken(tmp_path: Path) -> None:
    """Of two conversations that were one in the version, because the same was said in both."""

    def turn(session: str, number: int, asked: str, ts_ms: int) -> TaggedLog:
        return tagged(f"{session}-{number}-{ts_ms}", asked, session_id=f"{session}-{number}", ts_ms=ts_ms)

    some = range(20)
    logs = [turn(name, number, f"hello {number}", at) for number in some for at, name in ((1, "old"), (2, "young"))]
    logs += [turn("young", number, f"question {number}", 3) for number in some]
    async with running_api(tmp_path, *logs) as api:
        await start(api, test_share=0.5)
        await publish(api)
        said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "an edited answer"}]
        edits = {f"young-{number}-3": {"messages": [{**said[0], "content": f"q {number}"}, said[1]]} for number in some}
        hello = [f"{name}-{number}-{at}" for number in some for at, name in ((1, "old"), (2, "young"))]
        draft = {"ingredients": [{"kind": "search", "query": ""}], "test_share": 0.5}
        changes = {"edit": edits, "delete": hello}
        await api.client.put("/v1/datasets/math/draft", json={**draft, "rows": changes})
        assert (await publish(api, amend="1"))["rows"] == 20  # in which nothing but these rows says what was one
        await api.index.write([turn("young", number, f"later {number}", 4) for number in some])
        both = [{"kind": "version", "of": "math@v2"}, {"kind": "search", "query": ""}]
        await api.client.put("/v1/datasets/math/draft", json={"ingredients": both, "test_share": 0.5})
        rows = (await get(api, "math/rows", limit=500))["rows"]
        sides = {row["row_key"]: row["split"] for row in rows}
        assert {sides[f"young-{number}-3"] for number in some} == {"train", "test"}
        assert all(sides[f"young-{number}-3"] == sides[f"young-{number}-4"] for number in some)


def row_keys(version: dict[str, Any]) -> list[str]:
    path = Path(version["sources_url"])
    files = [path.parent / f"{sha256}.jsonl.zst" for sha256 in json.loads(path.read_bytes())["sources"]]
    return [key for file in files for row in read_origins(file.read_bytes()) for key in row.row_keys]


async def test_the_diff_names_the_fields_and_reads_only_what_differs(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await start(api)
        first = await publish(api)
        await edit(api, 5, "another")
        await edit(api, 6, "answer 6", "another question")
        await api.client.delete("/v1/datasets/math/rows/l0007")
        second = await publish(api)
        for path in set(parts(first)) & set(parts(second)):
            path.unlink()  # what is in both need not be read
        found = await get(api, "math/diff", **{"from": "1", "to": "latest"})
        assert (found["added"], found["removed"], found["changed"]) == (0, 1, 2)
        fields = {row["row_key"]: row["fields"] for row in found["rows"]}
        assert fields == {"l0005": ["messages[1].content"], "l0006": ["messages[0].content"], "l0007": []}
        assert (await get(api, "math/diff", **{"from": "2", "to": "2"}))["rows"] == []


async def test_another_seed_moves_rows_to_the_other_side_and_the_diff_says_so(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS[:60]) as api:
        await start(api, test_share=0.5)
        await publish(api)
        await api.client.put("/v1/datasets/math/draft", json={"query": "", "test_share": 0})
        await publish(api)
        found = await get(api, "math/diff", **{"from": "1", "to": "2"})
        assert (found["added"], found["removed"]) == (0, 0)
        assert {tuple(row["fields"]) for row in found["rows"]} == {("split",)}


async def test_versions_have_names_which_stand_wherever_a_version_is_named(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS[:30]) as api:
        await start(api)
        await publish(api)
        await edit(api, 1, "another")
        await publish(api)

        async def put(alias: str, version: str) -> httpx.Response:
            return await api.client.put(f"/v1/datasets/math/aliases/{alias}", json={"version": version})

        assert (await put("best", "1")).status_code == 200
        assert (await get(api, "math/versions/best"))["version"] == 1
        assert (await get(api, "math/versions/latest"))["version"] == 2
        assert (await put("best", "v2")).json()["version"] == 2
        assert (await get(api, "math/aliases"))["latest"] == 2
        assert (await get(api, "math/diff", **{"from": "v1", "to": "best"}))["changed"] == 1
        assert (await put("best", "9")).status_code == 404
        for taken in ("latest", "v3", "3", "v0", "1234567890", "Best"):
            assert (await put(taken, "1")).status_code == 422
        assert (await api.client.delete("/v1/datasets/math/aliases/best")).status_code == 204
        assert (await api.client.get("/v1/datasets/math/versions/best")).status_code == 404
        with api.registry.connect() as connection:
            done = connection.execute(select(tables.audit.c.action, tables.audit.c.target)).all()
        assert ("alias.set", "math@best -> v1") in done


async def test_a_version_says_what_it_was_made_from_and_its_event_has_one_id(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS[:30]) as api:
        await api.client.put("/v1/searches/few", json={"query": "id:l000*"})
        await start(api, query="saved:few")
        version = await publish(api)
        (searched,) = version["lineage"]["searches"]
        assert (searched["query"], searched["saved"], searched["matched"]) == ("saved:few", ["few"], 10)
        assert "saved" not in searched["spelled_out"]
        assert version["lineage"]["logs"] == 10
        assert version["point_ms"] > 0
        with api.registry.connect() as connection:
            (event_id,) = connection.execute(select(tables.outbox.c.event_id)).scalars()
        told = '["datasets.ready","default","math",1,1]'
        assert event_id == hashlib.sha256(told.encode()).hexdigest()[:32]


DIGEST = """
import asyncio, sys
from pathlib import Path
from test_versions import LOGS, publish, start
from fakes.curator_api import running_api
async def main():
    logs = LOGS[:150] if sys.argv[2] == "same" else LOGS[149::-1]
    async with running_api(Path(sys.argv[1]), *logs) as api:
        await start(api, test_share=0.3)
        print((await publish(api))["digest"])
asyncio.run(main())
"""


def test_another_process_in_another_place_with_the_logs_in_another_order_gives_the_same_digest(tmp_path: Path) -> None:
    digests = set()
    for number, (order, zone) in enumerate([("same", "UTC"), ("other", "Pacific/Auckland")]):
        folder = tmp_path / str(number)
        (folder / "tmp").mkdir(parents=True)
        environment = {
            **os.environ,
            "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS / 'flow'}",
            "PYTHONHASHSEED": str(number),
            "TZ": zone,
            "TMPDIR": str(folder / "tmp"),
            "LC_ALL": ("C", "C.UTF-8")[number],
        }
        made = subprocess.run(
            [sys.executable, "-c", DIGEST, str(folder), order],
            env=environment,
            capture_output=True,
            check=True,
            timeout=120,
        )
        digests.add(made.stdout.decode().split()[-1])
        assert list((folder / "tmp").iterdir()) == []
    assert len(digests) == 1


async def test_the_parts_are_read_by_the_tools_that_people_have(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS[:200]) as api:
        await start(api)
        version = await publish(api)
    paths = [str(path) for path in parts(version)]
    assert len(paths) > 4
    assert ds.dataset(paths).count_rows() == 200
    assert pl.read_parquet(paths)["row_id"].n_unique() == 200
    asked = "SELECT count(*), count(DISTINCT messages[1]->>'content') FROM read_parquet($paths)"
    assert duckdb.execute(asked, {"paths": paths}).fetchall() == [(200, 200)]


async def test_amending_takes_out_what_may_not_be_trained_on_any_more(tmp_path: Path) -> None:
    def log(number: int, question: str, **more: Any) -> TaggedLog:
        return tagged(f"l{number:04}", question, ts_ms=number, **more)

    logs = [log(number, f"question {number}", model="open") for number in range(20)]
    logs += [log(20, "a closed one", model="closed"), log(21, "both", model="closed"), log(22, "both", model="open")]
    logs += [log(23, "back as it came", model="open", consent="none")]
    async with running_api(tmp_path, *logs) as api:
        await api.client.patch("/v1/logs/l0023", json={"consent": "train"})
        for name in ("math", "twin"):
            await start(api, name)
            assert (await publish(api, name))["rows"] == 23
        await api.client.patch("/v1/logs/l0003", json={"consent": "none"})
        await api.client.patch("/v1/logs/l0023", json={"consent": None})
        said = await api.client.put("/v1/licences/closed", json={"trainable": "no"})
        assert said.status_code == 200, said.text
        amended, plain = await publish(api, amend="1"), await publish(api, "twin")
        assert (amended["rows"], amended["digest"]) == (20, plain["digest"])
        assert amended["report"]["excluded"] == plain["report"]["excluded"] == {"consent": 2, "licence": 2}
        of_one = {"name": "again", "ingredients": [{"kind": "version", "of": "math@v1"}]}
        assert (await api.client.post("/v1/datasets", json=of_one)).status_code == 201
        again = await publish(api, "again")
        # One more than there: a row of a version names the model of the first log that says it, for all of them.
        assert (again["rows"], again["report"]["excluded"]) == (19, {"consent": 2, "licence": 3})
        rows = {log: (await get(api, "math/versions/2/lineage", log=log))["rows"] for log in ("l0021", "l0022")}
        assert [len(found) for found in rows.values()] == [0, 1]  # one of two logs that say the same may stay
