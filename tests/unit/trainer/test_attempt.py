"""A whole run with a tiny model: what its result says, what it shows of rows, and what leaves the machine."""

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.http_server import Asked, json_answer, serving
from fakes.tiny_model import publish_dataset, sources_url, tickets

from tunemill.schemas.row_scores import ROW_SCORES_FILE, RowScores
from tunemill.schemas.run_report import SAMPLES_FILE
from tunemill.trainer import judge
from tunemill.trainer.attempt import run
from tunemill.trainer.job import Line, Listener, Order, Speaker, WorkFolder
from tunemill.trainer.recipe import resolve

KNOBS = {"max_steps": 2, "eval_generate_rows": 6, "max_new_tokens": 6, "precision": "fp32", "judge_rows": 4}
KEY = "sk-secret"


@pytest.fixture
def order(tmp_path: Path, tiny_base: Path) -> Order:
    said = [{"app": "web" if i % 2 else "mail"} for i in range(12)]
    splits = {"train": tickets(16), "test": tickets(12, start=500)}
    url, digest = publish_dataset(
        tmp_path / "files", "tickets", splits, sources={"train": [{"app": "web"}] * 16, "test": said}
    )
    names = {"run_id": "run-1", "attempt": 1, "project": "default", "name": "tickets", "version": 1}
    recipe = resolve({"base": str(tiny_base), **KNOBS})
    return Order(**names, digest=digest, manifest_url=url, sources_url=sources_url(url), recipe=recipe)


def attempt(order: Order, folder: WorkFolder) -> list[Line]:
    folder.path.mkdir()
    with closing(Speaker(folder.progress(1))) as speaker:
        run(order, folder, speaker, lambda: False)
    return Listener(folder.progress(1)).lines()


def test_its_result_has_slices_forgetting_and_the_judge_s_word_and_no_text(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prefers_the_first(_: Asked) -> Any:
        return json_answer({"choices": [{"message": {"content": '{"better": "A"}'}}]})

    folder = WorkFolder(tmp_path / "run")
    with serving(prefers_the_first) as server:
        for name, value in ((judge.URL, f"{server.url}/v1"), (judge.MODEL, "judge-1"), (judge.KEY, KEY)):
            monkeypatch.setenv(name, value)
        lines = attempt(order, folder)

    result = lines[-1].data["result"]
    assert {one["value"] for one in result["slices"] if one["slice"] == "app"} == {"web", "mail"}
    assert result["metrics"]["loss"]["rows"] == 12
    assert result["metrics"]["f1"]["rows"] == 6
    assert len(result["forgetting"]["by_topic"]) == 10
    assert (result["judge"]["ties"], result["judge"]["rows"], len(server.asked)) == (4, 4, 8)
    assert not any(b"Route the ticket" in msgspec.json.encode(line) for line in lines), "no text of rows is told"
    assert b"Route the ticket" in (folder.artefact / SAMPLES_FILE).read_bytes()
    rows = msgspec.json.decode((folder.artefact / ROW_SCORES_FILE).read_bytes(), type=list[RowScores])
    known = {(one.of, one.name): one for one in rows}
    means = {name: sum(one.values) / sum(one.weights or [1] * len(one.rows)) for name, one in known.items()}
    assert means["held_out", "loss"] == pytest.approx(result["after"]["loss"])
    assert means["held_out", "f1"] == pytest.approx(result["after"]["f1"])
    assert means["retention", "loss"] == pytest.approx(result["retention"]["after"])
    assert means["retention", "answered"] == result["forgetting"]["answered"]["after"]
    assert (known["held_out", "loss"].rows, known["held_out", "f1"].rows) == (tuple(range(12)), tuple(range(6)))
    assert known["held_out", "loss"].rows_of == order.digest != known["retention", "loss"].rows_of
    written = [path.read_bytes() for path in folder.path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in written)


def test_a_retention_file_that_goes_while_the_run_trains_costs_it_nothing(order: Order, tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    general = tmp_path / "general.jsonl"
    general.write_bytes(msgspec.json.encode(row))
    was = hashlib.sha256(general.read_bytes()).hexdigest()
    knobs = {**KNOBS, "judge_rows": 0, "retention": str(general)}
    named = msgspec.structs.replace(order, recipe=resolve({"base": order.recipe.base, **knobs}))
    folder = WorkFolder(tmp_path / "run")
    folder.path.mkdir()

    def goes() -> bool:
        general.unlink(missing_ok=True)
        return False

    with closing(Speaker(folder.progress(1))) as speaker:
        run(named, folder, speaker, goes)

    rows = msgspec.json.decode((folder.artefact / ROW_SCORES_FILE).read_bytes(), type=list[RowScores])
    assert {one.rows_of for one in rows if one.of == "retention"} == {was}


def test_sources_that_are_gone_are_said_and_nothing_is_sent_without_a_judge(order: Order, tmp_path: Path) -> None:
    lost = msgspec.structs.replace(order, sources_url=str(tmp_path / "none.json"))

    lines = attempt(lost, WorkFolder(tmp_path / "run"))

    warned = [line for line in lines if line.kind == "warn"]
    assert warned[0].data == {"error": "FileNotFoundError"}
    assert "asks for a judge, and this trainer has none" in warned[1].message
    result = lines[-1].data["result"]
    assert "app" not in {one["slice"] for one in result["slices"]}
    assert result["judge"] is None


def test_full_training_in_bf16_trains_and_measures_in_it_and_comes_near_fp32(order: Order, tmp_path: Path) -> None:
    knobs = {**KNOBS, "judge_rows": 0, "eval_generate_rows": 0, "method": "full", "learning_rate": 2e-3}

    def losses(precision: str) -> list[float]:
        recipe = resolve({"base": order.recipe.base, **knobs, "precision": precision})
        lines = attempt(msgspec.structs.replace(order, recipe=recipe), WorkFolder(tmp_path / precision))
        result = lines[-1].data["result"]
        steps = [line.data["loss"] for line in lines if line.kind == "metrics"]
        return [*steps, result["before"]["loss"], result["after"]["loss"]]

    exact, rounded = losses("fp32"), losses("bf16")

    assert len(exact) == 4
    assert all(one != other for one, other in zip(exact, rounded, strict=True)), "it is computed in bf16"
    assert rounded == pytest.approx(exact, abs=0.01)
