"""`tunemill ingest`: every kind of file, every kind of end, against a small server that answers as the API does, or onto a bus."""

import asyncio
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.bus.open import open_bus
from tunemill.cli.app import app
from tunemill.schemas.packing import split
from tunemill.schemas.topics import LOGS

GOOD = b'{"messages": [{"role": "user", "content": "hi"}]}'
STRANGE = b'{"strange": 1}'
GIANT = b'{"x":"' + b"x" * 100_000 + b'"}'


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def run(*args: str, server: Server | None = None, stdin: bytes | None = None) -> Result:
    where = {"TUNEMILL_URL": server.url if server else "http://127.0.0.1:9"}
    return CliRunner(env={**where, "TUNEMILL_KEY": "sesame", "COLUMNS": "200"}).invoke(
        app, ["ingest", *args], input=stdin
    )


def door(asked: Asked) -> Answer:
    """Takes lines, as the API does: refuses a body with one too large for any message, and names those it cannot read."""
    lines = asked.body.split(b"\n")
    if lines == [GIANT]:
        return json_answer({"title": "too large", "status": 413}, 413)
    strange = [at for at, line in enumerate(lines) if not line.startswith(b'{"messages"')]
    rejected = [{"item": at, "code": _code(lines[at]), "reason": "cannot be read"} for at in strange]
    return json_answer({"accepted": len(lines) - len(strange), "rejected": rejected}, 202)


def _code(line: bytes) -> str:
    return "too_large" if line == GIANT else "unknown_shape"


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


LINES = b"\n".join([GOOD] * 1200) + b"\n\n"
FILES = {
    "lines": LINES,
    "gzip": gzip.compress(LINES),
    "zstd": zstandard.compress(LINES),
    "array": b"[\n" + b",\n".join([GOOD] * 1200) + b"\n]",
    "array after a byte order mark": b"\xef\xbb\xbf[\r\n" + b",\r\n".join([GOOD] * 1200) + b"]",
    "lines after a byte order mark": b"\xef\xbb\xbf" + LINES,
    "array whose items are spread over lines": b"[" + b",\n".join([GOOD.replace(b", ", b",\r\n  ")] * 1200) + b"]",
    "array on one line": b"[" + b",".join([GOOD] * 1200) + b"]",
    "parquet": parquet([json.loads(GOOD)] * 1200),
    "parquet with JSON in a column": parquet([{"messages": json.dumps(json.loads(GOOD)["messages"])}] * 1200),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_record_is_sent_in_batches(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "logs"
    file.write_bytes(FILES[kind])
    with serving(door) as server:
        result = run(str(file), "--json", server=server)
    assert json.loads(result.stdout) == {
        "lines": 1200,
        "outcomes": {"accepted": 1200, "rejected": 0, "refused": 0},
        "reasons": {},
        "problems": [],
    }
    assert [len(asked.body.split(b"\n")) for asked in server.asked] == [500, 500, 200]
    assert json.loads(server.asked[0].body.split(b"\n")[0]) == json.loads(GOOD)


@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_one_object_may_be_spread_over_the_lines_of_a_file(tmp_path: Path, end: bytes) -> None:
    file = tmp_path / "log.json"
    file.write_bytes(json.dumps(json.loads(GOOD), indent=1).encode() + end)
    with serving(door) as server:
        told = json.loads(run(str(file), "--json", server=server).stdout)
    assert (told["lines"], [json.loads(asked.body) for asked in server.asked]) == (1, [json.loads(GOOD)])


@pytest.mark.parametrize("filler", [b"", b" " * 5 * 2**20])
def test_lines_after_one_that_is_broken_are_sent(tmp_path: Path, filler: bytes) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_bytes(b'{"broken\n' + filler + GOOD + b"\n\n" + GOOD + b"\n" + GOOD + b"\n")
    with serving(door) as server:
        told = json.loads(run(str(file), "--json", server=server).stdout)
    assert (told["outcomes"]["accepted"], [one["line"] for one in told["problems"]]) == (3, [1])


def test_what_became_of_each_record_is_counted_by_reason(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_bytes(b"\n".join([GOOD, GIANT, GOOD, b"no json", GOOD, STRANGE]))
    with serving(door) as server:
        result = run(str(file), "--json", server=server)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["outcomes"] == {"accepted": 3, "rejected": 2, "refused": 1}
    assert told["reasons"] == {"too_large": 1, "unknown_shape": 2}
    assert [(one["line"], one["outcome"]) for one in told["problems"]] == [
        (2, "refused"), (4, "rejected"), (6, "rejected"),
    ]  # fmt: skip


def test_a_request_that_is_refused_whole_is_sent_record_by_record(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_bytes(b"\n".join([GOOD, GIANT, GOOD]))

    def refuses(asked: Asked) -> Answer:
        return json_answer({"title": "too large"}, 413) if GIANT in asked.body else door(asked)

    with serving(refuses) as server:
        told = json.loads(run(str(file), "--json", server=server).stdout)
    assert told["outcomes"] == {"accepted": 2, "rejected": 0, "refused": 1}
    assert told["reasons"] == {"http_413": 1}
    assert [asked.body for asked in server.asked][1:] == [GOOD, GIANT, GOOD]


def test_standard_input_is_read_and_the_application_named() -> None:
    with serving(door) as server:
        result = run(
            "-", "--app", "shop", server=server, stdin=b'{"messages":[]}\n{"messages":[],"app":"own"}\n{"broken\n'
        )
    assert "3 records sent, 2 accepted, 1 rejected" in result.stdout
    lines = server.asked[0].body.split(b"\n")
    assert [json.loads(line)["app"] for line in lines[:2]] == ["shop", "own"]
    assert lines[2] == b'{"broken'


def test_a_record_of_another_format_than_the_named_one_is_sent_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_bytes(GOOD + b'\n{"request": {"messages": []}, "response": {}}\n')
    with serving(door) as server:
        told = json.loads(run(str(file), "--format", "tunemill_record", "--json", server=server).stdout)
    assert told["outcomes"] == {"accepted": 1, "rejected": 0, "refused": 1}
    assert told["reasons"] == {"other_format": 1}
    assert server.asked[0].body == GOOD


def test_a_format_that_there_is_not_names_those_that_there_are(tmp_path: Path) -> None:
    result = run(str(tmp_path), "--format", "csv")
    assert result.exit_code == 2
    assert "openai_pair" in result.stderr


def test_an_interrupted_file_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_bytes(b"\n".join(b'{"messages": [], "n": %d}' % number for number in range(1200)))
    answers = [door, lambda asked: json_answer({"title": "broken"}, 500)]

    def breaks(asked: Asked) -> Answer:
        return answers.pop(0)(asked)

    with serving(breaks) as server:
        first = run(str(file), server=server)
        answers += [door] * 3
        server.asked.clear()
        second = run(str(file), "--json", server=server)
        sent = [json.loads(line)["n"] for asked in server.asked for line in asked.body.split(b"\n")]
        server.asked.clear()
        answers += [door] * 3
        run(str(file), server=server)
    assert first.exit_code == 1
    assert "goes on after" in first.stderr
    assert json.loads(second.stdout)["lines"] == 700
    assert sent == list(range(500, 1200))
    assert len(server.asked) == 3, "a file that was sent whole is sent from its beginning"


def test_a_changed_file_is_another_file(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_bytes(b"\n".join([GOOD] * 600))
    answers = [door, lambda asked: json_answer({"title": "broken"}, 500), door, door]

    def breaks(asked: Asked) -> Answer:
        return answers.pop(0)(asked)

    with serving(breaks) as server:
        run(str(file), server=server)
        file.write_bytes(b"\n".join([GOOD] * 601))
        assert json.loads(run(str(file), "--json", server=server).stdout)["lines"] == 601


@pytest.mark.parametrize(
    "cut", [FILES["gzip"][:-20], FILES["zstd"][:-20], FILES["parquet"][:-20], FILES["array"][:-20]]
)
def test_a_file_that_is_cut_off_says_so(tmp_path: Path, cut: bytes) -> None:
    file = tmp_path / "logs"
    file.write_bytes(cut)
    with serving(door) as server:
        result = run(str(file), server=server)
    assert result.exit_code == 1
    assert "records: " in result.stderr


def test_no_file_says_so() -> None:
    assert "cannot be read" in run("/does/not/exist").stderr


async def test_straight_onto_a_bus(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    giant = b'{"x":"' + b"x" * LOGS.max_message_bytes + b'"}'
    file.write_bytes(b"\n".join([GOOD, STRANGE, giant, b"no json"]))
    url = f"sqlite:{tmp_path / 'bus.db'}"
    told = json.loads((await asyncio.to_thread(run, str(file), "--broker", url, "--json")).stdout)
    assert told["outcomes"] == {"accepted": 1, "rejected": 2, "refused": 1}
    assert told["reasons"] == {"too_large": 1, "unknown_shape": 1, "not_json": 1}
    bus = open_bus(url)
    lying = [item for message in await bus.tail(LOGS, limit=10) for item in split(message.value)]
    await bus.close()
    assert sorted(map(bytes, lying)) == sorted([GOOD, STRANGE, b"no json"])


def test_a_broker_that_is_none_says_what_one_looks_like() -> None:
    result = run("-", "--broker", "http://127.0.0.1:1", stdin=GOOD)
    assert result.exit_code == 1
    assert "kafka://host:port" in result.stderr


def test_the_formats_are_listed_with_what_they_are() -> None:
    listed = json.loads(CliRunner().invoke(app, ["formats", "--json"]).stdout)
    assert {"openai_pair", "tunemill_record", "flywheel"} <= {one["name"] for one in listed}
    assert all(one["about"] for one in listed)
