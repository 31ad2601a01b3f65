"""Which commands there are, and where each lives. A command's module is imported only when the command runs."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class Late(NamedTuple):
    """A command that is not imported yet."""

    target: str  # module:attribute of a function (one command) or a `typer.Typer` (a group of them)
    help: str


COMMANDS = {
    "up": Late("tunemill.cli.up:up", "Start everything in one process, on the embedded engines."),
    "demo": Late("tunemill.cli.demo:demo", "Walk through the whole loop with sample logs and a small model."),
    "doctor": Late("tunemill.cli.doctor:doctor", "Check what tunemill depends on and say what to do."),
    "setup": Late("tunemill.cli.serve:setup", "Create topics, index and tables on the chosen engines."),
    "streams": Late("tunemill.cli.serve:streams", "Run the stream worker: decode, mask, tag, index."),
    "api": Late("tunemill.cli.serve:api", "Run the HTTP API and the web pages."),
    "trainer": Late("tunemill.cli.serve:trainer", "Run the trainer: wait for dataset versions and train on them."),
    "ingest": Late("tunemill.cli.ingest:ingest", "Send a file of logs to a server."),
    "formats": Late("tunemill.cli.formats:formats", "List the shapes of logs that are accepted."),
    "search": Late("tunemill.cli.search:search", "Search the logs."),
    "feedback": Late("tunemill.cli.feedback:feedback", "Send a file of feedback to a server."),
    "saved": Late("tunemill.cli.saved:app", "Keep searches under a name."),
    "logs": Late("tunemill.cli.logs:app", "Look at one log, tag it, correct it, take that back, delete it."),
    "bulk": Late("tunemill.cli.bulk:app", "Tag, delete or set the consent of all logs that match a query."),
    "jobs": Late("tunemill.cli.jobs:app", "Follow work on many logs, stop it, take it back."),
    "erase": Late("tunemill.cli.erase:erase", "Have logs forgotten everywhere, and get the receipt."),
    "reindex": Late("tunemill.cli.reindex:reindex", "Make the search index anew from the stored logs."),
    "retention": Late("tunemill.cli.retention:app", "Say how long logs are kept."),
    "dlq": Late("tunemill.cli.dlq:app", "Look at records that could not be processed, and send them again."),
    "rules": Late("tunemill.cli.rules:app", "Try rules out, put them in force, apply them to history."),
    "tags": Late("tunemill.cli.tags:app", "Learn tags from labelled logs."),
    "dataset": Late("tunemill.cli.dataset:app", "Gather, edit, publish and export datasets."),
    "webhooks": Late("tunemill.cli.webhooks:app", "Have every version, and the end of every run, told to an address."),
    "train": Late("tunemill.cli.train:train", "Train a model on a dataset version."),
    "runs": Late("tunemill.cli.runs:app", "Follow training runs, compare them, take them up again."),
    "models": Late("tunemill.cli.models:app", "See the models of a dataset, and say which is used."),
}


def load(name: str) -> Any:
    """The real command of this name, imported now."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    source = import_module(module)
    found: typer.Typer | Callable[..., Any] = getattr(source, attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    single = typer.Typer(add_completion=False)
    single.command(name, cls=getattr(source, "CLASS", None), epilog=getattr(source, "EPILOG", None))(found)
    return typer.main.get_command(single)


class LateGroup(TyperGroup):
    """Lists commands by their line in COMMANDS; imports the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The called command, in place of its listed stand-in."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else stand_in, rest


# Locals are never shown in a traceback: they can hold keys and log text.
app = typer.Typer(
    cls=LateGroup,
    help="Turn an application's LLM logs into tuned models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def _list(name: str, summary: str) -> None:
    app.command(name, help=summary)(lambda: None)


for _name, _late in COMMANDS.items():
    _list(_name, _late.help)
