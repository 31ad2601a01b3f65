"""`tunemill dataset import` and `export` against a server that says what it was sent."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli import export_hub, import_send
from tunemill.cli.app import app
from tunemill.curator_api.row_formats import FORMATS, read_line

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"what is\u2028{number} + 1?"},
            {"role": "assistant", "content": str(number + 1)},
        ]
    }
    for number in range(2_500)
]
VERSION = {
    "name": "s",
    "version": 1,
    "digest": "d" * 64,
    "rows": 2_500,
    "splits": {"train": 2_000, "test": 500},
    "shape": "chat",
    "report": {"matched": 2_600, "rows": 2_500, "excluded": {"consent": 100}},
    "draft": {"ingredients": [{"kind": "search", "query": "tag:topic:math"}]},
}


def lines(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


class Exports:
    """A server with one version. The first answers may be cut after some bytes."""

    def __init__(self, *cuts: tuple[int, threading.Event | None]) -> None:
        self.cuts = list(cuts)

    def __call__(self, asked: Asked) -> Answer:
        address = urlsplit(asked.path)
        params = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path in ("/v1/datasets/s/versions/v1", "/v1/datasets/s/versions/best"):
            return json_answer(VERSION)
        if address.path.endswith("/losses"):
            return json_answer({"rows": 2_500, "written": 2_500, "losses": {"names": 3}})
        assert (address.path, params["digest"]) == ("/v1/datasets/s/versions/1/export", "d" * 64)
        of_split = {"train": ROWS[:2_000], "test": ROWS[2_000:], None: ROWS}[params.get("split")]
        rest = lines(of_split[int(params.get("skip", 0)) :])
        sent, until = self.cuts.pop(0) if self.cuts else (None, None)
        return Answer(200, rest, "application/jsonl", sent, until)


def environment(server: Server, state: Path) -> dict[str, str]:
    return {"TUNEMILL_URL": server.url, "TUNEMILL_KEY": "sesame", "XDG_STATE_HOME": str(state), "COLUMNS": "200"}


def run(server: Server, state: Path, *args: str, stdin: bytes | None = None) -> Result:
    return CliRunner(env=environment(server, state)).invoke(app, ["dataset", *args], input=stdin)


def test_an_export_writes_a_whole_file_or_none_and_tells_losses(tmp_path: Path) -> None:
    out = tmp_path / "train.jsonl"
    with serving(lambda asked: json_answer({"title": "Not found"}, 404)) as server:
        assert run(server, tmp_path, "export", "s@v1", "-o", str(out)).exit_code == 1
    with serving(Exports()) as server:
        nowhere = run(server, tmp_path, "export", "s@v1", "-o", str(tmp_path / "no/folder"))
        assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (1, True)
        assert run(server, tmp_path, "export", "s@v1", "--split", "test").stdout_bytes == lines(ROWS[2_000:])
        piped = run(server, tmp_path, "export", "s@v1", "--split", "test", "--format", "alpaca")
        assert (piped.stdout_bytes, "3 rows: names" in piped.stderr) == (lines(ROWS[2_000:]), True)
        assert list(tmp_path.iterdir()) == []
        done = run(server, tmp_path, "export", "s@v1", "--format", "sharegpt", "--split", "train", "-o", str(out))
        asked = [urlsplit(one.path) for one in server.asked[-2:]]
    assert out.read_bytes() == lines(ROWS[:2_000])
    assert list(tmp_path.iterdir()) == [out]
    assert "2000 rows" in done.stdout and "3 rows: names" in done.stderr
    assert [parse_qs(one.query)["format"] for one in asked] == [["sharegpt"], ["sharegpt"]]


def test_an_export_that_is_killed_goes_on_and_is_byte_for_byte_the_same(tmp_path: Path) -> None:
    out, half, gone = tmp_path / "all.jsonl", len(lines(ROWS)) // 2, threading.Event()
    with serving(Exports((half, gone))) as server:
        command = [sys.executable, "-m", "tunemill.cli", "dataset", "export", "s@v1", "-o", str(out)]
        process = subprocess.Popen(command, env={**os.environ, **environment(server, tmp_path)})
        try:
            while not any(path.stat().st_size for path in tmp_path.glob("*.partial")):
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
            gone.set()
        assert not out.exists()
        (partial,) = tmp_path.glob("*.partial")
        assert 0 < partial.stat().st_size <= half
        assert run(server, tmp_path, "export", "s@v1", "-o", str(out)).exit_code == 0
        assert "skip" in server.asked[-1].path
    assert out.read_bytes() == lines(ROWS)
    assert list(tmp_path.iterdir()) == [out]


def test_another_formats_beginning_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    with serving(Exports((9_000, None))) as server:
        assert run(server, tmp_path, "export", "s@v1", "-o", str(out)).exit_code == 1
        assert run(server, tmp_path, "export", "s@v1", "--format", "alpaca", "-o", str(out)).exit_code == 0
        assert "skip" not in server.asked[-2].path


def test_a_folder_for_the_hub_holds_every_row_a_card_and_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_hub, "SHARD_BYTES", 2_000)
    monkeypatch.setattr(export_hub, "_ROWS_AT_ONCE", 300)
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    with serving(Exports()) as server:
        assert run(server, tmp_path, "export", "s@v1", "--format", "hub", "-o", str(whole)).exit_code == 0
    with serving(Exports((len(lines(ROWS[:1_000])), None))) as server:
        cut = run(server, tmp_path, "export", "s@v1", "--format", "hub", "-o", str(begun))
        assert (cut.exit_code, begun.exists()) == (1, False)
        assert list(tmp_path.glob("begun.*.partial/data/train-*.parquet")) != []
        assert run(server, tmp_path, "export", "s@v1", "--format", "hub", "-o", str(begun), "--json").exit_code == 0
        assert run(server, tmp_path, "export", "s@v1", "--format", "hub", "-o", str(begun)).exit_code == 0, "twice"
    files = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert {path.relative_to(begun): path.read_bytes() for path in begun.rglob("*") if path.is_file()} == files
    manifest = json.loads(files[Path("manifest.json")])
    assert len([one for one in manifest["files"] if one["split"] == "train"]) > 2
    assert sum(one["rows"] for one in manifest["files"]) == manifest["rows"] == 2_500
    stored = [row for one in manifest["files"] for row in pq.read_table(whole / one["path"]).to_pylist()]
    assert [[json.loads(text) for text in row["messages"]] for row in stored] == [row["messages"] for row in ROWS]
    assert "configs:" in files[Path("README.md")].decode()


def test_a_version_is_named_by_number_or_alias(tmp_path: Path) -> None:
    with serving(Exports()) as server:
        assert run(server, tmp_path, "export", "s@best").stdout_bytes == lines(ROWS)
        assert run(server, tmp_path, "export", "s").exit_code == 2


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with serving(Exports()) as server:
        done = run(server, tmp_path, "export", "s@v1", "--format", "hub", "-o", str(tmp_path / "out"))
    assert (done.exit_code, "something else" in done.stderr) == (1, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


class Imports:
    """A server that reads each line as the real one does, and may stop answering."""

    def __init__(self, *, answers: int = 99) -> None:
        self.answers = answers
        self.seen: list[tuple[int, Any]] = []  # the numbers and values of lines
        self.sources: list[str] = []
        self.held_out: list[bool] = []

    def __call__(self, asked: Asked) -> Answer:
        if not self.answers:
            return Answer(503)
        self.answers -= 1
        params = {name: values[0] for name, values in parse_qs(urlsplit(asked.path).query).items()}
        self.sources.append(f"{params.get('source')} {params.get('licence')}")
        self.held_out.append(params.get("held_out") == "true")
        taken, errors = 0, []
        for number, line in enumerate(asked.body.split(b"\n"), int(params["first_line"])):
            if line.strip():
                try:
                    read_line(line)
                    self.seen.append((number, json.loads(line)))
                    taken += 1
                except Exception:
                    errors.append({"line": number, "reason": "no row"})
                    if params["on_error"] == "stop":
                        break
        if not taken:
            return json_answer({"title": "Invalid row", "lines": len(errors), "errors": errors}, 422)
        counts = {"imported": taken, "known": 0, "failed": len(errors), "errors": errors}
        stopped = bool(errors) and params["on_error"] == "stop"
        return json_answer({**counts, "formats": {"openai": taken}, "unread": {"score": 1}, "stopped": stopped})


def test_an_import_goes_in_requests_and_goes_on_after_the_last_one_that_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_send, "_REQUEST_BYTES", 20_000)
    file, takes = tmp_path / "rows.jsonl", Imports(answers=3)
    file.write_bytes(lines(ROWS))
    with serving(takes) as server:
        assert run(server, tmp_path, "import", "d", str(file)).exit_code == 1
        before = len(takes.seen)
        assert 0 < before < 2_500
        takes.answers = 99
        done = run(server, tmp_path, "import", "d", str(file), "--json")
        assert run(server, tmp_path, "import", "d", str(file)).exit_code == 0, "all of it again: it is known by then"
    told = json.loads(done.stdout)
    assert (told["lines"], told["imported"]) == (2_500 - before, 2_500 - before)
    assert [number for number, _ in takes.seen[:2_500]] == list(range(1, 2_501))
    assert [value for _, value in takes.seen[:2_500]] == ROWS
    assert len(takes.seen) == 5_000
    assert set(takes.sources) == {"rows.jsonl None"}


@pytest.mark.parametrize("on_error", ["skip", "stop"])
def test_each_bad_line_is_told_with_its_file_and_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    monkeypatch.setattr("tunemill.cli.import_file.MAX_LINE_BYTES", 1_000)
    file, takes = tmp_path / "rows.jsonl", Imports()
    long = b"x" * 5_000 + b"\n"
    file.write_bytes(b"\n" + lines(ROWS[:2]) + long + b"\xff\n" + lines(ROWS[2:3]) + b'{"half')
    with serving(takes) as server:
        done = run(server, tmp_path, "import", "d", str(file), "--on-error", on_error, "--json")
    told = json.loads(done.stdout)
    named = [(error["file"], error["line"]) for error in told["errors"]]
    if on_error == "skip":
        assert sorted(named) == [(str(file), 4), (str(file), 5), (str(file), 7)]
        assert (done.exit_code, told["imported"], told["failed"]) == (0, 3, 3)
    else:
        assert (named, done.exit_code, told["stopped"]) == ([(str(file), 4)], 1, True)
        assert [number for number, _ in takes.seen] == [2, 3]


def test_requests_of_which_not_one_line_can_be_imported_do_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_send, "_REQUEST_LINES", 2)
    file, takes = tmp_path / "rows.jsonl", Imports()
    file.write_bytes(b"x\nx\n" + lines(ROWS[:1]) + b"x\nx\nx\n" + lines(ROWS[1:2]))
    with serving(takes) as server:
        done = run(server, tmp_path, "import", "d", str(file), "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["imported"], told["failed"], told["lines"]) == (0, 2, 5, 7)
    assert [error["line"] for error in told["errors"]] == [1, 2, 4, 5, 6]


def test_a_folder_of_the_hub_is_its_files_with_its_splits_and_its_licence(tmp_path: Path) -> None:
    folder, takes = tmp_path / "quiz", Imports()
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A quiz\n")
    (folder / "train.jsonl").write_bytes(lines(ROWS[:3]))
    (folder / "test.jsonl").write_bytes(lines(ROWS[3:5]))
    with serving(takes) as server:
        done = run(server, tmp_path, "import", "d", str(folder))
        assert run(server, tmp_path, "import", "d", str(folder), "--source", "q", "--licence", "own").exit_code == 0
    assert "5 lines, 5 imported" in done.stdout and "score 2" in done.stderr
    assert takes.sources == ["quiz/test mit", "quiz/train mit", "q/test own", "q/train own"]
    assert takes.held_out == [True, False, True, False]


def test_what_columns_are_called_and_what_is_held_out_is_said_to_the_server(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(lines(ROWS[:1]))
    takes, told = Imports(), ("--map", "q=prompt,a=completion", "--held-out")
    with serving(takes) as server:
        assert run(server, tmp_path, "import", "d", str(rows), *told).exit_code == 0
    assert parse_qs(urlsplit(server.asked[0].path).query)["map"] == ["q=prompt,a=completion"]
    assert takes.held_out == [True]


def test_standard_input_is_read_and_a_file_that_cannot_be_says_so(tmp_path: Path) -> None:
    takes = Imports()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with serving(takes) as server:
        assert run(server, tmp_path, "import", "d", "-", stdin=lines(ROWS[:1])).exit_code == 0
        for name, reason in (("torn.parquet", "cut off"), ("none.jsonl", "cannot be read")):
            done = run(server, tmp_path, "import", "d", str(tmp_path / name))
            assert (done.exit_code, reason in done.stderr) == (1, True)
    assert len(takes.seen) == 1


def test_what_the_hub_folder_is_made_from_holds_every_row_whole() -> None:
    assert FORMATS["openai"].LOSES == {}
