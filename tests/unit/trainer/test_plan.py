"""What is left to us is settled by the rows, the model and the machine, each value with its reason; what cannot fit is refused."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as with_fields

from tunemill.trainer.derive import Facts
from tunemill.trainer.errors import DoesNotFit, InvalidRun, NothingToTrain
from tunemill.trainer.estimate import estimate
from tunemill.trainer.machine import Machine
from tunemill.trainer.plan import make_plan, plan_data, settle
from tunemill.trainer.recipe import AUTO, Recipe, resolve
from tunemill.trainer.shape import Shape

SMALL = Shape(  # SmolLM2-135M
    parameters=134_515_008,
    linear=106_168_320,
    adapter=4_884_480,
    layers=30,
    hidden=576,
    intermediate=1536,
    vocabulary=49_152,
    context_tokens=8192,
)
LARGE = Shape(  # a Llama of 8 B
    parameters=8_030_261_248,
    linear=6_979_321_856,
    adapter=41_943_040,
    layers=32,
    hidden=4096,
    intermediate=14_336,
    vocabulary=128_256,
    context_tokens=8192,
)
CPU = Machine(device="cpu", memory_bytes=20 * 10**9, native_bf16=True)
GPU = Machine(device="cuda", memory_bytes=80 * 10**9, native_bf16=True)


def recipe(**knobs: Any) -> Recipe:
    return resolve({"base": "/models/x", **knobs})


def facts(rows: int = 160, tokens: int = 100, longest: int | None = None, trained: float = 0.5) -> Facts:
    lengths = (tokens,) * (rows - 1) + (longest or tokens,)
    answers = int(trained * sum(lengths))
    return Facts(rows=rows, replay=0, held_out=40, lengths=lengths, trained_tokens=answers, longest_tokens=lengths[-1])


def settled(given: Recipe, rows: Facts, shape: Shape = SMALL, machine: Machine = CPU, squeeze: int = 0) -> Recipe:
    return settle(given, rows, shape, machine, squeeze=squeeze)[0]


def test_every_knob_that_is_left_to_us_gets_a_value_and_a_reason() -> None:
    chosen, plan = settle(recipe(), facts(), SMALL, CPU)

    assert chosen.auto == ()
    assert sorted(derived.name for derived in plan.derived) == sorted(AUTO)
    assert all(getattr(chosen, derived.name) == derived.value and derived.reason for derived in plan.derived)


def test_what_is_given_stays() -> None:
    knobs = {"epochs": 7.0, "learning_rate": 1e-3, "rows_per_step": 3, "tokens_per_forward": 300}
    knobs |= {"max_length_tokens": 90, "checkpoint_steps": 4, "overlong": "truncate_left"}
    chosen, plan = settle(recipe(**knobs, gradient_checkpointing=True), facts(), SMALL, CPU)

    assert {name: getattr(chosen, name) for name in knobs} == knobs
    assert chosen.gradient_checkpointing
    assert plan.derived == ()


@pytest.mark.parametrize(("rows", "epochs"), [(2_000, 3), (2_001, 2), (20_000, 2), (20_001, 1)])
def test_more_rows_are_seen_less_often(rows: int, epochs: float) -> None:
    assert settled(recipe(), facts(rows)).epochs == epochs


@pytest.mark.parametrize(("rows", "per_step"), [(30, 4), (160, 8), (320, 16), (5_000, 16)])
def test_an_epoch_of_few_rows_has_twenty_steps_still(rows: int, per_step: int) -> None:
    assert settled(recipe(), facts(rows)).rows_per_step == per_step


@pytest.mark.parametrize(
    ("knobs", "shape", "rate"),
    [
        ({"method": "lora"}, SMALL, 2e-4),
        ({"method": "qlora"}, SMALL, 2e-4),
        ({"method": "lora"}, LARGE, 2e-4),
        ({"method": "full"}, SMALL, 5e-5),
        ({"method": "full"}, LARGE, 1e-5),
        ({"method": "lora", "objective": "dpo"}, LARGE, 1e-5),
    ],
)
def test_the_learning_rate_goes_by_method_and_size(knobs: dict[str, Any], shape: Shape, rate: float) -> None:
    roomy = with_fields(GPU, memory_bytes=10**12)
    assert settled(recipe(**knobs), facts(), shape, roomy).learning_rate == pytest.approx(rate)


def test_no_row_is_longer_than_the_model_reads() -> None:
    assert settled(recipe(), facts(longest=700)).max_length_tokens == 700
    chosen, plan = settle(recipe(), facts(longest=3000), with_fields(SMALL, context_tokens=2048), CPU)
    assert chosen.max_length_tokens == 2048
    assert plan.overlong == 1
    assert plan.tokens == 159 * 100, "the long one is dropped"
    assert settled(recipe(), facts(longest=50_000), LARGE, GPU).max_length_tokens == 8192


@pytest.mark.parametrize(
    ("rows", "machine", "tokens", "reason"),
    [
        (facts(tokens=20), CPU, 256, "a whole step"),  # of 8 rows, which have 160 tokens
        (facts(5_000, tokens=500), CPU, 2_048, "more gains no speed"),
        (facts(5_000, tokens=500, longest=3_000), CPU, 3_000, "the longest row"),
        (facts(5_000, tokens=4_000), GPU, 16_384, "more gains no speed"),
        (facts(5_000, tokens=500), with_fields(CPU, memory_bytes=6 * 10**9), 1_024, "what the memory holds"),
    ],
)
def test_as_many_tokens_at_once_as_gain_speed(rows: Facts, machine: Machine, tokens: int, reason: str) -> None:
    chosen, plan = settle(recipe(), rows, SMALL, machine)
    assert chosen.tokens_per_forward == tokens
    assert {one.reason for one in plan.derived if one.name == "tokens_per_forward"} == {reason}


def test_less_memory_first_takes_tokens_then_checkpointing() -> None:
    rows = facts(400, tokens=300)
    seen = []
    for memory in range(400, 20, -1):
        plan = make_plan(recipe(), rows, SMALL, with_fields(CPU, memory_bytes=memory * 25 * 10**6))
        seen.append((plan.recipe.gradient_checkpointing, plan.recipe.tokens_per_forward, plan.fits))

    without = [tokens for checkpointing, tokens, fits in seen if fits and not checkpointing]
    assert without[0] == 2_048
    assert without[-1] == 300, "down to the longest row"
    assert without == sorted(without, reverse=True)
    order = [(not fits, checkpointing) for checkpointing, _, fits in seen]
    assert order == sorted(order), "fewer tokens, then checkpointing, then it does not fit"
    assert {(False, False), (False, True), (True, True)} == set(order)


def test_merging_takes_a_second_model_when_training_has_given_its_memory_back() -> None:
    less = {"method": "lora", "gradient_checkpointing": True, "tokens_per_forward": 100}
    plain, merged = (make_plan(recipe(**less, merge=merge), facts(), LARGE, CPU) for merge in (False, True))
    of_training = plain.estimate.total_bytes - plain.estimate.weights_bytes - plain.estimate.runtime_bytes

    assert plain.estimate.merging_bytes == 0
    assert merged.estimate.merging_bytes == 6 * LARGE.parameters - of_training
    assert merged.estimate.total_bytes == plain.estimate.total_bytes + merged.estimate.merging_bytes
    assert "merge false" in {change.what for change in merged.changes}
    assert make_plan(recipe(**less, dora=True), facts(), LARGE, CPU).estimate.merging_bytes > 0, "it is merged unasked"
    assert make_plan(recipe(**less, merge=True), facts(), LARGE, GPU).estimate.merging_bytes == 0, (
        "it is done on the CPU"
    )
    short = make_plan(recipe(merge=True, gradient_checkpointing=False), facts(5_000, tokens=500), MIDDLE, CPU)
    assert short.estimate.merging_bytes == 0, "training needs more"


def test_what_cannot_fit_is_refused_with_what_to_change() -> None:
    with pytest.raises(DoesNotFit) as caught:
        settle(recipe(method="full", gradient_checkpointing=False), facts(), LARGE, GPU)

    plan = make_plan(recipe(method="full", gradient_checkpointing=False), facts(), LARGE, GPU)
    for line in ("weights 48.18 GB", "gradients 32.12 GB", "optimizer 64.24 GB", "80.00 GB are free"):
        assert line in caught.value.message
    saved = {change.what: change for change in plan.changes}
    assert {"method lora", "method qlora", "a base model of half the size", "2 devices"} <= set(saved)
    assert {"gradient_checkpointing true", "max_length_tokens 50"} <= set(saved)
    assert saved["method lora"].fits
    assert not saved["gradient_checkpointing true"].fits
    lora = make_plan(recipe(method="lora", gradient_checkpointing=False, tokens_per_forward=100), facts(), LARGE, GPU)
    assert saved["method lora"].saves_bytes == plan.estimate.total_bytes - lora.estimate.total_bytes
    assert "method qlora saves " in caught.value.remedy
    assert [c.saves_bytes for c in plan.changes] == sorted((c.saves_bytes for c in plan.changes), reverse=True)


def test_each_attempt_that_ran_out_of_memory_halves_the_tokens() -> None:
    rows = facts(5_000, tokens=500)
    sizes = [settled(recipe(), rows, squeeze=squeeze).tokens_per_forward for squeeze in range(4)]
    assert sizes == [2_048, 1_024, 512, 500]
    given = recipe(tokens_per_forward=4_096, gradient_checkpointing=False)
    chosen, plan = settle(given, rows, SMALL, CPU, squeeze=1)
    assert (chosen.tokens_per_forward, chosen.gradient_checkpointing) == (2_048, True)
    assert [derived.reason for derived in plan.derived[-2:]] == ["1 attempt ran out of memory"] * 2


def test_only_the_knobs_of_memory_depend_on_the_machine() -> None:
    rows = facts(5_000, tokens=500)
    here = settled(recipe(), rows, SMALL, CPU)
    there = settled(recipe(), rows, SMALL, with_fields(GPU, memory_bytes=4 * 10**9))
    differ = {name for name in Recipe.__struct_fields__ if getattr(here, name) != getattr(there, name)}
    assert differ <= {"tokens_per_forward", "gradient_checkpointing"}


def test_steps_and_time_follow_from_the_rows() -> None:
    machine = with_fields(CPU, flops_per_s=10**11)
    plan = make_plan(recipe(), facts(320), SMALL, machine)
    assert plan.steps == 60
    assert plan.trained_tokens == 16_000
    assert 0.7 < plan.fill <= 1.0
    weights = SMALL.linear + 0.5 * SMALL.hidden * SMALL.vocabulary
    assert plan.seconds == pytest.approx(3 * 32_000 * 4 * weights / 10**11)
    full = make_plan(recipe(method="full"), facts(320), SMALL, machine)
    assert full.seconds == pytest.approx(1.5 * plan.seconds)
    assert make_plan(recipe(max_steps=5), facts(320), SMALL, CPU).steps == 5


def test_a_row_that_is_longer_than_a_forward_pass_fills_its_own() -> None:
    assert make_plan(recipe(tokens_per_forward=64), facts(20, 1000), SMALL, CPU).fill == 1.0


def test_a_tokenizer_of_another_model_is_refused() -> None:
    known = replace(facts(), highest_id=SMALL.vocabulary - 1)
    make_plan(recipe(), known, SMALL, CPU)

    with pytest.raises(InvalidRun, match=r"token 49152, and the model knows 49,152"):
        make_plan(recipe(), replace(known, highest_id=SMALL.vocabulary), SMALL, CPU)


def test_no_longer_rows_are_asked_for_than_the_model_reads() -> None:
    make_plan(recipe(max_length_tokens=8192), facts(), SMALL, CPU)

    with pytest.raises(InvalidRun, match="is 8,193, and the model reads 8,192 tokens") as caught:
        make_plan(recipe(max_length_tokens=8193), facts(), SMALL, CPU)
    assert "8192 or less" in caught.value.remedy


def test_rows_that_early_stopping_sets_aside_are_not_trained_on() -> None:
    rows = replace(facts(320, longest=700), aside=(100,) * 15 + (700,))
    plain, stopping = (make_plan(recipe(early_stopping=early), rows, SMALL, CPU) for early in (None, {}))

    assert (plain.steps, stopping.steps) == (60, 63), "21 steps for 304 rows, of 15 each, three times"
    assert (plain.tokens, stopping.tokens) == (319 * 100 + 700, 304 * 100)
    one = replace(facts(1), aside=(100,))
    with pytest.raises(NothingToTrain, match="early_stopping sets aside"):
        make_plan(recipe(early_stopping={}), one, SMALL, CPU)


def test_a_pair_must_fit_with_each_answer_and_goes_through_with_both() -> None:
    pairs = replace(facts(longest=2_000), sides=2)
    plan = make_plan(recipe(objective="dpo"), pairs, with_fields(SMALL, context_tokens=2_048), CPU)
    alone = make_plan(recipe(), facts(longest=2_000), with_fields(SMALL, context_tokens=2_048), CPU)

    assert (plan.recipe.max_length_tokens, plan.overlong, plan.steps) == (2_000, 0, alone.steps)
    assert plan.recipe.tokens_per_forward == 4_000, "both sides at once"
    assert plan.tokens == 2 * alone.tokens
    assert plan.estimate.activations_bytes > alone.estimate.activations_bytes


def test_no_row_within_the_limit_is_said() -> None:
    with pytest.raises(NothingToTrain, match="none is within"):
        make_plan(recipe(max_length_tokens=50), facts(), SMALL, CPU)


MIDDLE = Shape(  # a random Llama
    parameters=31_469_952,
    linear=25_165_824,
    adapter=1_736_704,
    layers=16,
    hidden=384,
    intermediate=1024,
    vocabulary=16_384,
    context_tokens=4096,
)


@pytest.mark.parametrize(
    ("method", "precision", "checkpointing", "peak_bytes"),
    [
        ("full", "fp32", False, 3.11e9),
        ("full", "bf16", False, 2.95e9),
        ("lora", "fp32", False, 3.93e9),
        ("lora", "bf16", False, 2.66e9),
        ("qlora", "bf16", False, 4.12e9),
        ("lora", "bf16", True, 1.89e9),
    ],
)
def test_estimates_are_near_what_was_measured(
    method: str, precision: str, checkpointing: bool, peak_bytes: float
) -> None:
    """Peak resident memory of two steps with 2,048 packed tokens, half of them trained on, on a CPU."""
    knobs = {"precision": precision, "gradient_checkpointing": checkpointing, "tokens_per_forward": 2048}
    said = estimate(recipe(method=method, **knobs), MIDDLE, CPU, logits_per_token=0.5)
    assert 0.8 < said.total_bytes / peak_bytes < 1.3


def test_a_4_bit_weight_takes_about_half_a_byte() -> None:
    lora = estimate(recipe(method="lora", precision="bf16"), LARGE, GPU)
    qlora = estimate(recipe(method="qlora", precision="bf16"), LARGE, GPU)
    rest = LARGE.parameters - LARGE.linear
    assert qlora.weights_bytes == pytest.approx(0.516 * LARGE.linear + 4 * rest + 4 * LARGE.adapter, rel=1e-6)
    assert qlora.weights_bytes < lora.weights_bytes
    assert (qlora.gradients_bytes, qlora.optimizer_bytes) == (lora.gradients_bytes, lora.optimizer_bytes)


def test_several_devices_share_what_can_be_cut() -> None:
    two, sixteen = (with_fields(GPU, devices=devices) for devices in (2, 16))
    for method, share in (("full", 0.5), ("qlora", 1.0)):
        alone, each = (estimate(recipe(method=method), LARGE, machine) for machine in (GPU, two))
        assert each.weights_bytes == pytest.approx(share * alone.weights_bytes)
        assert each.gradients_bytes == pytest.approx(share * alone.gradients_bytes)
        assert each.activations_bytes == alone.activations_bytes
    whole, part = (estimate(recipe(method="lora"), LARGE, machine) for machine in (GPU, sixteen))
    assert part.total_bytes - part.runtime_bytes == pytest.approx(whole.weights_bytes), "it is loaded whole, then cut"


def test_answers_alone_take_logits() -> None:
    few, many = (make_plan(recipe(), facts(trained=share), SMALL, CPU).estimate for share in (0.1, 0.5))
    assert few.logits_bytes == pytest.approx(many.logits_bytes / 5, rel=0.01)


def test_closeness_to_the_base_takes_logits_of_both_and_for_full_a_second_model() -> None:
    for method, copies in (("lora", 0), ("full", 1)):
        plain, close = (
            make_plan(recipe(method=method, kl_to_base=kl), facts(), SMALL, CPU).estimate for kl in (0.0, 0.1)
        )
        assert close.logits_bytes == pytest.approx(plain.logits_bytes * (0.75 + 2 * 0.32) / 0.75, rel=0.01)
        assert close.weights_bytes - plain.weights_bytes == copies * 4 * SMALL.parameters


def test_the_plan_as_data_is_what_a_recipe_file_may_hold() -> None:
    plan = make_plan(recipe(), facts(), SMALL, CPU)
    data = plan_data(plan)
    assert resolve(data["recipe"]) == plan.recipe
    assert data["estimate"]["total_bytes"] == plan.estimate.total_bytes
    assert {entry["name"] for entry in data["derived"]} == set(AUTO)


@pytest.mark.parametrize(("policy", "tokens"), [("drop", 0), ("truncate_left", 200), ("split", 4 * 200)])
def test_long_rows_count_as_their_policy_leaves_them(policy: str, tokens: int) -> None:
    plan = make_plan(recipe(max_length_tokens=200, overlong=policy), facts(longest=700), SMALL, CPU)
    assert plan.tokens == 159 * 100 + tokens
    assert plan.overlong == 1
