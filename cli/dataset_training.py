"""`tunemill dataset training`: on what a dataset is trained by itself."""

from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, DatasetName, Key, Url, at, connect
from tunemill.cli.output import complain, fields, print_json, say, tell
from tunemill.cli.recipe import Base, Method, RecipeFile, partial_recipe


def register(app: typer.Typer) -> None:
    """Add the command to `tunemill dataset`."""
    app.command("training")(training)


def training(
    name: DatasetName,
    *,
    on: Annotated[str | None, typer.Option(help="version: every new one; alias:prod: wherever that name goes.")] = None,
    quiet: Annotated[int, typer.Option(help="Seconds without another version before the run starts.", min=0)] = 600,
    priority: Annotated[int, typer.Option(help="Of runs that wait, the highest is next.")] = 0,
    off: Annotated[bool, typer.Option("--off", help="Train by hand only from now on.")] = False,
    method: Method = None,
    base: Base = None,
    recipe: RecipeFile = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have a dataset trained on by itself; alone it says whether that is so."""
    wanted = partial_recipe(method, base, recipe)
    if (on is None) != (wanted is None) or (off and on is not None):
        complain(
            "say both: --on version or --on alias:NAME, and --recipe FILE.yaml (or --method and --base); or --off alone"
        )
        raise typer.Exit(2)
    place = at("datasets", name, "training")
    with connect(url, key) as api:
        if off:
            api.delete(place)
            tell({"on": None}, f"{name} is trained on by hand only", as_json=as_json)
        elif on is not None:
            body = {"on": on, "recipe": wanted, "quiet_s": quiet, "priority": priority}
            tell(
                api.put(place, body),
                f"{name} is trained on by itself: {on}, after {quiet} quiet seconds",
                as_json=as_json,
            )
        else:
            _show(api.get(place), as_json=as_json)


def _show(policy: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(policy)
        return
    fields(policy)
    if policy["due_version"]:
        say(f"v{policy['due_version']} is due")
