"""What a run's result says of the scores before and after."""

import json
from typing import Any

import msgspec
import pytest

from tunemill.trainer.accepted import Accepted
from tunemill.trainer.forgetting import forgetting
from tunemill.trainer.question import Question
from tunemill.trainer.recipe import resolve
from tunemill.trainer.score import Answered, Scores, scores_of
from tunemill.trainer.verdict import Verdict, verdict

TOPICS = ["arithmetic"] * 12 + ["words"] * 12


def question(topic: str, accepted: Accepted | None = None) -> Question:
    """A general question."""
    said = {"messages": ({"role": "user", "content": "which?"},), "expected": "known", "accepted": accepted}
    return Question(row=0, row_id="", topic=topic, prompt=(1,), expected_tokens=1, calls=(), **said)


def scores(
    loss: float,
    answer: str,
    *,
    retention_loss: float = 1.0,
    retention: str = "known",
    wrong: frozenset[int] = frozenset(),
) -> Scores:
    """Twenty held-out rows of ten tokens, and two dozen retention rows of which some are answered wrongly."""

    def answered(expected: str, said: str) -> Answered:
        return Answered(said, scores_of(expected, (), said, stopped=True, length_tokens=3))

    return Scores(
        losses=tuple(10 * loss + i / 10 for i in range(20)),
        tokens=(10,) * 20,
        retention_losses=tuple(5 * retention_loss + i / 10 for i in range(24)),
        retention_tokens=(5,) * 24,
        answers=tuple(answered('{"team": "a"}', answer) for _ in range(20)),
        retention_answers=tuple(answered("known", "?" if i in wrong else retention) for i in range(24)),
    )


def judged(before: Scores, after: Scores, **knobs: Any) -> Verdict:
    recipe = resolve({"base": "/base", **knobs})
    halves = [{"language": "de" if i < 10 else "en"} for i in range(20)]
    asked = [question(topic) for topic in TOPICS]
    return verdict(before, after, recipe, slices=halves, row_topics=TOPICS, questions=asked, counts={})


def test_every_metric_has_its_rows_its_interval_and_its_p() -> None:
    found = judged(scores(2.0, "no"), scores(1.0, '{"team": "a"}')).result["metrics"]

    assert found["loss"]["unit"] == "nats per trained token"
    assert (found["loss"]["better"], found["exact_match"]["better"]) == ("less", "more")
    assert found["loss"]["change"] == pytest.approx(-1.0)
    assert (found["json_valid"]["before"], found["json_valid"]["after"]) == (0.0, 1.0)
    assert found["perplexity"]["change"] < 0
    assert "call_name" not in found, "no row expects a call"
    for metric in found.values():
        assert metric["rows"] == 20
        assert metric["low"] <= metric["change"] <= metric["high"]
        assert 0 < metric["p"] <= 1
    assert found["exact_match"]["p"] < 0.01 < found["length_tokens"]["p"]


def test_a_gain_is_judged_by_its_one_sided_bound() -> None:
    before, after = scores(2.0, "no"), scores(1.0, "no")
    uneven = msgspec.structs.replace(after, losses=tuple(loss + i % 5 for i, loss in enumerate(after.losses)))
    found = judged(before, uneven)

    loss, gate = found.result["metrics"]["loss"], found.gates[0]
    assert gate.name == "task_gain"
    assert gate.value is not None
    assert -loss["high"] < gate.value < -loss["change"], "less strict than the two-sided interval"


def test_what_was_lost_is_said_in_words_and_numbers() -> None:
    after = scores(1.0, "no", retention_loss=1.1, wrong=frozenset({0, 1, 2, 3, 12}))
    found = judged(scores(2.0, "no"), after)

    assert found.status == "succeeded"
    assert found.result["forgetting"]["says"] == [
        "The loss on 24 general rows rose: +0.100 nats per token (95 % interval +0.100 to +0.100).",
        "5 of 24 general questions that it could answer are lost, most of them arithmetic (4 of 12).",
    ]
    topics = {topic["topic"]: topic for topic in found.result["forgetting"]["by_topic"]}
    assert (topics["words"]["rows"], topics["words"]["could"], topics["words"]["lost"]) == (12, 12, 1)
    assert (topics["arithmetic"]["could_not"], topics["arithmetic"]["learned"]) == (0, 0)
    assert found.result["forgetting"]["answered"]["change"] == pytest.approx(-5 / 24)
    assert topics["words"]["loss_after"] - topics["words"]["loss_before"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("known", "known", "Of 24 general questions that it could answer none is lost."),
        ("other", "other", "None of 24 general questions could be answered before: of forgetting only the loss tells."),
    ],
)
def test_nothing_lost_is_said_too(before: str, after: str, says: str) -> None:
    found = judged(scores(2.0, "no", retention=before), scores(1.0, "no", retention=after))

    assert found.result["forgetting"]["says"][-1] == says


def answering(before: list[str], after: list[str], asked: list[Question]) -> dict[str, Any]:
    """What is said of forgetting where these questions are answered so."""

    def answered(texts: list[str]) -> Scores:
        given = [Answered(said, scores_of("known", (), said, stopped=True, length_tokens=3)) for said in texts]
        return Scores((), (), (1.0,) * len(given), (1,) * len(given), (), tuple(given))

    topics = [one.topic for one in asked]
    found = forgetting(answered(before), answered(after), row_topics=topics, questions=asked, seed=0)
    return {**msgspec.to_builtins(found), "topics": {one.topic: one for one in found.by_topic}}


def test_a_question_with_accepted_answers_is_answered_by_its_fact() -> None:
    paris = (("Paris",),)
    asked = [question("geography", paris)] * 6 + [question("writing", ())] * 5
    before = ["It is Paris, I think.", "Paris", "Paris!", "Lyon", "known", "Rome", *["free"] * 5]
    after = ["Paris", "It is Lyon, I think.", '{"city": "Lyon"}', "Paris", "the city of Paris", "Nice", *["x"] * 5]
    found = answering(before, after, asked)

    assert (found["rows"], found["open_rows"], found["could"]) == (11, 5, 3)
    assert (found["lost_rows"], found["learned_rows"]) == (2, 2)
    assert found["says"][1:] == [
        "2 of 3 general questions that it could answer are lost, most of them geography (2 of 3).",
        "2 of 3 that it could not answer are learned, most of them geography (2 of 3).",
    ]
    assert (found["answered"]["rows"], found["answered"]["change"]) == (6, 0.0)
    assert (found["topics"]["writing"].could, found["topics"]["writing"].lost) == (0, 0)
    assert found["f1"]["rows"] == 11


def test_without_accepted_answers_what_is_learned_is_known_by_words() -> None:
    before = ["known", "known", "known", "x known y", "x", "x known y z", "x"]  # of F1 1, 0.5, 0.4 and 0
    after = ["x", "x known y", "known y", "known", "known", "known y", "y"]
    found = answering(before, after, [question("words")] * 7)

    assert (found["could"], found["lost_rows"], found["learned_rows"], found["open_rows"]) == (4, 2, 1, 0)


def test_the_largest_twelve_topics_stand_by_themselves() -> None:
    asked = [question(f"topic {n:02}", (("Paris",),)) for n in range(30) for _ in range(5 if n < 14 else 1)]
    found = answering(["Paris"] * len(asked), ["Lyon"] * len(asked), asked)

    assert [topic["topic"] for topic in found["by_topic"]] == [*(f"topic {n:02}" for n in range(12)), "(others)"]
    assert (found["topics"]["(others)"].rows, found["topics"]["(others)"].lost) == (26, 26)
    assert sum(topic["lost"] for topic in found["by_topic"]) == found["lost_rows"] == 86
    few = answering(["Paris"] * len(asked), ["Paris"] * 60 + ["Lyon"] * 26, asked)
    assert few["says"][1] == "26 of 86 general questions that it could answer are lost."


def test_a_gain_of_preference_is_said_as_such() -> None:
    before, after = scores(2.0, "no"), scores(1.0, "no")
    before, after = (
        msgspec.structs.replace(one, margins=(margin,) * 20) for one, margin in ((before, 0.0), (after, 5.0))
    )

    gate = judged(before, after, objective="dpo").gates[0]
    assert "preference loss, in nats per pair," in gate.says
    assert "held-out loss, in nats per token," in judged(scores(2.0, "no"), scores(1.0, "no")).gates[0].says


def test_losses_beyond_what_can_be_a_perplexity_are_still_told() -> None:
    found = judged(scores(2.0, "no"), scores(5_000.0, "no"))

    assert found.status == "rejected"
    assert found.result["after"]["perplexity"] > 1e300
    assert None not in msgspec.json.decode(msgspec.json.encode(found.result["metrics"]["perplexity"])).values()


def test_without_retention_rows_it_says_so() -> None:
    empty = Scores((), (), (), (), (), ())
    found = verdict(empty, empty, resolve({"base": "/base"}), slices=[], row_topics=[], questions=[], counts={})

    assert found.result["forgetting"]["says"] == ["No retention rows: forgetting was not measured."]
    assert found.result["metrics"] == {}
    assert found.status == "succeeded"


def test_a_slice_that_surely_became_worse_rejects_where_a_limit_is_set() -> None:
    before, after = scores(2.0, "no"), scores(1.0, "no")
    worse = [after.losses[i] if i < 10 else before.losses[i] + 5.0 for i in range(20)]  # English rises by 0.5
    after = msgspec.structs.replace(after, losses=tuple(worse))

    def outcome(**gates: Any) -> dict[str, str]:
        return {gate.name: gate.outcome for gate in judged(before, after, gates=gates).gates}

    assert "no_slice_worse_than" not in outcome()
    assert outcome(no_slice_worse_than=0.2, slice_rows=10)["no_slice_worse_than"] == "reject"
    assert outcome(no_slice_worse_than=0.6, slice_rows=10)["no_slice_worse_than"] == "pass"
    assert outcome(no_slice_worse_than=0.2, slice_rows=11)["no_slice_worse_than"] == "warn", "too few rows to judge"


def test_no_text_of_a_row_is_in_the_result() -> None:
    found = judged(scores(2.0, "PRIVATE"), scores(1.0, "PRIVATE", retention="PRIVATE"))

    assert "PRIVATE" not in json.dumps(found.result)
    assert "known" not in json.dumps(found.result["metrics"] | {"by_topic": found.result["forgetting"]["by_topic"]})
