"""Packing, accumulation and their proofs: the gradient is that of the rows one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.tiny_model import tickets

from tunemill.trainer.forward import isolates_rows, pack_rows, token_losses
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.model import load_model, trainable
from tunemill.trainer.pack import epoch_steps, pack
from tunemill.trainer.recipe import resolve
from tunemill.trainer.render import Example, render


@pytest.fixture
def examples(tokenizer: Any) -> list[Example]:
    return render(general_rows("retention", "packaged")[:12], tokenizer).examples


def gradient(model: torch.nn.Module, examples: list[Example], bins: list[list[int]]) -> torch.Tensor:
    total = sum(len(pack_rows([example], torch.device("cpu")).targets) for example in examples)
    model.zero_grad()
    for rows in bins:
        batch = pack_rows([examples[row] for row in rows], torch.device("cpu"))
        (token_losses(model, batch).sum() / total).backward()
    return torch.cat([p.grad.flatten() for p in trainable(model).values() if p.grad is not None])


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_packing_and_accumulation_leave_the_gradient_alone(
    tiny_base: Path, examples: list[Example], method: str
) -> None:
    model = load_model(resolve({"method": method, "base": str(tiny_base), "precision": "fp32"}), tiny_base)
    lengths = [len(example.ids) for example in examples]

    alone = gradient(model, examples, [[row] for row in range(len(examples))])

    for capacity in (120, 10_000):
        packed = gradient(model, examples, pack(range(len(examples)), lengths, capacity))
        assert (packed - alone).norm() <= 1e-5 * alone.norm()


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_gradient_checkpointing_leaves_the_gradient_alone(
    tiny_base: Path, examples: list[Example], method: str
) -> None:
    bins = [list(range(len(examples)))]
    found = []
    for checkpointing in (False, True):
        knobs = {"method": method, "base": str(tiny_base), "precision": "fp32", "gradient_checkpointing": checkpointing}
        model = load_model(resolve(knobs), tiny_base)
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules()) == checkpointing
        found.append(gradient(model, examples, bins))

    assert (found[1] - found[0]).norm() <= 1e-6 * found[0].norm()


def test_the_loss_is_that_of_the_whole_logits(tiny_base: Path, examples: list[Example]) -> None:
    model = load_model(resolve({"method": "full", "base": str(tiny_base), "precision": "fp32"}), tiny_base)
    example = examples[0]
    logits = model(input_ids=torch.tensor([example.ids])).logits[0, :-1]
    whole = torch.nn.functional.cross_entropy(logits, torch.tensor(example.labels[1:]), reduction="sum")

    ours = token_losses(model, pack_rows([example], torch.device("cpu"))).sum()

    assert ours.item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_self_check_trusts_an_isolating_model_only(tiny_base: Path, precision: str) -> None:
    model = load_model(resolve({"method": "lora", "base": str(tiny_base), "precision": precision}), tiny_base)

    assert isolates_rows(model)
    assert not isolates_rows(_Leaky(model))


class _Leaky(torch.nn.Module):
    """A model that ignores where packed rows begin, as one given an attention mask of ones does."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool) -> Any:
        return self.model(input_ids=input_ids, use_cache=use_cache)


def test_an_epoch_is_every_row_once_and_a_function_of_the_seed() -> None:
    lengths = [5 + (7 * i) % 40 for i in range(50)]

    def plan(seed: int, epoch: int) -> list[list[list[int]]]:
        return epoch_steps(lengths, rows_per_step=8, tokens_per_forward=64, seed=seed, epoch=epoch)

    rows = [row for step in plan(0, 0) for rows in step for row in rows]
    sizes = [sum(lengths[row] for row in rows) for step in plan(0, 0) for rows in step]

    assert sorted(rows) == list(range(50))
    assert max(sizes) <= 64
    assert plan(0, 0) == plan(0, 0)
    assert plan(0, 0) != plan(0, 1) != plan(1, 1)


def test_a_row_longer_than_a_forward_pass_goes_alone() -> None:
    assert pack([0, 1, 2], [100, 5, 5], 20) == [[0], [1, 2]]


def test_made_tickets_render(tokenizer: Any) -> None:
    assert len(render(tickets(9), tokenizer).examples) == 9
