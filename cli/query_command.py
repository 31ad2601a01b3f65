"""A command that takes a query, which may begin with `-` as in `-refund`: such a word is no option unless one is called so."""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from typer.core import TyperCommand, TyperOption


class QueryCommand(TyperCommand):
    """A command whose arguments may begin with one `-`. What begins with two is an option, and refused if it is none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the command's name."""
        options = [param for param in self.get_params(ctx) if isinstance(param, TyperOption)]
        takes = {name: 0 if one.is_flag else one.nargs for one in options for name in (*one.opts, *one.secondary_opts)}
        return super().parse_args(ctx, arguments_last(args, takes) if args else args)


def arguments_last(words: Sequence[str], takes: Mapping[str, int]) -> list[str]:
    """The same words in the order that needs no guess: options with their values, `--`, arguments. Pure.

    Args:
        takes: by the name of an option, how many words belong to it as its value.
    """
    options: list[str] = []
    arguments: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            arguments += left
        elif _is_option(word, takes):
            values = list(islice(left, takes.get(word, 0)))
            options += [word, *values]
            if len(values) < takes.get(word, 0):
                return options  # a `--` behind it would be taken for the value that it lacks
        else:
            arguments.append(word)
    return [*options, "--", *arguments]


def _is_option(word: str, names: Collection[str]) -> bool:
    return word.startswith("--") or word in names
