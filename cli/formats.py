"""`tunemill formats`: the shapes of logs that are accepted."""

from tunemill.cli.client import AsJson
from tunemill.cli.output import print_json, table
from tunemill.streams.formats.registry import SHAPES


def formats(as_json: AsJson = False) -> None:
    """List the shapes that are accepted, in the order in which they are tried. docs/sources has a page for each."""
    listed = [{"name": shape.name, "about": shape.about} for shape in SHAPES]
    if as_json:
        print_json(listed)
    else:
        table(("format", "what it is"), [(shape["name"], shape["about"]) for shape in listed])
