"""A model's sizes, counted without its weights, are those of the loaded model; a machine's memory is what its groups leave."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from tunemill.trainer.errors import BaseNotFound, InvalidRecipe
from tunemill.trainer.forward import isolates_rows
from tunemill.trainer.machine import cgroup_rooms, this_machine
from tunemill.trainer.model import load_model, trainable
from tunemill.trainer.recipe import resolve
from tunemill.trainer.shape import shape_of

SIZES = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256}


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"r": 8},
        {"dora": True},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": r".*\.layers\.0\..*_proj"},
    ],
)
def test_the_adapter_is_as_large_as_counted(tiny_base: Path, knobs: dict[str, Any]) -> None:
    recipe = resolve({"base": str(tiny_base), **knobs})
    loaded = sum(value.numel() for value in trainable(load_model(recipe, tiny_base)).values())
    assert shape_of(tiny_base, recipe).adapter == loaded > 0


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_counted_once(tmp_path: Path, family: str, tied: bool) -> None:
    config = AutoConfig.for_model(family, **SIZES, **HEADS, tie_word_embeddings=tied)
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config)
    shape = shape_of(tmp_path, resolve({"base": str(tmp_path)}))

    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    layers = sum(p.numel() for name, p in model.named_parameters() if "_proj.weight" in name)
    assert shape.linear == layers
    assert (shape.layers, shape.hidden, shape.intermediate, shape.vocabulary) == (2, 64, 128, 512)
    assert shape.context_tokens == 256


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_layers_that_are_linear_by_another_name_count(tmp_path: Path) -> None:
    """GPT-2 has a class of its own for them."""
    AutoConfig.for_model("gpt2", vocab_size=512, n_embd=64, n_layer=2, n_head=4).save_pretrained(tmp_path)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    recipe = resolve({"base": str(tmp_path), "precision": "fp32", "dora": True})
    model = load_model(recipe, tmp_path)

    shape = shape_of(tmp_path, recipe)
    assert shape.adapter == sum(value.numel() for value in trainable(model).values()) > 0
    assert shape.linear == 2 * 12 * 64 * 64
    assert isolates_rows(model), "its own dropout is off while it is checked"


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ([], "empty"),
        ("", "no layer"),
        ("(", "no regular"),
        (["q_proj", "v_prj"], ": v_prj"),
        (["norm"], ": norm"),
    ],
)
def test_an_adapter_of_no_layer_is_refused_before_a_weight_is_read(tiny_base: Path, targets: Any, says: str) -> None:
    with pytest.raises(InvalidRecipe, match=f"target_modules.*{says}") as refused:
        shape_of(tiny_base, resolve({"base": str(tiny_base), "target_modules": targets}))

    assert "all-linear" in refused.value.remedy


@pytest.mark.parametrize("damage", ["{", '{"model_type": "nonsense"}', '{"model_type": "clip"}'])
def test_a_configuration_that_is_no_models_is_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / "config.json").write_text(damage)

    with pytest.raises(BaseNotFound, match=r"no model can be made of .*config\.json"):
        shape_of(tmp_path, resolve({"base": str(tmp_path)}))


def test_this_machine_has_memory_and_speed() -> None:
    machine = this_machine()
    assert machine.memory_bytes > 10**8
    assert machine.flops_per_s is not None
    assert machine.flops_per_s > 10**8
    assert this_machine(devices=4).memory_bytes < machine.memory_bytes / 2


def group(folder: Path, *, limit: tuple[str, str], used: tuple[str, int], cache: tuple[str, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit[0]).write_text(f"{limit[1]}\n")
    (folder / used[0]).write_text(f"{used[1]}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{cache[0]} {cache[1]}\n")


def test_every_control_group_above_counts(tmp_path: Path) -> None:
    for path, limit, used in (("", "max", 900), ("pod", "1000", 400), ("pod/worker", "800", 300)):
        group(
            tmp_path / path,
            limit=("memory.max", limit),
            used=("memory.current", used),
            cache=("inactive_file", 50),
        )
    membership = tmp_path / "cgroup"
    membership.write_text("0::/pod/worker\n")

    assert sorted(cgroup_rooms(membership, tmp_path)) == [800 - 300 + 50, 1000 - 400 + 50]


def test_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    group(
        tmp_path / "memory" / "docker" / "abc",
        limit=("memory.limit_in_bytes", "2000"),
        used=("memory.usage_in_bytes", 2500),
        cache=("total_inactive_file", 100),
    )
    membership = tmp_path / "cgroup"
    membership.write_text("5:devices:/docker/abc\n4:memory:/docker/abc\n0::/\n")

    assert cgroup_rooms(membership, tmp_path) == [0], "used up: never below nothing"


def test_a_group_whose_folder_lies_elsewhere_says_nothing(tmp_path: Path) -> None:
    assert cgroup_rooms(tmp_path / "none", tmp_path) == []
    membership = tmp_path / "cgroup"
    membership.write_text("0::/../outside\n")
    assert cgroup_rooms(membership, tmp_path) == []
