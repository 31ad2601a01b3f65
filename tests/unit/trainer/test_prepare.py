"""From a version's rows to what the model will see, with every row accounted for."""

from typing import Any

from fakes.tiny_model import chat, tickets

from tunemill.trainer.dataset import Dataset
from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.prepare import Prepared, prepare, render_all
from tunemill.trainer.recipe import resolve


def dataset(*rows: dict[str, Any], test: int = 4) -> Dataset:
    def named(rows: Any, kind: str) -> list[dict[str, Any]]:
        return [{**row, "row_id": f"{kind}{i}"} for i, row in enumerate(rows)]

    return Dataset(named(rows, "train"), named(tickets(test, start=900), "test"))


def prepared(rows: Dataset, tokenizer: Any, **knobs: Any) -> Prepared:
    recipe = resolve({"base": "/b", **knobs})
    return prepare(render_all(rows, recipe, tokenizer), recipe, tokenizer)


def test_the_facts_are_those_of_whole_rows(tokenizer: Any) -> None:
    recipe = resolve({"base": "/b", "max_length_tokens": 32, "replay_share": 0.2, "eval_loss_rows": 3})
    raw = render_all(dataset(*tickets(8), chat("word " * 900, "a"), chat("no answer")), recipe, tokenizer)
    facts = raw.facts()

    examples = raw.train.rendered.examples + raw.replay.rendered.examples
    assert (facts.rows, facts.replay, facts.held_out) == (9, 2, 3)
    assert facts.lengths == tuple(sorted(len(example.ids) for example in examples))
    assert facts.longest_tokens == facts.lengths[-1] > 900
    assert facts.trained_tokens == sum(map(trained_tokens, examples))
    everything = examples + raw.held_out.rendered.examples + raw.retention.rendered.examples
    assert facts.highest_id == max(token for example in everything for token in example.ids)


def test_every_row_is_counted(tokenizer: Any) -> None:
    rows = dataset(*tickets(8), chat("word " * 900, "a"), chat("no answer"), chat("a", "", "b", "c"))
    counts = prepared(rows, tokenizer, max_length_tokens=256, replay_share=0.1).counts

    assert (counts["train"], counts["trained_examples"], counts["replay"]) == (11, 9, 1)
    assert (counts["no_answer"], counts["dropped_overlong"], counts["empty_answers"]) == (1, 1, 1)
    assert (counts["held_out"], counts["held_out_examples"]) == (4, 4)


def test_general_rows_stand_last_and_are_told_apart(tokenizer: Any) -> None:
    made = prepared(dataset(*tickets(9)), tokenizer, replay_share=0.1)

    assert made.replay_from == 9
    assert len(made.train) == 10
    assert made.validation == []


def test_rows_are_set_aside_for_early_stopping_by_their_ids(tokenizer: Any) -> None:
    rows = dataset(*tickets(200))
    made = prepared(rows, tokenizer, early_stopping={}, replay_share=0.0)
    aside = {example.row for example in made.validation}

    assert 2 <= len(aside) <= 20
    assert aside.isdisjoint(example.row for example in made.train)
    assert len(made.train) + len(made.validation) == 200
    few = prepared(dataset(*tickets(4), chat("no answer")), tokenizer, early_stopping={}, replay_share=0.0)
    assert (len(few.train), len(few.validation)) == (3, 1), "of few rows there is one to look at, too"
    turned = Dataset(rows.train[::-1], rows.test)
    again = prepared(turned, tokenizer, early_stopping={}, replay_share=0.0)
    assert {199 - example.row for example in again.validation} == aside, "whatever the order of the rows"


def test_a_long_row_is_split_where_the_recipe_says_so(tokenizer: Any) -> None:
    rows = dataset(chat(*["word " * 20, "an answer"] * 12))
    made = prepared(rows, tokenizer, max_length_tokens=128, overlong="split", replay_share=0.0)

    assert made.counts["split"] == 1
    assert sum(len(example.spans) for example in made.train) == 12
    assert all(len(example.ids) <= 128 for example in made.train)


def test_what_is_asked_is_cut_as_what_is_trained_on_and_its_answer_is_whole(tokenizer: Any) -> None:
    long, cut = chat("word " * 60, "an answer", "word " * 60, "the last"), chat("q", "a", "q", "word " * 200)
    rows = Dataset(
        [{**chat("q", "a"), "row_id": "t"}], [{**row, "row_id": str(i)} for i, row in enumerate((long, cut))]
    )

    for policy in ("truncate_left", "split"):
        made = prepared(rows, tokenizer, max_length_tokens=128, overlong=policy, replay_share=0.0)
        (asked,) = made.asked
        assert asked.expected == "the last"
        assert len(asked.prompt) + asked.expected_tokens <= 128
