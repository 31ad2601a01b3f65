"""The experiment on gain and forgetting: what it compares, and that it goes on where it was left."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fakes.tiny_model import tickets

ROOT = Path(__file__).parents[2]


def experiment(out: Path, rows: Path, *options: str) -> dict[str, Any]:
    """What it ends with, on a tiny model."""
    knobs = json.dumps({"max_steps": 2, "eval_generate_rows": 4, "max_new_tokens": 4, "precision": "fp32"})
    given = ["--base", "tiny", "--out", str(out), "--rows", str(rows), "--recipe", knobs, *options, "--json"]
    command = [sys.executable, "-m", "benchmarks.forgetting", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_an_arm_is_held_against_the_best_gain_and_against_plain_training(tmp_path: Path) -> None:
    out, rows = tmp_path / "runs.jsonl", tmp_path / "rows.jsonl"
    call = {"type": "function", "function": {"name": "route", "arguments": '{"team": "a"}'}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    tools = [{"type": "function", "function": {"name": "route", "parameters": {"type": "object"}}}]
    with_call = {"messages": [{"role": "user", "content": "Route it."}, called], "tools": tools}
    rows.write_text("\n".join(json.dumps(row) for row in [with_call, *tickets(20)]))

    first = experiment(out, rows, "--arms", "plain")["runs"]
    measured = {**first[0], "gain_nats": 2.0, "retention_rise_nats": 0.6}  # figures that can be computed by hand
    replay = {**measured, "key": {**measured["key"], "arm": "replay"}, "gain_nats": 1.9, "retention_rise_nats": 0.15}
    other = {**measured, "key": {**measured["key"], "method": "qlora"}, "gain_nats": 9.0}  # from another base
    out.write_text("".join(json.dumps(line) + "\n" for line in (measured, replay, other)) + '{"key": {"met')
    found = experiment(out, rows, "--arms", "plain,replay,base_answers")

    assert [run["key"]["arm"] for run in found["runs"]] == ["plain", "replay", "plain", "base_answers"]
    assert found["runs"][:3] == [measured, replay, other], "finished runs are not run again"
    assert found["groups"]["lora/replay"]["share_of_best_gain"] == 0.95
    assert found["groups"]["lora/replay"]["share_of_plain_forgetting"] == pytest.approx(0.25)
    assert found["default"] in {f"lora/{arm}" for arm in ("replay", "base_answers", "kl", "both")}
    signs = [
        node for node in ElementTree.fromstring(out.with_suffix(".svg").read_text()).iter() if node.tag.endswith("}g")
    ]
    assert len(signs) == 4 + 2 + 3, "four runs, and a legend of two methods and three arms"
