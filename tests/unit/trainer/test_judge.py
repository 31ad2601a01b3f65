"""The judge: asked in both orders, heard where they agree, and harmless where it fails."""

import itertools
import json
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving

from tunemill.trainer.judge import KEY, MODEL, URL, Judge, configured, judge_answers
from tunemill.trainer.question import Question
from tunemill.trainer.score import Answered, scores_of

SECRET = "sk-secret"


def shown(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked.json()["messages"][1]["content"])
    return found


def says(better: str, **more: Any) -> Answer:
    return json_answer({"choices": [{"message": {"content": f'{{"better": "{better}"}}'}}], **more})


def by_text(asked: Asked) -> Answer:
    """A judge that knows good from bad, prefers the first place where it does not, and breaks on some."""
    answers = shown(asked)
    if "crash" in answers.values():
        return Answer(500)
    if "mumble" in answers.values():
        return json_answer({"choices": [{"message": {"content": "Well..."}}]})
    return says(next((place for place in "AB" if answers[place] == "good"), "A"))


def judged(
    server: Server, pairs: list[tuple[str, str]], rows: int = 10, key: str = SECRET, waits: list[float] | None = None
) -> dict[str, Any]:
    def answered(text: str) -> Answered:
        return Answered(text, scores_of("good", (), text, stopped=True, length_tokens=1))

    question = Question(
        row=0,
        row_id="r",
        topic="",
        messages=({"role": "user", "content": "q"},),
        prompt=(1,),
        expected="good",
        expected_tokens=1,
        calls=(),
    )
    before, after = ([answered(text) for text in side] for side in zip(*pairs, strict=True))
    judge, sleep = Judge(f"{server.url}/v1", "judge-1", key), (waits if waits is not None else []).append
    return judge_answers(judge, [question] * len(pairs), before, after, rows=rows, sleep=sleep)


def test_each_pair_is_judged_in_both_orders_and_a_place_wins_nothing() -> None:
    pairs = [("bad", "good"), ("good", "bad"), ("same", "same"), ("bad", "good")]
    with serving(by_text) as server:
        found = judged(server, pairs)

    assert (found["wins"], found["losses"], found["ties"], found["failed"], found["rows"]) == (2, 1, 1, 0, 4)
    asked = [(shown(one)["A"], shown(one)["B"]) for one in server.asked]
    assert sorted(asked) == sorted([*pairs, *[(b, a) for a, b in pairs]])
    assert {one.path for one in server.asked} == {"/v1/chat/completions"}
    assert {one.headers["authorization"] for one in server.asked} == {f"Bearer {SECRET}"}
    assert (found["models_named"], len(found["prompt_sha256"])) == ([], 64)


def test_what_fails_is_counted_by_its_cause_and_shows_no_text_and_no_key() -> None:
    with serving(by_text) as server:
        found = judged(server, [("bad", "crash"), ("bad", "mumble"), ("bad", "good")])

    assert found["failures"] == {"http_500": 1, "unreadable": 1}
    assert (found["retried"], len(server.asked)) == (1, 5), "an error is tried again, once; what it says is not"
    assert (found["failed"], found["wins"]) == (2, 1)
    assert SECRET not in json.dumps(found)
    assert "mumble" not in json.dumps(found)


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        (["judge-1-june"], ["judge-1-june"]),
        (["judge-1-june", "org/judge:1@july"], ["judge-1-june", "org/judge:1@july"]),  # an alias was moved meanwhile
        ([None, ["x"], "", "some words", "\ud800", "x\0", "y" * 201], []),
        ([f"m{i:02}" for i in range(10)], [f"m{i:02}" for i in range(8)]),
    ],
)
def test_the_models_that_replies_name_stand_beside_the_one_that_was_asked_for(
    named: list[Any], kept: list[str]
) -> None:
    replies = itertools.cycle(named)
    with serving(lambda _: says("A", model=next(replies))) as server:
        found = judged(server, [("a", "b")] * 10)

    assert (found["model"], found["models_named"]) == ("judge-1", kept)
    assert (found["ties"], found["failed"]) == (10, 0)


def test_a_judge_that_is_gone_harms_nothing() -> None:
    with serving(by_text) as server:
        pass

    assert judged(server, [("bad", "good")])["failures"] == {"ConnectError": 1}
    assert judged(Server("http://judge:port"), [("bad", "good")])["failures"] == {"InvalidURL": 1}
    assert judged(Server("judge.example"), [("bad", "good")])["failures"] == {"UnsupportedProtocol": 1}


@pytest.mark.parametrize(
    ("status", "retry_after", "waited"),
    [(503, None, [2.0]), (429, "0.5", [0.5]), (429, "3600", [30.0]), (500, "tomorrow", [2.0]), (401, "1", [])],
)
def test_a_judge_that_is_busy_is_asked_once_more(status: int, retry_after: str | None, waited: list[float]) -> None:
    asked: list[Asked] = []
    headers = {"Retry-After": retry_after} if retry_after else {}

    def busy_at_first(one: Asked) -> Answer:
        asked.append(one)
        return Answer(status, headers=headers) if len(asked) == 1 else by_text(one)

    waits: list[float] = []
    with serving(busy_at_first) as server:
        found = judged(server, [("bad", "good")], waits=waits)

    assert waits == waited
    assert (found["wins"], found["retried"]) == ((1, 1) if waited else (0, 0))
    assert found["failures"] == ({} if waited else {f"http_{status}": 1})


def test_a_connection_that_breaks_is_tried_again() -> None:
    asked: list[Asked] = []

    def cut_at_first(one: Asked) -> Answer:
        asked.append(one)
        return Answer(200, b"{" * 9, sent=3) if len(asked) == 1 else by_text(one)

    with serving(cut_at_first) as server:
        assert judged(server, [("bad", "good")])["wins"] == 1


def test_a_judge_that_only_fails_is_not_asked_about_every_row() -> None:
    with serving(by_text) as server:
        found = judged(server, [("bad", "crash")] * 12, rows=12)
        heard = judged(server, [("bad", "good"), *[("bad", "crash")] * 11], rows=12)

    assert found["failures"] == {"http_500": 8, "not_asked": 4}
    assert (found["failed"], found["rows"]) == (12, 12)
    assert heard["failures"] == {"http_500": 11}


def test_no_more_rows_are_sent_than_the_recipe_says() -> None:
    with serving(by_text) as server:
        assert judged(server, [("bad", "good")] * 5, rows=2)["rows"] == 2

    assert len(server.asked) == 4


@pytest.mark.parametrize("environment", [{}, {URL: "http://judge"}, {MODEL: "judge-1"}, {KEY: SECRET}])
def test_it_is_off_unless_the_trainer_s_environment_names_address_and_model(environment: dict[str, str]) -> None:
    assert configured(environment) is None


def test_the_key_is_not_printed() -> None:
    judge = configured({URL: "http://judge/v1/", MODEL: "judge-1", KEY: SECRET})

    assert judge == Judge("http://judge/v1", "judge-1", SECRET)
    assert SECRET not in repr(judge)
    assert SECRET not in f"{judge}"
