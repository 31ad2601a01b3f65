"""One client run: as a process of its own, in its own environment."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clients.case import as_sent
from clients.environments import environment
from clients.roster import Client

HERE = Path(__file__).parent
LONGEST_S = 240
_LAST_WORDS = 4000  # characters of a failed driver's output that are shown


Told = dict[str, dict[str, str | None]]  # by case, the ids that a driver told


class DriverFailed(Exception):
    """A client's process ended with an error; the message ends with what it said."""


def drive(client: Client, *, model_url: str, to: str, key: str, run: str = "", arguments: Sequence[str] = ()) -> Told:
    """Make every case's call with the real client, and return by case the ids that its log can be found by.

    Args:
        run: a suffix of the models' names.
        arguments: further ones of this client's script.

    Raises:
        EnvironmentAbsent: the client can't be installed here.
        DriverFailed: the client's process failed.
    """
    python = environment(client.environment)
    with tempfile.TemporaryDirectory(prefix="tunemill-client-") as folder:
        asked = Path(folder) / "cases.json"
        asked.write_text(json.dumps(as_sent(client.cases, client.name + run)), encoding="utf-8")
        command = [str(python), "-W", "ignore", str(HERE / client.script), *client.arguments, *arguments]
        command += ["--cases", str(asked), "--model-url", model_url, "--to", to, "--key", key]
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=LONGEST_S, env=_variables(client), cwd=folder
        )
    if done.returncode:
        raise DriverFailed(f"{client.name}: {(done.stdout + done.stderr)[-_LAST_WORDS:]}")
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
    return {line.pop("case"): line for line in told}


def _variables(client: Client) -> dict[str, str]:
    """This process's variables without what would change a client's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LANGFUSE_", "PYTHON"))}
    return {**kept, **client.variables}
