"""Dataset rows -> examples: rendered whole, then fitted, and every row that is not used as it was counted."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunemill.trainer.dataset import Dataset, Row
from tunemill.trainer.derive import Facts
from tunemill.trainer.errors import NothingToTrain
from tunemill.trainer.fit import Fitted, fit, trained_tokens
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.mix import replay_rows, replay_wanted
from tunemill.trainer.pairs import Pair, chosen_rows, fit_pairs, render_pairs
from tunemill.trainer.question import Question, questions
from tunemill.trainer.recipe import Recipe
from tunemill.trainer.render import Example, Rendered, render

_VALIDATION_SHARE = 1 / 20  # of the training rows, for early stopping
_VALIDATION_ROWS = 128  # at most


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows and their rendering; `Example.row` counts in `rows`."""

    rows: Sequence[Row]
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class Raw:
    """All rows of a run, rendered whole: nothing is fitted to a length yet."""

    train: Rows
    held_out: Rows
    replay: Rows
    retention: Rows
    pairs: Sequence[Pair] = ()  # with objective dpo: then `train` and `held_out` are their better sides
    held_out_pairs: Sequence[Pair] = ()

    def facts(self) -> Facts:
        """What the rows are like, for what the recipe leaves open."""
        trained = self.train.rendered.examples + self.replay.rendered.examples
        lengths = [len(example.ids) for example in trained]
        answers = sum(map(trained_tokens, trained))
        aside = _validation_rows(
            {example.row: self.train.rows[example.row] for example in self.train.rendered.examples}
        )
        if self.pairs:
            lengths = [pair.length_tokens for pair in self.pairs]
            answers = sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in self.pairs)
        measured = self.held_out.rendered.examples + self.retention.rendered.examples
        pairs = [*self.pairs, *self.held_out_pairs]
        fitted = [*lengths, *(pair.length_tokens for pair in pairs), *(len(example.ids) for example in measured)]
        return Facts(
            rows=len(lengths) - len(self.replay.rendered.examples),
            replay=len(self.replay.rendered.examples),
            held_out=len(self.held_out.rendered.examples),
            lengths=tuple(sorted(lengths)),
            trained_tokens=answers,
            longest_tokens=max(fitted, default=0),
            highest_id=max(
                (max(ids) for ids in [e.ids for e in trained + measured] + [pair.rejected_ids for pair in pairs]),
                default=0,
            ),
            sides=2 if self.pairs else 1,
            aside=tuple(len(e.ids) for e in self.train.rendered.examples if e.row in aside),
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """All rows of a run, as the model will see them."""

    train: list[Example]
    validation: list[Example]  # taken out of training, for early stopping
    held_out: list[Example]
    retention: list[Example]
    asked: list[Question]  # of the held-out rows
    asked_retention: list[Question]
    asked_replay: list[Question]  # whose answers the base model is to give itself
    test_rows: Sequence[Row]  # what `row` of a held-out example counts in
    retention_rows: Sequence[Row]
    replay_from: int  # train[replay_from:] are general rows
    counts: dict[str, int]
    pairs: Sequence[Pair] = ()  # with objective dpo: what is trained on, and `train` are their better sides
    held_out_pairs: Sequence[Pair] = ()


def render_all(dataset: Dataset, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Raw:
    """Render every row of a run.

    Raises:
        NothingToTrain: no training row can be rendered.
    """

    def rendered(rows: Sequence[Row]) -> Rows:
        return Rows(rows, render(rows, tokenizer))

    retention = rendered(general_rows("retention", recipe.retention))
    test = dataset.test[: recipe.eval_loss_rows]
    if recipe.objective == "dpo":
        pairs, held_out = render_pairs(dataset.train, tokenizer), render_pairs(test, tokenizer)
        train = Rows(chosen_rows(dataset.train), pairs.chosen)
        if not pairs.pairs:
            raise _nothing(train, "")
        return Raw(
            train, Rows(chosen_rows(test), held_out.chosen), rendered([]), retention, pairs.pairs, held_out.pairs
        )
    train = rendered(dataset.train)
    if not train.rendered.examples:
        raise _nothing(train, "")
    return Raw(
        train=train,
        held_out=rendered(test),
        replay=rendered(replay_rows(len(dataset.train), recipe, test_ids={row["row_id"] for row in dataset.test})),
        retention=retention,
    )


def prepare(raw: Raw, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Prepared:
    """Fit every row to the recipe's length; every row that is not used as it was is counted.

    Raises:
        NothingToTrain: no training row is left.
        InvalidRun: a row is too long, and the recipe says that none may be.
    """

    def fitted(rows: Rows) -> Fitted:
        return fit(rows.rendered.examples, recipe.max_length_tokens, recipe.overlong)

    replay, retention = fitted(raw.replay), fitted(raw.retention)
    if raw.pairs:
        pairs, train = _fit_pairs(raw.train, raw.pairs, recipe)
        held_out_pairs, held_out = _fit_pairs(raw.held_out, raw.held_out_pairs, recipe)
    else:
        pairs, train = [], fitted(raw.train)
        held_out_pairs, held_out = [], fitted(raw.held_out)
    usable = {example.row: raw.train.rows[example.row] for example in train.examples}
    validating = _validation_rows(usable) if recipe.early_stopping else frozenset[int]()
    trained = [example for example in train.examples if example.row not in validating]
    validation = [example for example in train.examples if example.row in validating]
    if not trained:
        raise _nothing(raw.train, f", {train.dropped} too long")
    own_answers = recipe.replay_answers == "base"
    return Prepared(
        train=trained + replay.examples,
        validation=validation,
        held_out=held_out.examples,
        retention=retention.examples,
        asked=_asked(raw.held_out, held_out, recipe.eval_generate_rows, tokenizer),
        asked_retention=_asked(raw.retention, retention, recipe.eval_generate_rows, tokenizer),
        asked_replay=_asked(raw.replay, replay, len(raw.replay.rows), tokenizer) if own_answers else [],
        test_rows=raw.held_out.rows,
        retention_rows=raw.retention.rows,
        replay_from=len(trained),
        counts={
            "train": len(raw.train.rows),
            "trained_examples": len(trained),
            "validation": len(validation),
            "replay": len(replay.examples),
            "replay_missing": replay_wanted(len(raw.train.rows), recipe) - len(raw.replay.rows),  # there are no more
            "held_out": len(raw.held_out.rows),
            "held_out_examples": len(held_out.examples),
            "retention": len(retention.examples),
            **raw.train.rendered.counts(),
            **train.counts(),
            "held_out_dropped_overlong": held_out.dropped,
            **{f"held_out_{name}": count for name, count in raw.held_out.rendered.counts().items()},
        },
        pairs=pairs,
        held_out_pairs=held_out_pairs,
    )


def _fit_pairs(rows: Rows, pairs: Sequence[Pair], recipe: Recipe) -> tuple[list[Pair], Fitted]:
    """The pairs that fit, and their better sides, which fit, too."""
    fitted = fit_pairs(pairs, recipe.max_length_tokens, recipe.overlong)
    kept = {pair.row for pair in fitted.pairs}
    better = [example for example in rows.rendered.examples if example.row in kept]
    return fitted.pairs, Fitted(
        fit(better, recipe.max_length_tokens, recipe.overlong).examples,
        dropped=fitted.dropped,
        truncated=fitted.truncated,
        truncated_tokens=fitted.truncated_tokens,
    )


def _asked(rows: Rows, fitted: Fitted, first_rows: int, tokenizer: PreTrainedTokenizerBase) -> list[Question]:
    """The last answers of the first rows as questions, where fitting has left that answer whole."""
    last = {example.row: _last_answer(example) for example in rows.rendered.examples if example.row < first_rows}
    whole = [example for example in fitted.examples if _last_answer(example) == last.get(example.row)]
    return questions(rows.rows, whole, tokenizer)


def _last_answer(example: Example) -> tuple[int, ...]:
    return example.ids[slice(*example.spans[-1])]


def _validation_rows(rows: Mapping[int, Row]) -> frozenset[int]:
    """A twentieth by the digest of their ids, at least one: the same rows in every run on a version."""
    places = {number: hashlib.sha256(str(row["row_id"]).encode()).digest()[:8] for number, row in rows.items()}
    first = sorted(places, key=lambda number: places[number])[:_VALIDATION_ROWS]
    share = [number for number in first if int.from_bytes(places[number]) < _VALIDATION_SHARE * 2**64]
    return frozenset(share or first[:1])


def _nothing(train: Rows, too_long: str) -> NothingToTrain:
    reasons = ", ".join(f"{count} {name}" for name, count in train.rendered.counts().items()) or "all can be rendered"
    return NothingToTrain(
        f"of {len(train.rows)} training rows none can be used: {reasons}{too_long}",
        "look at the dataset's rows, its split and max_length_tokens; docs/rendering.md says what the reasons mean",
    )
