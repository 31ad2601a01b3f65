"""The report and the samples: what a person reads of a run, and from where on rows are shown."""

from typing import Any

import msgspec
import pytest

from tunemill.schemas.run_report import SAMPLES
from tunemill.trainer.job import Order
from tunemill.trainer.question import Question
from tunemill.trainer.recipe import resolve
from tunemill.trainer.report import report
from tunemill.trainer.samples import AT_MOST, side_by_side
from tunemill.trainer.score import Answered, Scores, scores_of
from tunemill.trainer.verdict import verdict

ORDER = Order(
    run_id="run-1",
    attempt=1,
    project="default",
    name="tickets",
    version=3,
    digest="d" * 64,
    manifest_url="/files/m.json",
    recipe=resolve({"base": "/base"}),
)
QUESTION = Question(
    row=0,
    row_id="row-1",
    topic="words",
    messages=({"role": "user", "content": "ASKED"},),
    prompt=(1,),
    expected="EXPECTED",
    expected_tokens=1,
    calls=(),
)


def answered(text: str) -> Answered:
    return Answered(text, scores_of("EXPECTED", (), text, stopped=True, length_tokens=2))


def scores(loss: float, text: str) -> Scores:
    return Scores((10 * loss,) * 10, (10,) * 10, (5.0,) * 5, (5,) * 5, (answered(text),) * 10, (answered(text),) * 5)


@pytest.fixture
def result() -> dict[str, Any]:
    slices = [{"app": "shop|web" if i % 2 else "mail"} for i in range(10)]
    found = verdict(
        scores(2.0, "EXPECTED"),
        scores(1.0, "WRONG"),
        ORDER.recipe,
        slices=slices,
        row_topics=["words|verbs"] * 5,
        questions=[msgspec.structs.replace(QUESTION, topic="words|verbs")] * 5,
        counts={"train": 40, "dropped_overlong": 2},
    )
    return found.result


def written(result: dict[str, Any]) -> str:
    samples = side_by_side("held_out", [QUESTION] * 8, [answered("BEFORE")] * 8, [answered("AFTER\n# no heading")] * 8)
    return report(ORDER, "succeeded", result, samples=samples, trained=[("SEEN", "PIECES")])


def test_it_says_what_changed_what_was_lost_and_what_was_left_out(result: dict[str, Any]) -> None:
    lines = written(result).splitlines()

    assert "| loss, nats per trained token | 2.000 | 1.000 | -1.000 | -1.000 to -1.000 | 0.001 | 10 |" in lines
    assert "- 5 of 5 general questions that it could answer are lost, most of them words|verbs (5 of 5)." in lines
    assert "| words/verbs | 5 | 5 | 5 | 0 | 1.000 | 1.000 |" in lines
    assert "| app: shop/web | 5 | 2.000 | 1.000 | -1.000 to -1.000 |" in lines, "a value cannot break the table"
    assert "- dropped overlong: 2" in lines
    assert any(line.startswith("- exact_match: WARNING") for line in lines)


def test_the_judge_and_the_plan_are_told_where_there_are_any(result: dict[str, Any]) -> None:
    counts = {"wins": 5, "losses": 1, "ties": 2, "failed": 0, "rows": 8, "model": "judge-1"}
    settled = [{"name": "epochs", "value": 3.0, "reason": "40 rows to train on"}]
    more = written({**result, "judge": counts, "plan": {"derived": settled}})

    assert "5 better, 1 worse, 2 alike or disputed" in more
    assert "- epochs 3.0: 40 rows to train on" in more
    assert "## Judge" not in written(result)


def test_rows_are_shown_below_their_heading_only_and_as_they_are(result: dict[str, Any]) -> None:
    above, _, below = written(result).partition(f"\n{SAMPLES}\n")

    for text in ("EXPECTED", "BEFORE", "AFTER", "SEEN", "PIECES"):
        assert text not in above
        assert f"    {text}" in below
    assert "\n    # no heading" in below


def test_without_held_out_rows_it_says_so() -> None:
    empty = Scores((), (), (), (), (), ())
    nothing = verdict(empty, empty, ORDER.recipe, slices=[], row_topics=[], questions=[], counts={})

    assert "No held-out rows: nothing was measured." in written(nothing.result)


def test_samples_have_the_question_and_both_answers_with_their_scores() -> None:
    many = side_by_side("retention", [QUESTION] * 60, [answered("EXPECTED")] * 60, [answered("no")] * 60)

    assert len(many) == AT_MOST["retention"]
    assert many[0]["prompt"] == [{"role": "user", "content": "ASKED"}]
    assert (many[0]["of"], many[0]["row_id"], many[0]["expected"]) == ("retention", "row-1", "EXPECTED")
    assert (many[0]["scores"]["before"]["f1"], many[0]["scores"]["after"]["f1"]) == (1.0, 0.0)


def test_the_general_questions_that_were_lost_or_learned_are_shown_first() -> None:
    asked = [msgspec.structs.replace(QUESTION, accepted=(("Paris",),), row_id=f"row-{n}") for n in range(40)]
    before = [answered("Lyon" if n in (10, 30) else "Paris") for n in range(40)]
    after = [answered("Nice" if n in (10, 39) else "Paris") for n in range(40)]
    shown = side_by_side("retention", asked, before, after)

    assert [one["row_id"] for one in shown[:4]] == ["row-39", "row-30", "row-0", "row-1"]
    assert [one["answered"]["after"] for one in shown[:3]] == [False, True, True]
    assert side_by_side("held_out", asked, before, after)[0]["answered"] is None
