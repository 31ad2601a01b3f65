"""`pip install tunemill` in an empty environment: small, and enough to publish a log."""

import json
import subprocess
import sys
from pathlib import Path

from engines.absent import skip_or_fail
from fakes.log_server import log_server

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "faust-streaming", "fastapi", "pyarrow", "fastavro", "sqlalchemy", "pydantic", "openai", "litellm")
SCRIPT = """
import sys
from tunemill.sdk import Producer, TunemillHandler, log_context, wrap
with Producer(sys.argv[1], app="fresh", when_full="spool", spool_dir=sys.argv[2]) as producer:
    with log_context(session_id="s1"):
        producer.log(messages="hi", output="yo", model="m")
    assert producer.flush(20), producer.stats()
Producer("kafka://127.0.0.1:9").log(messages="hi")  # what it needs for Kafka is there
"""


def test_an_empty_environment_gets_the_sdk_and_little_else(tmp_path: Path) -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "benchmarks.sdk_install", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if measured.returncode:
        skip_or_fail(f"no package can be installed here: {measured.stderr[-3000:]}")
    found = json.loads(measured.stdout)
    assert "tunemill" in found["names"]
    assert set(found["names"]) & set(HEAVY) == set()
    assert found["packages"] == len(found["names"]) <= 10
    assert found["megabytes"] < 25
    with log_server() as server:
        python = tmp_path / "environment" / "bin" / "python"
        arguments = [python, "-c", SCRIPT, server.url, str(tmp_path / "spool")]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert [(log.app, log.session_id, log.messages[0].content) for log in server.logs] == [("fresh", "s1", "hi")]
