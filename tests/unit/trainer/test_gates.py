"""Scores and gates, as pure functions."""

from typing import Any

import pytest

from tunemill.trainer.gates import Gate, Measured, judge, rejected
from tunemill.trainer.recipe import Gates
from tunemill.trainer.score import exact_match, json_fields, json_valid

LIMITS = Gates(min_task_gain=0.0, retention_warn=0.05, retention_reject=0.20)


def measured_of(**what: Any) -> Measured:
    """A good result, but for what is said."""
    good = {"task_gain_lower_bound": 1.0, "task_rows": 20, "task_loss": "held-out loss, in nats per token,"}
    return Measured(**(good | {"retention_rise": 0.0, "exact_match_change": 0.1, "stop_rate_change": 0.0} | what))


@pytest.mark.parametrize(
    ("gain", "rise", "outcomes"),
    [
        (0.5, -0.1, ("pass", "pass")),
        (0.5, 0.10, ("pass", "warn")),
        (0.5, 0.21, ("pass", "reject")),
        (0.0, 0.00, ("reject", "pass")),
        (-0.2, 0.00, ("reject", "pass")),
        (None, None, ("warn", "warn")),
    ],
)
def test_gain_and_forgetting_decide(gain: float | None, rise: float | None, outcomes: tuple[str, str]) -> None:
    measured = measured_of(task_gain_lower_bound=gain, retention_rise=rise)

    gates = {gate.name: gate.outcome for gate in judge(measured, LIMITS)}

    assert (gates["task_gain"], gates["retention"]) == outcomes
    assert rejected(judge(measured, LIMITS)) == ("reject" in outcomes)


def test_fewer_answers_that_end_or_match_are_warned_of() -> None:
    measured = measured_of(exact_match_change=-0.1, stop_rate_change=-0.03)

    assert [gate.outcome for gate in judge(measured, LIMITS)] == ["pass", "pass", "warn", "warn"]


def test_a_gate_that_fails_says_what_to_change() -> None:
    measured = measured_of(
        task_gain_lower_bound=0.0, retention_rise=0.3, exact_match_change=-0.1, stop_rate_change=-0.1
    )

    says = {gate.name: gate.says for gate in judge(measured, LIMITS)}
    assert "learning_rate" in says["task_gain"]
    assert "replay_share" in says["retention"]
    assert "report" in says["exact_match"]
    assert "max_new_tokens" in says["stop_rate"]


def test_a_gain_on_a_few_rows_is_not_sure() -> None:
    def gain(**what: Any) -> Gate:
        return judge(measured_of(**what), LIMITS)[0]

    assert [gain(task_rows=rows).outcome for rows in (1, 4, 5)] == ["warn", "warn", "pass"]
    assert "on 1 row alone" in gain(task_rows=1).says
    assert gain(task_rows=1, task_gain_lower_bound=0.0).outcome == "reject"


def test_answers_are_compared_as_text_and_field_by_field() -> None:
    assert exact_match('{"a": 1}', ' {"a": 1}\n')
    assert json_fields('{"a": 1, "b": 2}', '{"b": 2, "a": 3}') == 0.5
    assert json_fields('{"a": true, "b": 1}', '{"a": 1, "b": 1}') == 0.5
    assert json_fields('{"a": 1}', "no JSON") == 0.0
    assert json_fields("plain text", '{"a": 1}') is None
    assert json_valid('{"a": 1}', "[1]") == 1.0
    assert json_valid('{"a": 1}', '{"a": ') == 0.0
    assert json_valid("plain text", "{}") is None
