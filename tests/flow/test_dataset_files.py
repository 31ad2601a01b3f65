"""Rows from files into a draft and from a version into files, over HTTP and from the command line."""

import asyncio
import io
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from engines.process import free_port
from fakes.curator_api import Running, running_api, tagged
from sqlalchemy import select
from typer.testing import CliRunner

from tunemill.cli.app import app
from tunemill.curator_api.file_payloads import FormatName
from tunemill.curator_api.row_formats import FORMATS
from tunemill.curator_api.settings import Settings
from tunemill.registry import tables

USER, ANSWER = {"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "4"}
ROW = {"messages": [USER, ANSWER]}
EVERY_SHAPE: list[dict[str, Any]] = [
    ROW,
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"instruction": "Add", "input": "1 and 2", "output": "3"},
    {"prompt": "Say x", "completion": "x"},
    {"prompt": [USER], "completion": [{"role": "assistant", "content": "four"}], "tools": [{"name": "add"}]},
]
PAIR = {"prompt": "Which?", "chosen": "this", "rejected": "that"}


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


async def begun(api: Running, name: str = "files") -> None:
    body = {"name": name, "query": "tag:nothing:here", "test_share": 0}
    assert (await api.client.post("/v1/datasets", json=body)).status_code == 201


async def imported(api: Running, content: bytes, **params: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/datasets/files/import", content=content, params=params)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def stored(api: Running) -> list[Any]:
    with api.registry.connect() as connection:
        return list(connection.execute(select(tables.imported_rows).order_by(tables.imported_rows.c.seq)).all())


def parquet(*values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(values)), out)
    return out.getvalue()


async def test_rows_of_every_shape_come_in_together_and_keep_where_they_came_from(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await begun(api)
        extra = {**ROW, "messages": [USER, {**ANSWER, "content": "vier"}], "score": 3}
        told = await imported(api, lines(*EVERY_SHAPE, PAIR, extra), source="a/set", licence="mit")
        assert told == {
            "lines": 7,
            "imported": 7,
            "known": 0,
            "failed": 0,
            "errors": [],
            "formats": {"openai": 2, "sharegpt": 1, "alpaca": 1, "prompt_completion": 2, "preference": 1},
            "unread": {"score": 1},
            "stopped": False,
        }
        rows = stored(api)
        assert {(row.source, row.licence) for row in rows} == {("a/set", "mit")}
        assert [row.messages[0]["content"] for row in rows][:4] == ["What is 2+2?", "a", "Add\n1 and 2", "Say x"]
        assert rows[5].rejected == [{"role": "assistant", "content": "that"}]
        assert [row.rejected for row in rows[:5]] == [None] * 5


async def test_an_array_and_parquet_say_what_lines_say(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await begun(api)
        await imported(api, lines(*EVERY_SHAPE))
        keys = {row.row_key for row in stored(api)}
        assert (await imported(api, json.dumps(EVERY_SHAPE, indent=1).encode()))["known"] == 5
        for value in EVERY_SHAPE:
            assert (await imported(api, parquet(value)))["known"] == 1
        assert {row.row_key for row in stored(api)} == keys


async def test_tool_calls_come_whole_out_of_parquet(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    row = {"messages": [USER, called, {"role": "tool", "content": "4", "tool_call_id": "c1"}, ANSWER]}
    tools = [{"type": "function", "function": {"name": "add"}}]
    async with running_api(tmp_path) as api:
        await begun(api)
        await imported(api, lines({**row, "tools": tools}))
        told = await imported(api, parquet({**row, "tools": json.dumps(tools), "row_id": "x"}))
        assert (told["known"], told["unread"]) == (1, {})


@pytest.mark.parametrize("arguments", ['{"a":  1, "b": [2.0]}', '{"a":1}', '{"a": 12345678901234567890}'])
async def test_the_arguments_of_calls_come_back_out_of_a_version_as_they_were_written(
    tmp_path: Path, arguments: str
) -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "add", "arguments": arguments}} for n in (1, 2)]
    called = {"role": "assistant", "content": 'With "tool_calls":', "tool_calls": calls}
    answers = [{"role": "tool", "content": "4", "tool_call_id": call["id"]} for call in calls]
    async with running_api(tmp_path) as api, served(api) as environment:
        environment["XDG_STATE_HOME"] = str(tmp_path / "state")
        await begun(api)
        await imported(api, lines({"messages": [USER, called, *answers, ANSWER]}))
        version = (await api.client.post("/v1/datasets/files/versions", json={})).json()
        hub = tmp_path / "hub"
        await told(environment, "export", "files@v1", "--format", "hub", "--out", str(hub))
        for folder in (hub, Path(version["manifest_url"]).parents[1] / "versions" / version["digest"]):
            assert (await told(environment, "import", "files", str(folder)))["known"] == 1


@pytest.mark.parametrize(("on_error", "imported_lines", "named"), [("skip", 2, [12, 13, 15]), ("stop", 1, [12])])
async def test_a_bad_line_is_named_by_its_number_and_the_rest_goes_on_or_stops(
    tmp_path: Path, on_error: str, imported_lines: int, named: list[int]
) -> None:
    body = b"\n" + lines(ROW) + b'{"messages": "\xff"}\n{"text": "private words"}\n' + lines(EVERY_SHAPE[1])
    half = b'{"messages": [{"role": "us'
    async with running_api(tmp_path) as api:
        await begun(api)
        told = await imported(api, body + half, on_error=on_error, first_line=10)
        assert (told["imported"], [error["line"] for error in told["errors"]]) == (imported_lines, named)
        assert told["stopped"] is (on_error == "stop")
        assert "private" not in str(told)
        assert len(stored(api)) == imported_lines


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 422, "no rows"),
        (b"[{]", 422, "JSON array"),
        (b"PAR1 and nothing", 422, "Parquet"),
        (b"x\ny", 422, "none of 2 lines could be imported; line 1"),
    ],
)
async def test_a_body_that_holds_no_row_is_refused(tmp_path: Path, body: bytes, status: int, reason: str) -> None:
    async with running_api(tmp_path) as api:
        await begun(api)
        answer = await api.client.post("/v1/datasets/files/import", content=body)
        assert (answer.status_code, reason in answer.json()["detail"]) == (status, True)


async def test_parquet_whose_text_is_not_utf8_is_the_senders_mistake(tmp_path: Path) -> None:
    offsets, text = pa.py_buffer(struct.pack("<2i", 0, 2)), pa.py_buffer(b"\xff\xfe")
    made = io.BytesIO()
    pq.write_table(pa.table({"prompt": pa.StringArray.from_buffers(1, offsets, text), "completion": ["a"]}), made)
    async with running_api(tmp_path) as api:
        await begun(api)
        reply = await api.client.post("/v1/datasets/files/import", content=made.getvalue())
        assert reply.status_code == 422
        assert "UTF-8" in reply.json()["detail"]


async def test_parquet_that_holds_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    said = {"prompt": "x" * 2**20, "completion": "y"}  # kept once in the file, and once a row when it is read out
    async with running_api(tmp_path, settings=Settings(max_inflated_bytes=50 * 2**20)) as api:
        await begun(api)
        body = parquet(*[said] * 100)
        assert len(body) < 2**20
        answer = await api.client.post("/v1/datasets/files/import", content=body)
        assert (answer.status_code, answer.json()["limit"]) == (413, 50 * 2**20)
        assert stored(api) == []


async def test_a_worse_answer_brings_no_private_data_in_either(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await begun(api)
        told = await imported(api, lines(ROW, {**PAIR, "rejected": "write to a@b.example"}))
        (error,) = told["errors"]
        assert (error["line"], "rejected[0]" in error["reason"], "pii:email" in error["reason"]) == (2, True, True)
        assert "a@b" not in str(told)


LOGS = [
    tagged("one", "What is 2+2?", "4", ts_ms=1),
    tagged("two", "What is 3+3?", "6", ts_ms=2),
    tagged("tool", "What is 4+4?", "8", ts_ms=3, tools=[{"type": "function", "function": {"name": "add"}}]),
]


async def published(api: Running, query: str = "tag:topic:math", name: str = "math") -> dict[str, Any]:
    assert (await api.client.post("/v1/datasets", json={"name": name, "query": query})).status_code == 201
    answer = await api.client.post(f"/v1/datasets/{name}/versions", json={})
    assert answer.status_code == 201, answer.text
    version: dict[str, Any] = answer.json()
    return version


def test_every_format_is_offered() -> None:
    assert set(FORMATS) == set(FormatName.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FORMATS)
async def test_a_version_leaves_in_every_format_and_what_it_loses_is_counted(tmp_path: Path, name: str) -> None:
    at = "/v1/datasets/math/versions/1/export"
    async with running_api(tmp_path, *LOGS) as api:
        await published(api)
        whole = (await api.client.get(at, params={"format": name})).content
        told = (await api.client.get(f"{at}/losses", params={"format": name})).json()
        assert (told["rows"], told["written"]) == (3, whole.count(b"\n"))
        assert told["losses"] == {"alpaca": {"tools": 1}, "preference": {"no_rejected": 3}}.get(name, {})
        rest = (await api.client.get(at, params={"format": name, "skip": 1})).content
        assert whole.split(b"\n")[1:] == rest.split(b"\n") or not whole
        if told["written"]:
            await begun(api)
            again = await imported(api, whole)
            assert again["formats"] == {name: told["written"]}


async def test_pairs_come_in_are_published_and_leave_in_every_format_that_holds_them(tmp_path: Path) -> None:
    at = "/v1/datasets/pairs/versions/1/export"
    recipe = {"name": "pairs", "shape": "preference", "ingredients": [{"kind": "imported"}], "test_share": 0}
    async with running_api(tmp_path) as api:
        assert (await api.client.post("/v1/datasets", json=recipe)).status_code == 201
        await api.client.post("/v1/datasets/pairs/import", content=lines(PAIR, {**PAIR, "prompt": "What?"}))
        version = (await api.client.post("/v1/datasets/pairs/versions", json={})).json()
        assert (version["rows"], version["shape"]) == (2, "preference")
        for name in ("openai", "sharegpt", "alpaca", "preference"):
            whole = (await api.client.get(at, params={"format": name})).content
            assert (await api.client.get(f"{at}/losses", params={"format": name})).json()["losses"] == {}
            again = (await api.client.post("/v1/datasets/pairs/import", content=whole)).json()
            assert (again["known"], again["formats"]) == (2, {name: 2})
        told = (await api.client.get(f"{at}/losses", params={"format": "prompt_completion"})).json()
        assert (told["written"], told["losses"]) == (2, {"rejected": 2})


async def test_an_export_that_was_begun_with_another_content_is_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        version = await published(api)
        at = "/v1/datasets/math/versions/1/export"
        assert (await api.client.get(at, params={"digest": version["digest"]})).status_code == 200
        answer = await api.client.get(at, params={"digest": "0" * 64})
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:tunemill:problem:version-redacted")


@asynccontextmanager
async def served(api: Running) -> AsyncIterator[dict[str, str]]:
    """The API on a port of this machine; the environment of commands that speak to it."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(api.app, port=port, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield {"TUNEMILL_URL": f"http://127.0.0.1:{port}", "TUNEMILL_KEY": api.key, "COLUMNS": "200"}
    finally:
        server.should_exit = True
        await serving


async def told(environment: dict[str, str], *args: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = await asyncio.to_thread(CliRunner(env=environment).invoke, app, ["dataset", *args, "--json"])
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    return said


async def test_a_version_goes_through_every_kind_of_file_and_comes_back_the_same(tmp_path: Path) -> None:
    """From the command line: a folder for the hub, and lines of each format that holds these rows whole."""
    async with running_api(tmp_path, *LOGS) as api, served(api) as environment:
        environment["XDG_STATE_HOME"] = str(tmp_path / "state")
        version = await published(api)
        await begun(api)
        hub = tmp_path / "hub"
        assert (await told(environment, "export", "math@v1", "--format", "hub", "--out", str(hub)))["rows"] == 3
        first = await told(environment, "import", "files", str(hub), "--licence", "mit")
        assert (first["imported"], first["failed"]) == (3, 0)
        assert {row.source for row in stored(api)} <= {"hub/train", "hub/test"}
        for name in ("openai", "sharegpt", "prompt_completion"):
            file = tmp_path / f"{name}.jsonl"
            exported = await told(environment, "export", "math@latest", "--format", name, "--out", str(file))
            assert (exported["rows"], exported["losses"], exported["digest"]) == (3, {}, version["digest"])
            again = await told(environment, "import", "files", str(file))
            assert (again["known"], again["formats"]) == (3, {name: 3})
        own = Path(version["manifest_url"]).parents[1] / "versions" / version["digest"]
        assert (await told(environment, "import", "files", str(own)))["known"] == 3
        copy = await api.client.post("/v1/datasets/files/versions", json={})
        assert (copy.json()["rows"], copy.json()["report"]["terms"]) == (3, {"mit": 3})
