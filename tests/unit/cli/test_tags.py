"""The commands around learned tags, against a small server that answers as the API does."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli.app import app

TAG = "topic:refund"


def share(value: float, of: int) -> dict[str, Any]:
    return {"share": value, "low": value - 0.1, "high": value + 0.05, "of": of}


def learned(**more: Any) -> dict[str, Any]:
    held_out = {
        "tp": 45, "fp": 2, "fn": 5, "tn": 58, "precision": share(0.957, 47), "recall": share(0.9, 50),
        "false_alarms": share(0.033, 60),
    }  # fmt: skip
    report = {
        "yes": 50, "no": 60, "conversations": 97, "wanted_precision": 0.9, "threshold_by": "precision", "held_out": held_out,
        "curve": [{"threshold": 0.4, "precision": 0.95, "recall": 0.9, "tagged": 47}],
        "words_for": [{"part": "user", "word": "ref\x1b[2Jund", "weight": 2.5},
                      {"part": "assistant", "word": "sorry", "weight": 1.0}],
        "words_against": [{"part": "user", "word": "address", "weight": -1.5}],
    }  # fmt: skip
    known = {
        "tag": TAG,
        "version": 3,
        "in_force": None,
        "threshold": 0.41,
        "report": report,
        "by": "person:x",
        "created_ms": 0,
    }
    return known | more


class Tags:
    """A server that knows one learned tag, and some of the logs that it is asked to label."""

    def __init__(self, known: dict[str, Any] | None = None, *, there: frozenset[str] = frozenset({"a", "b"})) -> None:
        self.known, self.there = known or learned(), there

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/v1/labels":
            ids = [one["log_id"] for one in asked.json()["labels"]]
            missing = [log_id for log_id in ids if log_id not in self.there]
            return json_answer({"labelled": len(ids) - len(missing), "missing": missing})
        if asked.path.endswith("/dry-run"):
            effect = {"added": {"count": 7, "log_ids": ["x", "y"]}, "removed": {"count": 0, "log_ids": []}}
            return json_answer(
                {"version": 3, "looked_at": 500, "effect": effect | {"kept": {"count": 50, "log_ids": []}}}
            )
        if asked.path.endswith(("/enable", "/disable")):
            return json_answer({"tag": TAG, "in_force": 3 if asked.path.endswith("/enable") else None, "revision": 9})
        if asked.path == "/v1/learned-tags" and asked.method == "GET":
            return json_answer({"learned_tags": [self.known]})
        return json_answer(self.known | {"missing": 1, "left_out": 0})


def run(*args: str, server: Server, stdin: bytes | None = None) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, ["tags", *args], input=stdin)


def test_labels_are_sent_in_parts_and_what_is_not_there_is_said() -> None:
    lines = (
        b"".join(b'{"log_id": "%s", "label": %s}\n' % (b"abc"[n % 3 : n % 3 + 1], b"true") for n in range(201)) + b"\n"
    )
    with serving(Tags()) as server:
        result = run("label", TAG, "-", server=server, stdin=lines)
    assert result.exit_code == 0
    sent = [asked.json()["labels"] for asked in server.asked]
    assert [len(one) for one in sent] == [200, 1]
    assert sent[0][0] == {"log_id": "a", "tag": TAG, "label": True}
    assert "134 logs labelled" in result.stdout
    assert "67 logs are not there or were erased: c, c" in result.stderr


def test_labels_of_no_log_that_is_there_are_an_error() -> None:
    with serving(Tags()) as server:
        assert run("label", TAG, "-", server=server, stdin=b'{"log_id": "c", "label": true}').exit_code == 1


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"log_id": 1, "label": true}',
        '{"log_id": "a", "label": "yes"}',
        '{"label": true}',
        '{"log_id": "a", "label": true, "tag": "topic:other"}',
    ],
)
def test_a_line_that_is_no_label_is_named_and_nothing_is_sent(line: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"log_id": "a", "label": true}\n' + line)
    with serving(Tags()) as server:
        result = run("label", TAG, str(file), server=server)
        missing = run("label", TAG, str(tmp_path / "none"), server=server)
    assert (result.exit_code, missing.exit_code, server.asked) == (2, 2, [])
    assert "line 2: expected" in result.stderr
    assert "cannot be read" in missing.stderr


def test_what_was_learned_is_shown_with_its_doubts(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"log_id": "a", "label": true}\n')
    with serving(Tags()) as server:
        result = run("learn", TAG, "--labels", str(file), "--precision", "0.9", server=server)
    assert [asked.path for asked in server.asked] == ["/v1/labels", "/v1/learned-tags"]
    assert server.asked[1].json() == {"tag": TAG, "precision": 0.9}
    assert "1 labelled logs are not there any more" in result.stderr
    for told in (
        "version 3: learned from 50 logs that have it and 60 that do not, of 97 conversations",
        "threshold 0.41, for the best recall at a precision of 0.9",
        "precision 0.957 (0.86 to 1.01): 45 of 47",
        "recall 0.900 (0.80 to 0.95): 45 of 50",
        "false alarms 0.033 (-0.07 to 0.08): 2 of 60",
        "words for it: ref\ufffd[2Jund +2.5, sorry +1.0 (assistant)",
        "words against it: address -1.5",
        f"`tunemill tags enable {TAG}` puts it in force",
    ):
        assert told in result.stdout
    assert "less precise" not in result.stderr


@pytest.mark.parametrize("precision", [None, share(0.7, 10)])
def test_a_tag_that_is_less_precise_than_wanted_is_said_to_be(precision: dict[str, Any] | None) -> None:
    poor = learned(in_force=2)
    poor["report"]["held_out"]["precision"] = precision
    poor["report"]["threshold_by"] = "f1"
    with serving(Tags(poor)) as server:
        result = run("evaluate", TAG, server=server)
    assert "for the best F1" in result.stdout
    assert "it is less precise than 0.9" in result.stderr
    assert "version 2 is in force" in result.stdout


def test_a_learned_tag_is_tried_on_stored_logs() -> None:
    with serving(Tags()) as server:
        result = run("evaluate", TAG, "--query", "app:shop", "--limit", "500", "--version", "3", server=server)
        told = run("evaluate", TAG, "--json", server=server)
    assert server.asked[0].path == "/v1/learned-tags/topic%3Arefund?version=3"
    assert server.asked[1].json() == {"query": "app:shop", "limit": 500, "version": 3}
    assert "of 500 stored logs 7 would get the tag, 0 would lose it, 50 keep it" in result.stdout
    assert "would get it: x, y" in result.stdout
    whole = json.loads(told.stdout)
    assert (whole["version"], whole["dry_run"]["looked_at"]) == (3, 500)


def test_it_is_put_in_force_and_taken_out_with_a_word_on_history() -> None:
    with serving(Tags()) as server:
        enabled = run("enable", TAG, server=server)
        older = run("enable", TAG, "--version", "2", "--json", server=server)
        disabled = run("disable", TAG, server=server)
    assert [asked.json() for asked in server.asked] == [{}, {"version": 2}, {}]
    assert f"{TAG} version 3 is in force. `tunemill rules backfill`" in enabled.stdout
    assert json.loads(older.stdout) == {"tag": TAG, "in_force": 3, "revision": 9}
    assert "is not set any more" in disabled.stdout


def test_learned_tags_are_listed() -> None:
    with serving(Tags(learned(in_force=2))) as server:
        result = run("list", server=server)
    assert result.stdout.splitlines()[1].split() == [TAG, "3", "2", "50", "60", "0.957", "0.9"]
