"""The loop: stopped anywhere it goes on to the same weights; what holds it to the base model; when it ends early."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from fakes.tiny_model import tickets

from tunemill.trainer import kl
from tunemill.trainer.dataset import Dataset
from tunemill.trainer.early import validation_loss
from tunemill.trainer.errors import Diverged, NothingToTrain, Stopped
from tunemill.trainer.forward import pack_rows
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.model import load_model, trainable
from tunemill.trainer.pack import Steps
from tunemill.trainer.prepare import Prepared, prepare, render_all
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import Example, render
from tunemill.trainer.train import StepMetrics, Trained, rate_share, train

KNOBS = {"precision": "fp32", "warmup_share": 0.0, "rows_per_step": 4, "checkpoint_steps": 2, "learning_rate": 5e-3}


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def examples(tokenizer: Any) -> list[Example]:
    return render(tickets(12), tokenizer).examples


@pytest.fixture(scope="module")
def general(tokenizer: Any) -> list[Example]:
    return render(general_rows("retention", "packaged")[:12], tokenizer).examples


class Run:
    """A run of the loop, in as many attempts as it takes."""

    def __init__(self, base: Path, folder: Path, **knobs: Any) -> None:
        self.recipe: Recipe = resolve({"method": "lora", "base": str(base), **KNOBS, **knobs})
        self.base, self.folder = base, folder
        self.metrics: list[StepMetrics] = []
        self.model = torch.nn.Module()

    def attempt(
        self,
        examples: list[Example],
        *,
        should_stop: Callable[[], bool] = never,
        autocast: torch.dtype | None = None,
        **options: Any,
    ) -> Trained:
        self.model = load_model(self.recipe, self.base)
        return train(
            self.model,
            examples,
            self.recipe,
            self.folder,
            packed=True,
            autocast=autocast,
            on_step=self.metrics.append,
            should_stop=should_stop,
            **options,
        )

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in trainable(self.model).values()])

    def losses(self) -> list[float]:
        return [metrics.loss for metrics in self.metrics]


def after_asking(times: int) -> Callable[[], bool]:
    asked = iter(range(10**6))
    return lambda: next(asked) + 1 >= times


@pytest.mark.parametrize("passes", [1, 5, 15], ids=["in the first step", "in the third", "in the second epoch"])
def test_stopped_within_a_step_it_goes_on_as_if_nothing_had_happened(
    tiny_base: Path, tmp_path: Path, examples: list[Example], passes: int
) -> None:
    knobs = {"epochs": 3, "dropout": 0.2, "tokens_per_forward": 64}
    whole, broken = (Run(tiny_base, tmp_path / name, **knobs) for name in ("whole", "broken"))
    whole.attempt(examples)

    with pytest.raises(Stopped):
        broken.attempt(examples, should_stop=after_asking(passes))
    before = len(broken.metrics)
    broken.attempt(examples)

    assert before < len(whole.metrics), "it was stopped on its way"
    assert broken.losses() == whole.losses(), "the half step was thrown away, and the rows came in the same order"
    assert torch.equal(broken.weights(), whole.weights())


def test_each_epoch_has_an_order_of_its_own() -> None:
    steps = Steps([5] * 12, 4, tokens_per_forward=64, seed=0)

    first, second = ([row for n in numbers for rows in steps[n] for row in rows] for numbers in ((0, 1, 2), (3, 4, 5)))

    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_a_loss_that_is_no_number_ends_the_run(tiny_base: Path, tmp_path: Path, examples: list[Example]) -> None:
    run = Run(tiny_base, tmp_path, method="full")
    run.recipe = msgspec.structs.replace(run.recipe, learning_rate=float("inf"))

    with pytest.raises(Diverged, match="step 2") as told:
        run.attempt(examples)

    assert "learning_rate" in told.value.remedy
    assert not told.value.retryable


@pytest.mark.parametrize(("method", "rate"), [("full", 2e-3), ("lora", 5e-3)])
def test_in_bf16_it_learns_as_in_fp32(
    tiny_base: Path, tmp_path: Path, examples: list[Example], method: str, rate: float
) -> None:
    exact, rounded = (
        Run(tiny_base, tmp_path / name, method=method, precision=name, learning_rate=rate, epochs=2)
        for name in ("fp32", "bf16")
    )
    exact.attempt(examples)
    rounded.attempt(examples, autocast=torch.bfloat16 if method == "full" else None)

    assert {weight.dtype for weight in trainable(rounded.model).values()} == {torch.float32}, "small updates count"
    assert rounded.losses()[0] - rounded.losses()[-1] > 0.3
    assert rounded.losses() == pytest.approx(exact.losses(), abs=0.01)
    assert rounded.losses() != exact.losses(), "it is computed in bf16"


def test_rows_without_a_trained_token_are_not_trained_on_silently(
    tiny_base: Path, tmp_path: Path, examples: list[Example]
) -> None:
    silent = [Example(e.row, e.ids, (-100,) * len(e.ids), ()) for e in examples]

    with pytest.raises(NothingToTrain):
        Run(tiny_base, tmp_path).attempt(silent)


# The learning rate


@pytest.mark.parametrize(
    ("schedule", "warmup_share", "shares"),
    [
        ("linear", 0.0, [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("linear", 0.25, [1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("linear", 0.3, [1 / 4, 2 / 4, 3 / 4, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),  # 2.4 steps are three
        ("cosine", 0.0, [1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]),
        ("cosine", 0.5, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 0.853553, 0.5, 0.146447]),
        ("constant", 0.0, [1] * 8),
        ("constant", 0.25, [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1]),
        ("linear", 0.9, [k / 9 for k in range(1, 9)]),  # all of it is warm-up
    ],
)
def test_the_rate_climbs_and_then_is_as_its_schedule_says(
    schedule: str, warmup_share: float, shares: list[float]
) -> None:
    assert [rate_share(schedule, step, 8, warmup_share) for step in range(8)] == pytest.approx(shares, abs=1e-6)


def test_a_run_learns_at_the_rate_it_tells(tiny_base: Path, tmp_path: Path, examples: list[Example]) -> None:
    """Adam moves each weight in its first step by the rate, whatever the size of its gradient."""
    knobs = {"method": "full", "epochs": 2, "schedule": "cosine", "learning_rate": 1e-3}
    told = Run(tiny_base, tmp_path / "told", **knobs, warmup_share=0.34)
    told.attempt(examples)
    whole, half = (
        Run(tiny_base, tmp_path / str(share), **{**knobs, "max_steps": 1}, warmup_share=share) for share in (0.0, 0.5)
    )
    start = Run(tiny_base, tmp_path, method="full")
    start.model = load_model(start.recipe, tiny_base)
    moved = []
    for run in (whole, half):
        run.attempt(examples)
        moved.append((run.weights() - start.weights()).abs().max().item())

    shares = [1 / 4, 2 / 4, 3 / 4, 1, 0.75, 0.25]
    assert [metrics.learning_rate for metrics in told.metrics] == pytest.approx([1e-3 * share for share in shares])
    assert moved == pytest.approx([1e-3, 0.5e-3], rel=1e-3)


# The distance from the base model


def test_the_base_is_asked_where_no_task_answer_is(examples: list[Example]) -> None:
    example = examples[0]
    asked = kl.positions(example, is_task=True)

    assert all(example.labels[t + 1] == -100 for t in asked)
    assert 0 < len(asked) <= 32
    assert any(example.labels[t + 1] != -100 for t in kl.positions(example, is_task=False)), "answers of general rows"


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_distance_is_nothing_at_first_and_grows(
    tiny_base: Path, tmp_path: Path, examples: list[Example], method: str
) -> None:
    run = Run(tiny_base, tmp_path, method=method, kl_to_base=0.1, epochs=2)
    run.attempt(examples)
    distances = [metrics.kl_to_base or 0.0 for metrics in run.metrics]

    assert distances[0] == pytest.approx(0.0, abs=1e-6)
    assert distances[-1] > 1e-3


def test_it_holds_the_model_to_its_base(tiny_base: Path, tmp_path: Path, examples: list[Example]) -> None:
    free, held = (
        Run(tiny_base, tmp_path / name, kl_to_base=weight, epochs=4)
        for name, weight in (("free", 1e-9), ("held", 30.0))
    )
    free.attempt(examples)
    held.attempt(examples)

    assert (held.metrics[-1].kl_to_base or 0.0) < 0.5 * (free.metrics[-1].kl_to_base or 0.0)
    assert held.metrics[-1].loss < held.metrics[0].loss, "and the task is learnt"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_packing_does_not_change_the_held_gradient(
    tiny_base: Path, tmp_path: Path, examples: list[Example], method: str
) -> None:
    """One step of plain gradient descent moves the weights by the gradient; Adam's first step hides its size."""
    norms = []
    for capacity in (8, 200, 4000):
        run = Run(tiny_base, tmp_path / str(capacity), method=method, kl_to_base=1.0, tokens_per_forward=capacity)
        run.attempt(examples, replay_from=8)
        norms.append([(metrics.grad_norm, metrics.kl_to_base, metrics.loss) for metrics in run.metrics[:2]])

    for other in norms[1:]:
        for mine, theirs in zip(norms[0], other, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)


# Ending early


def test_rows_that_are_looked_at_are_never_trained_on(tiny_base: Path, tokenizer: Any) -> None:
    """Which they are depends on their ids alone: a version with more rows sets the same ones aside."""

    def prepared(count: int) -> Prepared:
        rows = [{"row_id": f"row-{i}", **row} for i, row in enumerate(tickets(count))]
        recipe = resolve({"base": str(tiny_base), "early_stopping": {}, "eval_generate_rows": 0})
        return prepare(render_all(Dataset(train=rows, test=[]), recipe, tokenizer), recipe, tokenizer)

    fewer, more = prepared(60), prepared(120)
    looked_at = {example.row for example in more.validation}

    assert 2 <= len(looked_at) <= 20
    assert {example.row for example in more.train[: more.replay_from]} == set(range(120)) - looked_at
    assert {example.row for example in fewer.validation} == {row for row in looked_at if row < 60}


def overfitted(base: Path, folder: Path) -> Run:
    rule = {"every_steps": 2, "patience": 2}
    return Run(base, folder, early_stopping=rule, epochs=20, learning_rate=2e-2, dropout=0.1)


def test_it_ends_with_the_best_looks_weights(
    tiny_base: Path, tmp_path: Path, examples: list[Example], general: list[Example]
) -> None:
    """General rows become less likely the better the task is learnt."""
    whole, broken = (overfitted(tiny_base, tmp_path / name) for name in ("whole", "broken"))
    done = whole.attempt(examples, validation=general)
    seen = {metrics.step: metrics.validation_loss for metrics in whole.metrics if metrics.validation_loss is not None}
    with pytest.raises(Stopped):
        broken.attempt(examples, validation=general, should_stop=after_asking(done.steps - 1))
    broken.attempt(examples, validation=general)

    assert done.steps < 60, "it stopped before the last step"
    assert done.best_step == min(seen, key=lambda step: seen[step]) < done.steps
    assert validation_loss(whole.model, general, 1024, None) == pytest.approx(seen[done.best_step], rel=1e-6)
    assert torch.equal(broken.weights(), whole.weights()), "a look is remembered over a stop"
    assert (again := broken.attempt(examples, validation=general)).best_step == done.best_step
    assert again.steps == done.steps, "and so is the end"


def test_packed_rows_know_where_each_began(examples: list[Example]) -> None:
    batch = pack_rows(examples[:2], torch.device("cpu"))
    places = kl.places(examples[:2], [(0, 3), (0, 2)])

    assert batch.position_ids[0, places].tolist() == [0, 3, 0, 2]
