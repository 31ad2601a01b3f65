"""A model is measured a batch at a time: what was answered is not asked again, and no logits stay behind."""

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from fakes.tiny_model import chat, publish_dataset, tickets

from tunemill.trainer import answers as answers_module
from tunemill.trainer import evaluate as evaluate_module
from tunemill.trainer.dataset import Dataset, open_dataset
from tunemill.trainer.errors import Diverged
from tunemill.trainer.evaluate import evaluate, measured_rows
from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.mix import base_answers
from tunemill.trainer.model import load_model
from tunemill.trainer.prepare import Prepared, prepare, render_all
from tunemill.trainer.question import questions
from tunemill.trainer.recipe import Recipe, VersionRows, resolve
from tunemill.trainer.render import IGNORE, render
from tunemill.trainer.score import Scores


@pytest.fixture(scope="module")
def recipe(tiny_base: Path) -> Recipe:
    knobs = {"eval_generate_rows": 12, "max_new_tokens": 12, "precision": "fp32", "replay_answers": "base"}
    return resolve({"base": str(tiny_base), "tokens_per_forward": 128, "max_length_tokens": 256, **knobs})


@pytest.fixture(scope="module")
def model(recipe: Recipe, tiny_base: Path) -> Any:
    return load_model(recipe, tiny_base)


@pytest.fixture(scope="module")
def prepared(recipe: Recipe, tokenizer: Any) -> Prepared:
    train, test = ([{**row, "row_id": str(i)} for i, row in enumerate(rows)] for rows in (tickets(60), tickets(30)))
    return prepare(render_all(Dataset(train, test), recipe, tokenizer), recipe, tokenizer)


def measured(model: Any, tokenizer: Any, prepared: Prepared, recipe: Recipe, kept: Path | None = None) -> Scores:
    return evaluate(
        model,
        tokenizer,
        prepared.held_out,
        asked=prepared.asked,
        retention=prepared.retention,
        asked_retention=prepared.asked_retention,
        recipe=recipe,
        packed=True,
        autocast=None,
        kept=kept,
    )


def test_an_evaluation_that_was_killed_asks_only_what_is_left(
    model: Any, tokenizer: Any, prepared: Prepared, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "_TOKENS_PER_BATCH", 200)
    kept, whole = tmp_path / "answers.jsonl", measured(model, tokenizer, prepared, recipe)
    asked: list[int] = []
    generate = model.generate

    def dies_at_third(**given: Any) -> Any:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(len(given["input_ids"]))
        return generate(**given)

    monkeypatch.setattr(model, "generate", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        measured(model, tokenizer, prepared, recipe, kept)
    kept.write_bytes(kept.read_bytes() + b'{"prompt": "torn')
    monkeypatch.setattr(model, "generate", lambda **given: asked.append(len(given["input_ids"])) or generate(**given))
    again = measured(model, tokenizer, prepared, recipe, kept)

    assert sum(asked) == 24, "twelve of each set, each once"
    assert (again.answers, again.retention_answers, again.losses) == (
        whole.answers,
        whole.retention_answers,
        whole.losses,
    )
    assert all(json.loads(line) for line in kept.read_bytes().splitlines()), "the torn line is gone"
    assert measured(model, tokenizer, prepared, recipe, kept).answers == whole.answers
    assert sum(asked) == 24


def test_a_row_of_several_examples_is_measured_as_one(
    model: Any, tokenizer: Any, prepared: Prepared, recipe: Recipe
) -> None:
    first, second, third = prepared.held_out[:3]
    apart = replace(prepared, held_out=[first, second, third], asked=[], asked_retention=[], retention=[])
    together = replace(apart, held_out=[first, replace(second, row=third.row), third])

    losses = measured(model, tokenizer, apart, recipe).losses
    found = measured(model, tokenizer, together, recipe)

    assert found.losses == pytest.approx((losses[0], losses[1] + losses[2]))
    assert found.tokens == (trained_tokens(first), trained_tokens(second) + trained_tokens(third))
    assert measured_rows(together.held_out) == [first.row, third.row]


def test_a_loss_that_is_no_number_ends_the_run(
    model: Any, tokenizer: Any, prepared: Prepared, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, "token_losses", lambda _model, batch, _: torch.full_like(batch.rows, 0) / 0.0)

    with pytest.raises(Diverged, match="no finite number"):
        measured(model, tokenizer, prepared, recipe)


def test_the_thought_that_a_template_begins_with_is_no_part_of_an_answer(
    model: Any, tokenizer: Any, prepared: Prepared, recipe: Recipe
) -> None:
    plain = measured(model, tokenizer, prepared, recipe)
    lead = plain.answers[0].text[:2]
    asked = [msgspec.structs.replace(question, lead=lead) for question in prepared.asked]

    found = measured(model, tokenizer, replace(prepared, asked=asked), recipe)

    assert lead
    assert found.answers[0].text == plain.answers[0].text[2:]


def test_no_logits_stay_behind(model: Any, tokenizer: Any, prepared: Prepared, recipe: Recipe) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def look(_module: Any, _inputs: Any, output: Any) -> None:
        alive.append(sum(one() is not None for one in seen))
        seen.append(weakref.ref(output.logits))

    base = model.get_base_model()
    hook = base.register_forward_hook(look)
    measured(model, tokenizer, prepared, recipe)
    hook.remove()

    assert len(alive) > 20
    assert max(alive) <= 1, "at most those of the pass before"


def test_a_question_is_all_before_the_last_answer_that_says_something(tokenizer: Any) -> None:
    call = {"type": "function", "function": {"name": "look_up", "arguments": {"q": "x"}}}
    called = {**chat("q", ""), "row_id": "r1"}
    called["messages"][-1]["tool_calls"] = [call]
    rows = [called, {**chat("one", "ANSWER", "two", ""), "topic": "words"}]

    asked = questions(rows, render(rows, tokenizer).examples, tokenizer)

    assert [question.row_id for question in asked] == ["r1", ""]
    assert [question.topic for question in asked] == ["", "words"]
    assert [call.name for call in asked[0].calls] == ["look_up"]
    assert "look_up" in asked[0].expected
    assert (asked[1].messages, asked[1].expected) == (({"role": "user", "content": "one"},), "ANSWER")
    assert tokenizer.decode(asked[1].prompt) == "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"


def test_replay_can_be_what_the_base_model_says_itself(
    model: Any, tokenizer: Any, prepared: Prepared, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tokenizer.eos_token_id
    said = [tokenizer.encode("a b c"), [], tokenizer.encode("on and on and on")[:3]]

    def generate(*, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        answers = [[*said[0], stop], [stop, stop], said[2] * 4, *[[stop]] * len(input_ids)][: len(input_ids)]
        longest = max(map(len, answers))
        padded = [answer + [stop] * (longest - len(answer)) for answer in answers]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    kept = tmp_path / "replay.jsonl"
    made, left_out = base_answers(model, tokenizer, prepared.asked_replay, recipe, autocast=None, kept=kept)
    monkeypatch.setattr(model, "generate", None)
    again, _ = base_answers(model, tokenizer, prepared.asked_replay, recipe, autocast=None, kept=kept)

    assert len(prepared.asked_replay) == len(prepared.train) - prepared.replay_from == 7
    assert (len(made), left_out) == (1, 6), "one that is empty or never ends is no example"
    assert again == made
    example, question = made[0], prepared.asked_replay[made[0].row]
    assert example.ids == (*question.prompt, *said[0], stop)
    assert [label for label in example.labels if label != IGNORE] == [*said[0], stop]


def test_replay_never_shows_a_row_that_the_run_is_measured_by(tmp_path: Path, recipe: Recipe, tokenizer: Any) -> None:
    url, digest = publish_dataset(tmp_path, "chats", {"train": tickets(6)})
    held_out = open_dataset(url, digest).train[:4]
    replay = VersionRows(of="chats@v1", manifest_url=url, digest=digest)
    mixed = msgspec.structs.replace(recipe, replay=replay, replay_share=0.5)
    rows = [{**row, "row_id": str(i)} for i, row in enumerate(tickets(9, start=50))]

    raw = render_all(Dataset(rows, held_out), mixed, tokenizer)

    assert len(raw.replay.rows) == 2
    assert not {row["row_id"] for row in raw.replay.rows} & {row["row_id"] for row in held_out}
    assert prepare(raw, mixed, tokenizer).counts["replay_missing"] == 7


def test_general_rows_that_there_are_not_are_counted(recipe: Recipe, tokenizer: Any) -> None:
    rows = [{**row, "row_id": str(i)} for i, row in enumerate(tickets(72))]
    many = msgspec.structs.replace(recipe, replay_share=0.9)

    counts = prepare(render_all(Dataset(rows, []), many, tokenizer), many, tokenizer).counts

    assert (counts["replay"], counts["replay_missing"]) == (80, 9 * 72 - 80)
