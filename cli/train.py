"""`tunemill train`: order a training run."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tunemill.cli.client import DEFAULT_URL, Api, AsJson, Key, Url, at, connect
from tunemill.cli.output import complain, print_json, say
from tunemill.cli.plan import show_plan
from tunemill.cli.recipe import Base, Method, RecipeFile, name_and_version, partial_recipe
from tunemill.cli.runs import follow

_POLL_S = 1.0
_PATIENCE = 15  # looks at the list of runs: a trainer takes an order on within seconds


def train(
    argument: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="The dataset version, as in support@v1.")
    ] = None,
    *,
    dataset: Annotated[str | None, typer.Option(help="The same as an option.")] = None,
    method: Method = None,
    base: Base = None,
    recipe: RecipeFile = None,
    priority: Annotated[int, typer.Option(help="Of runs that wait, the highest is next.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run until it ends.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what the run would be, as this machine would do it, and order nothing."),
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a dataset version. The same version, base and recipe are trained once only."""
    name, asked = name_and_version(_one_of(argument, dataset))
    wanted = partial_recipe(method, base, recipe)
    if wanted is None:
        complain("say what to train: --method and --base, or --recipe FILE.yaml")
        raise typer.Exit(2)
    with connect(url, key) as api:
        if dry_run:
            show_plan(api, name, asked, wanted, as_json=as_json)
            return
        version = int(asked) if asked.isdecimal() else api.get(at("datasets", name, "versions", asked))["version"]
        before = {run["run_id"] for run in _matching(api, name, version, wanted)}
        order = api.post("/runs", {"name": name, "version": version, "recipe": wanted, "priority": priority})
        if as_json and not wait:
            print_json(order)
        elif not as_json:
            say(
                f"training on {name}@v{version} is ordered. `tunemill runs list` shows the run when a trainer has taken it on."
            )
        if wait:
            follow(api, _taken_on(api, name, version, wanted, before), as_json=as_json)


def _one_of(argument: str | None, option: str | None) -> str:
    if (argument is None) == (option is None):
        complain("name one dataset version, such as support@v1")
        raise typer.Exit(2)
    return str(argument or option)


def _taken_on(api: Api, name: str, version: int, wanted: Mapping[str, Any], before: set[str]) -> str:
    """The id of the run that the order became: a new one, or, when none comes, the one that trained this before."""
    asked = 0
    while True:
        runs = _matching(api, name, version, wanted)
        new = [run for run in runs if run["run_id"] not in before]
        if new or (runs and asked >= _PATIENCE):
            return str((new or runs)[0]["run_id"])
        asked += 1
        if asked == _PATIENCE:
            known = "it was ordered before: that run is followed"
            complain(known if runs else "no trainer has taken it on yet; is one running?")
        time.sleep(_POLL_S)


def _matching(api: Api, name: str, version: int, wanted: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The runs on this version whose recipe says what is wanted, the newest first."""
    runs = api.get("/runs", limit=1000, name=name)["runs"]
    return [run for run in runs if run["version"] == version and _says(run["recipe"], wanted)]


def _says(recipe: Any, wanted: Any) -> bool:
    """Whether a recipe in full holds every value of a partial one."""
    if isinstance(wanted, Mapping):
        return isinstance(recipe, Mapping) and all(_says(recipe.get(knob), value) for knob, value in wanted.items())
    named = recipe["of"] if isinstance(recipe, Mapping) and "of" in recipe else recipe  # a version, spelled out
    return bool(named == wanted)
