"""`tunemill train --dry-run` on a published version: everything is said, nothing is loaded, and what cannot fit is refused."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, Server, json_answer, serving
from fakes.tiny_model import publish_dataset, save_tiny_model, tickets
from typer.testing import CliRunner, Result

from tunemill.cli.app import app


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights end after their header: whoever reads one fails."""
    texts = [message["content"] for row in tickets(60) for message in row["messages"]]
    folder = save_tiny_model(tmp_path_factory.mktemp("base"), texts)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: 8 + int.from_bytes(content[:8], "little")])
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An API that knows one version, and takes no order."""
    rows = {"train": tickets(48), "test": tickets(12, start=300)}
    published = {
        "/v1/datasets/tickets/versions/1": publish_dataset(tmp_path / "files", "tickets", rows),
        "/v1/datasets/general/versions/3": publish_dataset(tmp_path / "files", "general", {"train": tickets(20)}),
    }

    def answer(asked: Asked) -> Answer:
        assert asked.method == "GET"
        url, digest = published[asked.path]
        return json_answer({"manifest_url": url, "digest": digest})

    with serving(answer) as serving_it:
        yield serving_it


def run(server: Server, *args: str) -> Result:
    return CliRunner(env={"TUNEMILL_URL": server.url, "COLUMNS": "200"}).invoke(app, ["train", *args])


def test_the_plan_is_told_with_its_reasons_and_no_weight_is_read(server: Server, base: Path) -> None:
    result = run(server, "--dataset", "tickets@v1", "--base", str(base), "--dry-run")

    assert result.exit_code == 0, result.output
    for said in (
        "rows: 48 to train on and 5 general ones, 12 held out",
        "LoRA on a model of 106,816 parameters",
    ):
        assert said in result.stdout
    for part in ("learning_rate", "0.0002", "activations", "total", "free", "42 steps", "within a factor of two"):
        assert part in result.stdout


def test_long_rows_are_told_or_refused_as_a_run_would(server: Server, base: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"base: {base}\nmax_length_tokens: 30\noverlong: truncate_left\n")
    told = run(server, "tickets@v1", "--recipe", str(file), "--dry-run")
    assert re.search(r"not used as they are .*[1-9][0-9]* truncated", told.stdout)
    file.write_text(file.read_text().replace("truncate_left", "error"))
    refused = run(server, "tickets@v1", "--recipe", str(file), "--dry-run")
    assert refused.exit_code == 1
    assert "are longer than 30 tokens" in refused.stderr


def test_as_json_it_is_the_plan_and_nothing_else(server: Server, base: Path) -> None:
    result = run(server, "tickets@v1", "--base", str(base), "--method", "qlora", "--dry-run", "--json")

    plan: dict[str, Any] = json.loads(result.stdout)
    assert (plan["rows"], plan["held_out"], plan["steps"], plan["fits"]) == (48, 12, 42, True)
    assert plan["recipe"]["method"] == "qlora"
    assert plan["estimate"]["total_bytes"] < plan["available_bytes"]
    assert plan["seconds"] > 0
    assert 0 < plan["trained_tokens"] < plan["tokens"]
    assert plan["changes"] == []
    assert plan["counts"]["trained_examples"] == 48


def test_general_rows_of_a_version_are_found_as_a_run_would_find_them(
    server: Server, base: Path, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"base: {base}\nreplay: general@v3\nreplay_share: 0.2\n")
    result = run(server, "tickets@v1", "--recipe", str(file), "--dry-run", "--json")

    plan: dict[str, Any] = json.loads(result.stdout)
    assert plan["replay"] == 12
    assert plan["recipe"]["replay"]["of"] == "general@v3"


def test_what_cannot_fit_ends_with_the_estimate_and_what_to_change(server: Server, base: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    for file in base.iterdir():
        (large / file.name).write_bytes(file.read_bytes())
    config = json.loads((base / "config.json").read_text())
    config |= {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80, "num_attention_heads": 64}
    config |= {"num_key_value_heads": 8, "head_dim": 128}
    (large / "config.json").write_text(json.dumps(config))

    result = run(server, "tickets@v1", "--base", str(large), "--method", "full", "--dry-run", "--json")

    assert result.exit_code == 1
    plan: dict[str, Any] = json.loads(result.stdout)
    assert not plan["fits"]
    assert plan["estimate"]["total_bytes"] > 10**12
    assert {change["what"] for change in plan["changes"]} >= {"method lora", "method qlora"}
    assert "optimizer 547." in result.stderr
    assert "method qlora saves 1" in result.stderr


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        (["--base", "/nowhere"], "does not exist"),
        (["--method", "lora"], "names no base model"),
    ],
)
def test_what_a_run_would_be_refused_for_is_said_at_once(server: Server, knobs: list[str], said: str) -> None:
    result = run(server, "tickets@v1", *knobs, "--dry-run")
    assert result.exit_code == 1
    assert said in result.stderr


@pytest.mark.parametrize("named", [[], ["tickets@v1", "--dataset", "tickets@v1"]])
def test_one_version_is_named(server: Server, named: list[str]) -> None:
    assert run(server, *named, "--base", "b", "--dry-run").exit_code == 2
