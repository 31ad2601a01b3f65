"""`tunemill trainer` says what is wrong with what it is told, before it opens anything."""

import pytest
from typer.testing import CliRunner

from tunemill.cli.app import app


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--launcher", "slurm:"], "ray+http://host:8265"),
        (["--launcher", "ray+http://head:8265?device=tpu"], "?device=cpu"),
        (["--slots", "3"], "want more GPUs than the 2"),
        (["--slots", "2", "--devices", "2"], "want more GPUs than the 2"),
    ],
)
def test_what_no_machine_can_do_is_refused(options: list[str], says: str) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1", "COLUMNS": "200"}
    result = CliRunner(env=environment).invoke(app, ["trainer", *options])
    assert (result.exit_code, says in result.output) == (2, True)
