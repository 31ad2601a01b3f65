"""`tunemill train --dry-run`: what a run would be on this machine, as tables with the reason for each value."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from tunemill.cli.client import Api, at
from tunemill.cli.output import complain, print_json, say, table

if TYPE_CHECKING:
    from tunemill.trainer.plan import Plan

_ROWS_AS_THEY_ARE = frozenset(
    {"train", "trained_examples", "validation", "replay", "held_out", "held_out_examples", "retention"}
)


def show_plan(api: Api, name: str, version: str, recipe: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the plan of a run on a version; exit code 1 where it cannot run or does not fit."""
    from transformers.utils import logging

    from tunemill.trainer.dry_run import plan_run
    from tunemill.trainer.errors import TrainerError
    from tunemill.trainer.plan import plan_data, too_much, what_to_change
    from tunemill.trainer.recipe import resolve

    logging.set_verbosity_error()
    files = _files(api, name, version)
    spelled_out = _with_versions(api, recipe)
    try:
        plan, rows = plan_run(files["manifest_url"], files["digest"], resolve(spelled_out))
    except TrainerError as error:
        complain(f"{error.message}: {error.remedy}")
        raise typer.Exit(1) from error
    if as_json:
        print_json({**plan_data(plan), "counts": rows})
    else:
        _say(plan, rows)
    if not plan.fits:
        complain(f"{too_much(plan)}. {what_to_change(plan)}")
        raise typer.Exit(1)


def _with_versions(api: Api, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with the versions that it names spelled out, as a trainer does for a run."""
    from tunemill.trainer.named_versions import version_named

    found = {knob: version_named(recipe[knob]) for knob in ("replay", "retention") if knob in recipe}
    said = {knob: {"of": match[0], **_files(api, match[1], match[2])} for knob, match in found.items() if match}
    return {**recipe, **said}


def _files(api: Api, name: str, version: str) -> dict[str, str]:
    """Where a version's manifest lies, and its digest."""
    found = api.get(at("datasets", name, "versions", version))
    return {"manifest_url": found["manifest_url"], "digest": found["digest"]}


def _say(plan: "Plan", rows: Mapping[str, int]) -> None:
    from tunemill.trainer.plan import in_short, readable

    say(in_short(plan))
    say(
        f"rows: {plan.rows:,} to train on and {plan.replay:,} general ones, {plan.held_out:,} held out; "
        f"{plan.overlong:,} longer than {plan.recipe.max_length_tokens:,} tokens ({plan.recipe.overlong})"
    )
    say(
        f"tokens an epoch: {plan.tokens:,}, about {plan.trained_tokens:,} trained on; forward passes are {plan.fill:.0%} full"
    )
    if otherwise := [f"{count:,} {name}" for name, count in rows.items() if count and name not in _ROWS_AS_THEY_ARE]:
        say(f"rows that are not used as they are (docs/rendering.md): {', '.join(otherwise)}")
    say()
    table(("knob", "value", "why"), [(one.name, one.value, one.reason) for one in plan.derived])
    say()
    parts = {**asdict(plan.estimate), "total_bytes": plan.estimate.total_bytes, "free_bytes": plan.available_bytes}
    table(("memory", "about"), [(name.removesuffix("_bytes"), readable(size)) for name, size in parts.items()])
