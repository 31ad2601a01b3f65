"""`tunemill feedback` against a small server that answers as the API does."""

import json
from pathlib import Path

from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli.app import app


def run(server: Server, *args: str) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, ["feedback", *args])


def all_but_the_second(asked: Asked) -> Answer:
    items = asked.body.splitlines()
    rejected = [{"item": 1, "code": "invalid", "reason": "name: Field required"}] if b"wrong" in asked.body else []
    return json_answer({"accepted": len(items) - len(rejected), "feedback_ids": [], "rejected": rejected}, 202)


def test_a_file_is_sent_a_thousand_records_at_once(tmp_path: Path) -> None:
    lines = [json.dumps({"log_id": f"l{at}", "name": "ok", "score": 1}) for at in range(1_001)]
    (tmp_path / "said.jsonl").write_text("\n".join(lines))
    with serving(all_but_the_second) as server:
        result = run(server, str(tmp_path / "said.jsonl"))
    assert (result.exit_code, result.stdout) == (0, "1001 accepted, 0 rejected\n")
    assert [asked.body.decode().splitlines() for asked in server.asked] == [lines[:1000], lines[1000:]]
    assert {asked.path for asked in server.asked} == {"/v1/feedback"}


def test_what_is_rejected_is_named_by_its_line_and_the_exit_code_says_so(tmp_path: Path) -> None:
    (tmp_path / "said.jsonl").write_text('{"name": "ok"}\n\n{"name": "wrong"}\n')
    with serving(all_but_the_second) as server:
        result = run(server, str(tmp_path / "said.jsonl"))
        counts = json.loads(run(server, str(tmp_path / "said.jsonl"), "--json").stdout)
    assert (result.exit_code, result.stdout) == (1, "1 accepted, 1 rejected\n")
    assert "record 3: name: Field required" in result.stderr
    assert counts == {"accepted": 1, "rejected": [{"record": 3, "reason": "name: Field required"}]}


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with serving(all_but_the_second) as server:
        result = run(server, str(tmp_path / "none.jsonl"))
    assert result.exit_code == 2
    assert "none.jsonl cannot be read: No such file" in result.stderr
