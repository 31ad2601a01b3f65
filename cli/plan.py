"""`tunemill train --dry-run`: what a run would be on this machine, as tables with the reason for each value."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from tunemill.cli.output import complain, print_json, say, table

if TYPE_CHECKING:
    from tunemill.trainer.plan import Plan


def show_plan(version: Mapping[str, Any], recipe: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the plan of a run on a version; exit code 1 where it cannot run or does not fit."""
    from transformers.utils import logging

    from tunemill.trainer.dry_run import plan_run
    from tunemill.trainer.errors import TrainerError
    from tunemill.trainer.plan import plan_data, too_much, what_to_change
    from tunemill.trainer.recipe import resolve

    logging.set_verbosity_error()
    try:
        plan = plan_run(version["manifest_url"], version["digest"], resolve(recipe))
    except TrainerError as error:
        complain(f"{error.message}: {error.remedy}")
        raise typer.Exit(1) from error
    if as_json:
        print_json(plan_data(plan))
    else:
        _say(plan)
    if not plan.fits:
        complain(f"{too_much(plan)}. {what_to_change(plan)}")
        raise typer.Exit(1)


def _say(plan: "Plan") -> None:
    from tunemill.trainer.plan import in_short, readable

    say(in_short(plan))
    say(
        f"rows: {plan.rows:,} to train on, {plan.replay:,} general ones among them, {plan.held_out:,} held out; "
        f"{plan.overlong:,} longer than {plan.recipe.max_length_tokens:,} tokens ({plan.recipe.overlong})"
    )
    say(
        f"tokens an epoch: {plan.tokens:,}, about {plan.trained_tokens:,} trained on; forward passes are {plan.fill:.0%} full"
    )
    say()
    table(("knob", "value", "why"), [(one.name, one.value, one.reason) for one in plan.derived])
    say()
    parts = {**asdict(plan.estimate), "total_bytes": plan.estimate.total_bytes, "free_bytes": plan.available_bytes}
    table(("memory", "about"), [(name.removesuffix("_bytes"), readable(size)) for name, size in parts.items()])
