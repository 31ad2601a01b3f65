"""What to train and how: a partial recipe in, every knob's value out. Defaults and each knob's effect: `recipes/<method>.yaml`."""

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec
import yaml

from tunemill.trainer.errors import InvalidRecipe

METHODS = ("full", "lora", "qlora")
PACKAGED = "packaged"  # the general rows that come with tunemill


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tuned model must show; losses in nats per trained token."""

    min_task_gain: float  # the lower bound of the held-out loss's fall must be above this
    retention_warn: float  # a rise of the retention loss above this is said aloud
    retention_reject: float  # a rise above this rejects the run


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every knob with its value; nothing is left to be derived but what the worker's machine decides (`precision: auto`)."""

    method: Literal["full", "lora", "qlora"]
    base: str  # a local folder, or hub/id with `revision`
    revision: str | None  # a commit: 40 hexadecimal digits
    seed: int
    epochs: float
    max_steps: int | None  # optimizer steps; None: epochs decide
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_share: float  # of all optimizer steps
    weight_decay: float
    max_grad_norm: float
    rows_per_step: int
    tokens_per_forward: int
    max_length_tokens: int
    overlong: Literal["error", "drop", "truncate_left"]
    precision: Literal["auto", "fp32", "bf16"]
    r: int
    alpha: int
    dropout: float
    target_modules: str | tuple[str, ...]
    replay_share: float
    replay: str
    retention: str
    eval_loss_rows: int
    eval_generate_rows: int
    max_new_tokens: int
    checkpoint_steps: int
    gates: Gates


def resolve(partial: Mapping[str, Any]) -> Recipe:
    """The packaged recipe of the method with the given knobs put over it.

    Raises:
        InvalidRecipe: an unknown knob (the message names the nearest known one), a missing base, or an impossible value.
    """
    if not isinstance(partial, Mapping):
        raise InvalidRecipe("a recipe is an object of knobs", 'such as {"method": "lora", "base": "/models/smollm2"}')
    method = partial.get("method", "lora")
    if method not in METHODS:
        raise InvalidRecipe(f"unknown method {method!r}", f"one of {', '.join(METHODS)}")
    defaults = packaged(method)
    _refuse_unknown(partial, (*defaults, "base"), place="")
    gates = partial.get("gates", {})
    if not isinstance(gates, Mapping):
        raise InvalidRecipe("gates is an object", f"with the knobs {', '.join(defaults['gates'])}")
    _refuse_unknown(gates, defaults["gates"], place="gates.")
    if not partial.get("base"):
        raise InvalidRecipe(
            "the recipe names no base model", "set base to a model folder, or to a hub id with revision"
        )
    return _checked({**defaults, **partial, "gates": {**defaults["gates"], **gates}})


@cache
def packaged(method: str) -> dict[str, Any]:
    """The packaged defaults of a method, as plain data."""
    text = (files("tunemill.trainer") / "recipes" / f"{method}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _refuse_unknown(given: Mapping[str, Any], known: Any, *, place: str) -> None:
    for knob in given:
        if knob not in known:
            nearest = difflib.get_close_matches(str(knob), list(known), n=1, cutoff=0.0)[0]
            raise InvalidRecipe(f"unknown knob {place}{knob}", f"did you mean {place}{nearest}?")


def _checked(values: Mapping[str, Any]) -> Recipe:
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise InvalidRecipe(str(error), "see docs/training.md for each knob's type and range") from error
    for knob, (low, high) in _RANGES.items():
        value = getattr(recipe, knob)
        if value is not None and not low <= value <= high:
            raise InvalidRecipe(f"{knob} is {value}", f"it must lie between {low} and {high}")
    return recipe


_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "epochs": (0.01, 1000),
    "max_steps": (1, 10**7),
    "learning_rate": (1e-9, 1.0),
    "warmup_share": (0.0, 0.9),
    "weight_decay": (0.0, 1.0),
    "max_grad_norm": (1e-6, 1e6),
    "rows_per_step": (1, 4096),
    "tokens_per_forward": (8, 2**20),
    "max_length_tokens": (8, 2**20),
    "r": (1, 512),
    "alpha": (1, 4096),
    "dropout": (0.0, 0.9),
    "replay_share": (0.0, 0.9),
    "eval_loss_rows": (0, 10**6),
    "eval_generate_rows": (0, 10**6),
    "max_new_tokens": (1, 8192),
    "checkpoint_steps": (1, 10**6),
}
