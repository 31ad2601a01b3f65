"""`tunemill train`: order a training run."""

from typing import Annotated

import typer

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from tunemill.cli.output import complain, print_json, say
from tunemill.cli.recipe import Base, Method, RecipeFile, name_and_version, partial_recipe
from tunemill.cli.runs import follow


def train(
    dataset: Annotated[str, typer.Argument(help="The dataset version, as in support@v1.")],
    *,
    method: Method = None,
    base: Base = None,
    recipe: RecipeFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run until it ends.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a dataset version. The same version, base and recipe are trained once only."""
    name, version = name_and_version(dataset)
    wanted = partial_recipe(method, base, recipe)
    if wanted is None:
        complain("say what to train: --method and --base, or --recipe FILE.yaml")
        raise typer.Exit(2)
    with connect(url, key) as api:
        run = api.post("/runs", {"name": name, "version": version, "recipe": wanted})
        if not as_json:
            say(f"run {run['run_id']} is {run.get('status', 'queued')}")
        if wait:
            follow(api, run["run_id"], as_json=as_json)
        elif as_json:
            print_json(run)
