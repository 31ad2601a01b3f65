"""What to train and how: a partial recipe in, every knob's value out.

Each knob's type, range, unit, default and effect stand here once. A knob of `AUTO` may be `"auto"`, which is its default: the
struct then holds a usual value and names the knob in `auto`, until it is settled by the dataset, the model and the machine.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tunemill.trainer.errors import InvalidRecipe

METHODS = ("full", "lora", "qlora")
PACKAGED = "packaged"  # the general rows that come with tunemill
AUTO_SPELLED = "auto"
AUTO = (
    "epochs",
    "learning_rate",
    "rows_per_step",
    "tokens_per_forward",
    "max_length_tokens",
    "gradient_checkpointing",
    "checkpoint_steps",
)


def _unit(name: str) -> dict[str, str]:
    return {"x-unit": name}


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tuned model must show."""

    min_task_gain: Annotated[
        float,
        Meta(
            ge=-100.0,
            le=100.0,
            description="The lower bound of the held-out loss's fall must be above this.",
            extra_json_schema=_unit("nats per trained token"),
        ),
    ] = 0.0
    retention_warn: Annotated[
        float,
        Meta(
            ge=-100.0,
            le=100.0,
            description="A larger rise of the retention loss is said aloud.",
            extra_json_schema=_unit("nats per trained token"),
        ),
    ] = 0.05
    retention_reject: Annotated[
        float,
        Meta(
            ge=-100.0,
            le=100.0,
            description="A larger rise of the retention loss rejects the run.",
            extra_json_schema=_unit("nats per trained token"),
        ),
    ] = 0.20
    no_slice_worse_than: Annotated[
        Annotated[float, Meta(ge=-100.0, le=100.0)] | None,
        Meta(
            description="A slice whose held-out loss surely rises by more than this rejects the run; null: no slice does.",
            extra_json_schema=_unit("nats per trained token"),
        ),
    ] = None
    slice_rows: Annotated[
        int,
        Meta(ge=1, le=10**6, description="Smaller slices reject nothing.", extra_json_schema=_unit("held-out rows")),
    ] = 20


class EarlyStopping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to stop before the last step: rows taken out of training are looked at, never the test rows."""

    every_steps: Annotated[
        int,
        Meta(ge=1, le=10**6, description="How often is looked.", extra_json_schema=_unit("optimizer steps")),
    ] = 10
    patience: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="So many looks without a fall end the training.",
            extra_json_schema=_unit("looks"),
        ),
    ] = 3
    min_fall_nats: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="A smaller fall is none.", extra_json_schema=_unit("nats per trained token")),
    ] = 0.0


class Dpo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290)."""

    beta: Annotated[
        float,
        Meta(ge=0.001, le=10.0, description="How strongly the tuned model is held to the base; larger: closer."),
    ] = 0.1


class VersionRows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of a dataset version, as the registry spells out what a recipe names; nobody writes it by hand."""

    of: str  # name@v3
    manifest_url: str
    digest: str


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every knob with its value."""

    method: Annotated[
        Literal["full", "lora", "qlora"],
        Meta(
            description="What is trained. full: every weight; lora: small matrices beside the frozen weights;"
            " qlora: lora over a base held in 4 bits (NF4, double quantisation), for memory and not for speed."
        ),
    ] = "lora"
    objective: Annotated[
        Literal["sft", "dpo"],
        Meta(description="sft: learn the answers; dpo: prefer the better answer of each pair (needs the extra `dpo`)."),
    ] = "sft"
    base: Annotated[
        str, Meta(min_length=1, description="The model to start from: a local folder, or a hub id with revision.")
    ]
    revision: Annotated[
        str | None, Meta(description="The commit of a hub model, 40 hexadecimal digits; a local folder needs none.")
    ] = None
    template: Annotated[
        str | None,
        Meta(description="A .jinja chat template; null: the tokenizer's own, and a plain one where it has none."),
    ] = None
    seed: Annotated[
        int,
        Meta(ge=0, le=2**31 - 1, description="Order of rows, start of the adapter, dropout: equal seed, equal result."),
    ] = 0

    epochs: Annotated[
        float,
        Meta(
            ge=0.01,
            le=1000,
            description="How often each row is seen; more fits the rows closer, and forgets more.",
            extra_json_schema=_unit("passes"),
        ),
    ] = 3.0
    max_steps: Annotated[
        Annotated[int, Meta(ge=1, le=10**7)] | None,
        Meta(
            description="Stop after so many steps, whatever the epochs say.",
            extra_json_schema=_unit("optimizer steps"),
        ),
    ] = None
    learning_rate: Annotated[
        float,
        Meta(
            ge=1e-9,
            le=1.0,
            description="Too high and the model forgets and diverges, too low and it learns nothing;"
            " adapters want about ten times the rate of full.",
        ),
    ] = 2e-4
    schedule: Annotated[
        Literal["linear", "cosine", "constant"],
        Meta(description="linear, cosine: the rate falls to 0 over the run; constant: it stays."),
    ] = "linear"
    warmup_share: Annotated[
        float,
        Meta(
            ge=0.0,
            le=0.9,
            description="While the rate climbs from 0; steadies the start.",
            extra_json_schema=_unit("share of the steps"),
        ),
    ] = 0.03
    weight_decay: Annotated[float, Meta(ge=0.0, le=1.0, description="Pulls weights towards 0.")] = 0.0
    max_grad_norm: Annotated[float, Meta(ge=1e-6, le=1e6, description="Longer gradients are shortened to this.")] = 1.0

    rows_per_step: Annotated[
        int,
        Meta(
            ge=1, le=4096, description="Fewer: more, noisier steps.", extra_json_schema=_unit("rows per optimizer step")
        ),
    ] = 16
    tokens_per_forward: Annotated[
        int,
        Meta(
            ge=8,
            le=2**20,
            description="Rows are packed to at most this many; memory, not the result, depends on it.",
            extra_json_schema=_unit("tokens per forward pass"),
        ),
    ] = 1024
    packing: Annotated[
        bool, Meta(description="Several rows in one forward pass, none seeing another; false: each row alone, slower.")
    ] = True
    max_length_tokens: Annotated[
        int,
        Meta(ge=8, le=2**20, description="Longer rows meet the policy `overlong`.", extra_json_schema=_unit("tokens")),
    ] = 2048
    overlong: Annotated[
        Literal["error", "drop", "truncate_left", "split"],
        Meta(
            description="error: refuse the run; drop: leave the row out; truncate_left: keep its end; split: pieces that"
            " end with an answer, each answer trained on once. Always counted."
        ),
    ] = "drop"
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Meta(description="auto: bf16 where the machine computes it natively, else fp32."),
    ] = "auto"
    gradient_checkpointing: Annotated[
        bool, Meta(description="Compute activations again instead of keeping them: less memory, about a third slower.")
    ] = False

    r: Annotated[int, Meta(ge=1, le=512, description="The adapter's rank: what it can hold.")] = 16
    alpha: Annotated[int, Meta(ge=1, le=4096, description="The adapter counts alpha / r.")] = 32
    dropout: Annotated[
        float,
        Meta(
            ge=0.0,
            le=0.9,
            description="Left out while training.",
            extra_json_schema=_unit("share of the adapter's inputs"),
        ),
    ] = 0.0
    target_modules: Annotated[
        str | tuple[str, ...], Meta(description="Which layers get an adapter: all-linear, or a list of names.")
    ] = "all-linear"
    rslora: Annotated[
        bool, Meta(description="The adapter counts alpha / sqrt(r): steadier at high ranks (arXiv:2312.03732).")
    ] = False
    dora: Annotated[
        bool,
        Meta(
            description="Weights are taken apart into size and direction (arXiv:2402.09353): up to four times slower,"
            " and the result is merged, because servers load no such adapter."
        ),
    ] = False
    lora_plus: Annotated[
        Annotated[float, Meta(ge=1.0, le=64.0)] | None,
        Meta(description="The adapter's B matrices learn so many times faster (arXiv:2402.12354); null: alike."),
    ] = None

    replay_share: Annotated[
        float,
        Meta(
            ge=0.0,
            le=0.9,
            description="General rows among the trained ones, against forgetting; dpo takes none, and has 0.",
            extra_json_schema=_unit("share of the trained rows"),
        ),
    ] = 0.1
    replay: Annotated[
        str | VersionRows,
        Meta(
            description="Those rows: packaged, a JSONL file of OpenAI chat rows, or a version's training rows as name@v3."
        ),
    ] = PACKAGED
    replay_answers: Annotated[
        Literal["given", "base"],
        Meta(description="given: as they stand; base: the base model's own greedy answers in their place."),
    ] = "given"
    kl_to_base: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="Weight of the distance from the base model where no task answer is; against forgetting,"
            " at the price of a second forward pass.",
        ),
    ] = 0.0
    retention: Annotated[
        str | VersionRows,
        Meta(
            description="What stands for the model's earlier abilities: packaged, a JSONL file of OpenAI chat rows,"
            " or a version's test rows as name@v3."
        ),
    ] = PACKAGED
    early_stopping: Annotated[
        EarlyStopping | None, Meta(description="Stop once rows set aside no longer improve; null: train to the end.")
    ] = None

    eval_loss_rows: Annotated[
        int,
        Meta(
            ge=0,
            le=10**6,
            description="Whose loss is measured before and after.",
            extra_json_schema=_unit("held-out rows"),
        ),
    ] = 512
    eval_generate_rows: Annotated[
        int,
        Meta(
            ge=0,
            le=10**6,
            description="Answered before and after; the slow part of an evaluation.",
            extra_json_schema=_unit("held-out rows"),
        ),
    ] = 64
    max_new_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=8192,
            description="Longest answer while evaluating; never much longer than the longest expected one.",
            extra_json_schema=_unit("tokens"),
        ),
    ] = 256
    judge_rows: Annotated[
        int,
        Meta(
            ge=0,
            le=10**4,
            description="Compared by the trainer's judge, where it has one.",
            extra_json_schema=_unit("held-out rows"),
        ),
    ] = 0
    checkpoint_steps: Annotated[
        int,
        Meta(
            ge=1,
            le=10**6,
            description="A killed run goes on from the last multiple of this.",
            extra_json_schema=_unit("optimizer steps"),
        ),
    ] = 25
    merge: Annotated[bool, Meta(description="Write whole weights with the adapter merged in, beside the adapter.")] = (
        False
    )

    dpo: Dpo = Dpo()
    gates: Gates = Gates()
    auto: tuple[str, ...] = ()  # the knobs that are not settled yet; never given, never shown


def resolve(partial: Mapping[str, Any]) -> Recipe:
    """A recipe with every knob: the given ones, and the defaults.

    Raises:
        InvalidRecipe: an unknown knob (the message names the nearest known one), a missing base, or an impossible value.
    """
    if not isinstance(partial, Mapping):
        raise InvalidRecipe("a recipe is an object of knobs", 'such as {"method": "lora", "base": "/models/smollm2"}')
    if partial.get("method", "lora") not in METHODS:
        raise InvalidRecipe(f"unknown method {partial['method']!r}", f"one of {', '.join(METHODS)}")
    _refuse_unknown(partial, Recipe, place="")
    for name, struct in _NESTED.items():
        nested = partial.get(name)
        if isinstance(nested, Mapping):
            _refuse_unknown(nested, struct, place=f"{name}.")
    if not partial.get("base"):
        raise InvalidRecipe(
            "the recipe names no base model", "set base to a model folder, or to a hub id with revision"
        )
    given = {knob: value for knob, value in partial.items() if knob not in AUTO or value != AUTO_SPELLED}
    if given.get("method") == "full":
        given.setdefault("learning_rate", 2e-5)
    if given.get("objective") == "dpo":
        given.setdefault("replay_share", 0.0)
    try:
        recipe = msgspec.convert(
            {**given, "auto": [knob for knob in AUTO if knob not in partial or partial[knob] == AUTO_SPELLED]}, Recipe
        )
    except msgspec.ValidationError as error:
        raise InvalidRecipe(str(error), "see docs/recipes.md for each knob's type and range") from error
    if recipe.objective == "dpo":
        _refuse_what_pairs_do_not_take(recipe)
    idle = [knob for knob in _OF_ADAPTERS if recipe.method == "full" and getattr(recipe, knob)]
    if idle:
        raise InvalidRecipe(
            f"method full has no adapter for {', '.join(idle)}", "leave them out, or set method to lora or qlora"
        )
    return recipe


def spelled(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a person writes it: whole, as plain data, "auto" where nothing is settled. `resolve` reads it back."""
    knobs: dict[str, Any] = msgspec.to_builtins(recipe)
    del knobs["auto"]
    return knobs | dict.fromkeys(recipe.auto, AUTO_SPELLED)


_OF_ADAPTERS = ("rslora", "dora", "lora_plus", "merge")
_NOT_OF_PAIRS = {  # and the value that asks for nothing
    "early_stopping": None,
    "kl_to_base": 0.0,
    "replay_share": 0.0,
    "replay": PACKAGED,
    "replay_answers": "given",
}
_NESTED: dict[str, type[msgspec.Struct]] = {"gates": Gates, "dpo": Dpo, "early_stopping": EarlyStopping}


def _refuse_what_pairs_do_not_take(recipe: Recipe) -> None:
    asked = [knob for knob, nothing in _NOT_OF_PAIRS.items() if getattr(recipe, knob) != nothing]
    if asked:
        raise InvalidRecipe(
            f"objective dpo takes no {', '.join(asked)}",
            "leave it out; dpo.beta says how closely the model is held to the base model",
        )
    if recipe.overlong == "split":
        raise InvalidRecipe("a pair cannot be split (overlong)", "set overlong to error, drop or truncate_left")


def _refuse_unknown(given: Mapping[str, Any], struct: type[msgspec.Struct], *, place: str) -> None:
    known = [knob for knob in struct.__struct_fields__ if knob != "auto"]
    for knob in given:
        if knob not in known:
            nearest = difflib.get_close_matches(str(knob), known, n=1, cutoff=0.0)[0]
            raise InvalidRecipe(f"unknown knob {place}{knob}", f"did you mean {place}{nearest}?")
