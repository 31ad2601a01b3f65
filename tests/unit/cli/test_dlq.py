"""The commands around dead letters, against a small server that answers as the API does."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from typer.testing import CliRunner, Result

from tunemill.cli.app import app


def letter(rejected_id: str, **more: Any) -> dict[str, Any]:
    known = {"ts_ms": 0, "topic": "llm.logs", "partition": 0, "offset": 1, "stage": "decode", "error_code": "not_json"}
    return (
        {"rejected_id": rejected_id, "reason": "no JSON", "payload_bytes": 7, "attempts": 2, "first_ts_ms": 1}
        | known
        | more
    )


class Letters:
    """A server's open letters, the newest first: what is sent again is gone, except that some hold nothing to send."""

    def __init__(self, *ids: str, empty: frozenset[str] = frozenset(), page: int = 1000) -> None:
        self.ids, self.empty, self.page = list(ids), empty, page
        self.times = {one: 1000 - place for place, one in enumerate(ids)}
        self.now, self.stays_broken, self.older = 1000, False, 0

    def __call__(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            until_ms = int(parse_qs(urlsplit(asked.path).query).get("until_ms", ["2000"])[0])
            found = sorted(self.ids, key=lambda one: -self.times[one])
            shown = [letter(one, ts_ms=self.times[one]) for one in found if self.times[one] <= until_ms]
            kinds = [{"stage": "decode", "error_code": "not_json", "count": len(shown)}]
            return json_answer(
                {"rejected": shown[: self.page], "total": len(shown), "counts": kinds, "older": self.older}
            )
        wanted = asked.json()["ids"]
        there = [one for one in wanted if one in self.ids]
        empty = sum(one in self.empty for one in there)
        if self.stays_broken:
            self.now += 1
            self.times |= dict.fromkeys(set(there) - self.empty, self.now)
        else:
            self.ids = [one for one in self.ids if one not in there or one in self.empty]
        return json_answer({"redriven": len(there) - empty, "no_payload": empty, "not_found": len(wanted) - len(there)})


def run(*args: str, server: Server) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, ["dlq", *args])


def test_letters_are_listed_with_how_often_and_how_many() -> None:
    with serving(Letters("llm.logs:0:1:0", "llm.logs:0:2:0")) as server:
        result = run("list", "--stage", "decode", "--code", "not_json", "--topic", "llm.logs", server=server)
        told = run("list", "--json", server=server)
    assert result.exit_code == 0
    assert server.asked[0].path == "/v1/rejected?limit=20&stage=decode&error_code=not_json&topic=llm.logs"
    assert "llm.logs:0:1:0" in result.stdout and "1970-01-01 00:00:00" in result.stdout and "no JSON" in result.stdout
    assert "2 decode not_json" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert json.loads(told.stdout)["total"] == 2


@pytest.mark.parametrize(("payload", "shown"), [("a\x1b[2Jb", "a\ufffd[2Jb"), (None, "payload: not kept")])
def test_a_letter_is_shown_and_its_text_moves_no_cursor(payload: str | None, shown: str) -> None:
    whole = letter("llm.logs:0:1:0", payload=payload, payload_encoding=payload and "text")
    with serving(lambda asked: json_answer(whole)) as server:
        result = run("show", "llm.logs:0:1:0", server=server)
    assert server.asked[0].path == "/v1/rejected/llm.logs%3A0%3A1%3A0"
    assert shown in result.stdout and "attempts: 2" in result.stdout


def test_named_letters_are_sent_again() -> None:
    with serving(Letters("a", "b", "c")) as server:
        result = run("redrive", "a", "c", "a", "--json", server=server)
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"redriven": 2, "no_payload": 0, "not_found": 0, "not_reached": 0},
    )
    assert server.asked[0].json() == {"ids": ["a", "c"]}


def test_all_of_a_kind_are_sent_again_some_at_a_time_and_each_is_tried_once() -> None:
    letters = Letters(*map(str, range(250)), empty=frozenset({"7"}))
    with serving(letters) as server:
        result = run("redrive", "--code", "not_json", server=server)
    assert letters.ids == ["7"]
    assert [len(asked.json()["ids"]) for asked in server.asked if asked.method == "POST"] == [100, 100, 50]
    assert server.asked[0].path == "/v1/rejected?limit=10000&error_code=not_json"
    assert "249 sent again" in result.stdout and "100 sent again" not in result.stdout
    assert (result.exit_code, "1 could not be sent" in result.stderr) == (1, True)


def test_all_are_reached_past_those_that_stay_and_those_that_are_rejected_again_and_none_is_sent_twice() -> None:
    letters = Letters(*map(str, range(250)), empty=frozenset(map(str, range(40))), page=20)
    letters.stays_broken = True
    with serving(letters) as server:
        result = run("redrive", "--all", "--json", server=server)
    assert json.loads(result.stdout) == {"redriven": 210, "no_payload": 40, "not_found": 0, "not_reached": 0}


def test_those_that_are_not_held_are_said() -> None:
    letters = Letters("a")
    letters.older = 3
    with serving(letters) as server:
        result = run("redrive", "--all", server=server)
    assert (result.exit_code, "3 older ones" in result.stderr) == (1, True)


def test_a_stage_that_there_is_not_is_refused() -> None:
    with serving(Letters("a")) as server:
        assert run("redrive", "--stage", "decod", server=server).exit_code == 2
        assert server.asked == []


def test_a_letter_that_is_not_there_is_said() -> None:
    with serving(Letters("a")) as server:
        result = run("redrive", "nowhere", server=server)
    assert (result.exit_code, "1 are not there" in result.stderr) == (1, True)


@pytest.mark.parametrize("args", [[], ["a", "--all"], ["--all", "--stage", "mask"]])
def test_what_to_send_again_is_said_in_one_way(args: list[str]) -> None:
    with serving(Letters("a")) as server:
        assert run("redrive", *args, server=server).exit_code == 2
        assert server.asked == []
