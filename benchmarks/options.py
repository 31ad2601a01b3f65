"""What the benchmarks of indices are asked for on their command lines."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Engine = Annotated[Literal["elasticsearch", "embedded"], typer.Option(help="Where the logs lie.")]
Input = Annotated[Path, typer.Option(help="Logs of any accepted shape: JSON lines, gzipped or not.")]
Logs = Annotated[int, typer.Option(help="Logs in the index; the input is repeated under fresh ids.")]
Rounds = Annotated[int, typer.Option(help="Rounds that count.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object.")]
