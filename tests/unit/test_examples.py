"""The sample logs: the generator and its files agree, and the sample holds what its README promises."""

import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tunemill.examples import generate
from tunemill.examples.tickets import PATIENT, URGENT, URGENT_FIRST
from tunemill.schemas.records import LogRecord
from tunemill.schemas.wire import decode_json

FILES = files("tunemill.examples")


def lines(name: str) -> list[str]:
    return (FILES / name).read_text(encoding="utf-8").splitlines()


def sample() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines("logs.jsonl")]


def app(log: dict[str, Any]) -> str:
    return log.get("app") or log["workload_id"]


def tickets() -> list[tuple[str, dict[str, str]]]:
    return [
        (log["messages"][-1]["content"], json.loads(log["output"][0]["content"]))
        for log in sample()
        if app(log) == "support-router"
    ]


def test_the_generator_writes_the_committed_files(tmp_path: Path) -> None:
    generate.main(tmp_path)
    for name in ("logs.jsonl", "repeats.jsonl", "bad.jsonl", "quiz.jsonl", "feedback.jsonl"):
        assert (tmp_path / name).read_bytes() == (FILES / name).read_bytes(), name


def test_the_readme_states_the_true_counts() -> None:
    table = dict(
        re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", (FILES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert {name: int(count) for name, count in table.items()} == Counter(map(app, sample()))
    assert len(lines("logs.jsonl")) == 903
    assert len((FILES / "logs.jsonl").read_bytes()) < 1_500_000


def test_every_tunemill_record_is_one() -> None:
    records = [decode_json(line.encode(), LogRecord) for line in lines("logs.jsonl") if '"log_id"' in line]
    assert len(records) > 600
    assert len({record.log_id for record in records}) == len(records)
    assert {record.consent for record in records} == {"train", "none", None}
    assert {record.status for record in records} == {"ok", "error"}
    assert "length" in {record.finish_reason for record in records}


def test_no_call_is_made_twice_but_for_the_repeats() -> None:
    written = lines("logs.jsonl")
    assert len(set(written)) == len(written)
    assert len(set(lines("repeats.jsonl"))) == 6
    assert set(lines("repeats.jsonl")) < set(written)


def test_no_two_tickets_are_alike_and_no_reference_comes_twice() -> None:
    assert len({text for text, _ in tickets()}) == 500
    assert len({answer["ref"] for _, answer in tickets()}) == 500


def test_the_quiz_calls_an_answer_wrong_where_it_is() -> None:
    calls = {(call := json.loads(line))["log_id"]: call for line in lines("quiz.jsonl")}
    verdicts = [json.loads(line) for line in lines("feedback.jsonl")]
    assert [one["log_id"] for one in verdicts] == list(calls)
    assert Counter((one["score"], "correction" in one) for one in verdicts) == {
        (1, False): 28,
        (0, True): 8,
        (0, False): 4,
    }
    for one in verdicts:
        given = calls[one["log_id"]]["output"][0]["content"]
        better = one.get("correction", "")
        assert given != better
        assert not better or given.rsplit("Answer:", 1)[0] == better.rsplit("Answer:", 1)[0]  # the same steps


def test_a_ticket_is_answered_by_its_words() -> None:
    for text, answer in tickets():
        assert answer["ref"] in text
        urgent = any(words in text for words in (*URGENT, *URGENT_FIRST))
        patient = any(words in text for words in PATIENT)
        assert answer["priority"] == ("high" if urgent else "low" if patient else "normal"), text


def test_teams_are_balanced() -> None:
    counts = Counter(answer["team"] for _, answer in tickets())
    assert len(counts) == 6
    assert min(counts.values()) >= 80


@pytest.mark.parametrize("kind", ["support-router", "maths-tutor", "code-helper", "translator", "assistant"])
def test_conversations_are_in_order(kind: str) -> None:
    def ts_ms(log: dict[str, Any]) -> int:
        return int(log.get("ts_ms") or 1000 * (log.get("timestamp") or log["response"]["created"]))

    times = [ts_ms(log) // 1000 for log in sample() if app(log) == kind]
    assert len(times) > 50
    assert times == sorted(times)
