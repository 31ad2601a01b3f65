"""The options of the three methods do what they are named for, and a hub's model comes without code."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from tunemill.trainer.errors import BaseNotFound
from tunemill.trainer.forward import pack_rows, token_losses
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.model import base_folder, inference, load_model, load_tokenizer, trainable
from tunemill.trainer.optimizer import optimizer_for
from tunemill.trainer.recipe import Recipe, resolve
from tunemill.trainer.render import Example, render

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def examples(tokenizer: Any) -> list[Example]:
    return render(general_rows("retention", "packaged")[:6], tokenizer).examples


def recipe(base: Path, **knobs: Any) -> Recipe:
    return resolve({"base": str(base), "precision": "fp32", **knobs})


def loss(model: torch.nn.Module, examples: Sequence[Example]) -> torch.Tensor:
    return token_losses(model, pack_rows(examples, torch.device("cpu"))).mean()


def falls(model: torch.nn.Module, chosen: Recipe, examples: Sequence[Example]) -> tuple[float, float]:
    """The loss before and after a few steps of the recipe's optimizer."""
    optimizer = optimizer_for(model, chosen)
    losses = []
    for _ in range(6):
        now = loss(model, examples)
        now.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(now.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize(("rslora", "scale"), [(False, 32 / 16), (True, 32 / math.sqrt(16))])
def test_rslora_counts_alpha_by_the_root_of_the_rank(tiny_base: Path, rslora: bool, scale: float) -> None:
    model = load_model(recipe(tiny_base, rslora=rslora, r=16, alpha=32), tiny_base)
    scales = {value for layer in model.modules() if hasattr(layer, "lora_A") for value in layer.scaling.values()}
    assert scales == {scale}


def test_dora_trains_sizes_beside_directions(tiny_base: Path, examples: list[Example]) -> None:
    chosen = recipe(tiny_base, dora=True, learning_rate=1e-2)
    model = load_model(chosen, tiny_base)
    sizes = {name: value.clone() for name, value in trainable(model).items() if "magnitude" in name}
    first, last = falls(model, chosen, examples)

    assert len(sizes) == 14, "one a linear layer"
    assert last < first - 0.1
    now = trainable(model)
    assert all(not torch.equal(now[name], before) for name, before in sizes.items())


def test_lora_plus_moves_b_faster(tiny_base: Path, examples: list[Example]) -> None:
    chosen = recipe(tiny_base, lora_plus=16.0, learning_rate=1e-3, weight_decay=0.1)
    model = load_model(chosen, tiny_base)
    optimizer = optimizer_for(model, chosen)

    names = {id(value): name for name, value in model.named_parameters()}
    rates = {names[id(p)]: (g["lr"], g["initial_lr"]) for g in optimizer.param_groups for p in g["params"]}
    assert set(rates) == set(trainable(model))
    assert {rate for name, rate in rates.items() if "lora_A" in name} == {(1e-3, 1e-3)}
    assert {rate for name, rate in rates.items() if "lora_B" in name} == {(16e-3, 16e-3)}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}
    assert all(group["params"] for group in optimizer.param_groups)
    first, last = falls(model, chosen, examples)
    assert last < first


def test_without_lora_plus_all_learn_alike(tiny_base: Path) -> None:
    for method in ("lora", "full"):
        chosen = recipe(tiny_base, learning_rate=1e-3, method=method)
        (group,) = optimizer_for(load_model(chosen, tiny_base), chosen).param_groups
        assert (group["lr"], group["initial_lr"]) == (1e-3, 1e-3)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_checkpointing_changes_memory_and_no_result(tiny_base: Path, examples: list[Example], method: str) -> None:
    losses, gradients, kept = [], [], []
    for checkpointing in (False, True):
        model = load_model(recipe(tiny_base, method=method, gradient_checkpointing=checkpointing), tiny_base)
        saved: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = saved) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            now = loss(model, examples)
        now.backward()  # type: ignore[no-untyped-call]
        losses.append(now.item())
        gradients.append([value.grad for value in trainable(model).values()])
        kept.append(sum(saved))

    assert abs(losses[0] - losses[1]) <= 1e-6
    for plain, again in zip(*gradients, strict=True):
        assert plain is not None
        assert again is not None
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-7)
    assert kept[1] < kept[0] / 2, "else nothing was checkpointed"


def test_checkpointing_is_off_while_answers_are_written(tiny_base: Path, examples: list[Example]) -> None:
    model: Any = load_model(recipe(tiny_base, gradient_checkpointing=True), tiny_base)
    with inference(model):
        assert not model.training
        out = model.generate(input_ids=torch.tensor([examples[0].ids]), max_new_tokens=3, do_sample=False)
        assert model.config.use_cache
    assert out.shape[1] > len(examples[0].ids)


def test_qlora_holds_the_base_in_doubly_quantised_nf4(tiny_base: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    model = load_model(recipe(tiny_base, method="qlora"), tiny_base)
    layers = [layer for layer in model.modules() if isinstance(layer, Linear4bit)]

    assert len(layers) == 14
    for layer in layers:
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested) == ("nf4", True)
        assert layer.weight.numel() == layer.in_features * layer.out_features // 2, "two weights a byte"
    assert all("lora_" in name for name in trainable(model))


def test_a_hub_model_is_fetched_at_its_commit_without_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def download(repo: str, **how: Any) -> str:
        asked.append((repo, how))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    assert base_folder("someone/model", COMMIT) == tmp_path
    assert base_folder("someone/model", COMMIT, weights=False) == tmp_path
    (whole, plan) = asked
    assert whole == (
        "someone/model",
        {"revision": COMMIT, "allow_patterns": ["*.json", "*.jinja", "*.safetensors"]},
    )
    assert plan[1]["allow_patterns"] == ["*.json", "*.jinja"], "a plan reads no weight"


@pytest.mark.parametrize(
    ("file", "says"), [("tokenizer.json", "the tokenizer in"), ("model.safetensors", "the weights in")]
)
def test_a_damaged_base_is_told(tiny_base: Path, tmp_path: Path, file: str, says: str) -> None:
    damaged = shutil.copytree(tiny_base, tmp_path / "base")
    (damaged / file).write_bytes((damaged / file).read_bytes()[:100])

    with pytest.raises(BaseNotFound, match=f"{says} .* cannot be loaded"):
        load_tokenizer(damaged)
        load_model(recipe(damaged), damaged)


def test_a_hub_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repo: str, **how: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(BaseNotFound, match="cannot be fetched: ConnectionError"):
        base_folder("someone/model", COMMIT)
