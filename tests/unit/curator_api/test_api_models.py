"""Models over HTTP: what a run left is compared, promoted past its gates, and a run that failed is taken up again."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from fakes.curator_api import Running, running_api, tagged
from sqlalchemy import insert, select

from tunemill.curator_api.run_compare import compared, knobs, same_rows
from tunemill.registry.model_aliases import CANDIDATE
from tunemill.registry.model_aliases import put as put_alias
from tunemill.registry.tables import audit, outbox, runs
from tunemill.schemas import wire
from tunemill.schemas.records import DatasetReady, RunStatus
from tunemill.schemas.row_scores import ROW_SCORES_FILE, RowScores
from tunemill.schemas.topics import DATASETS_READY, RUNS_STATUS

RESULT = {
    "before": {"exact_match": 0.1, "loss": 2.0},
    "after": {"exact_match": 0.6, "loss": 1.0},
    "retention": {"before": 3.0, "after": 3.3},
}


def run(run_id: str, status: str = "succeeded", **more: Any) -> dict[str, Any]:
    at = int(run_id[-1])
    left = {"artefact_url": f"/files/{run_id}", "finished_ms": at} if status in ("succeeded", "rejected") else {}
    names = {"run_id": run_id, "run_key": run_id, "project": "default", "name": "math", "version": 1}
    more = {"digest": "d", "manifest_url": "/m", "recipe": {"method": "lora", "base": "b"}, **more}
    return {**names, "status": status, "attempt": 1, "event_seq": 0, "created_ms": at, "started_ms": 1, **left, **more}


def put(api: Running, *rows: dict[str, Any]) -> None:
    with api.registry.begin() as connection:
        for row in rows:
            connection.execute(insert(runs).values(row))


async def promote(api: Running, run_id: str, **body: Any) -> Any:
    return await api.client.post(f"/v1/runs/{run_id}/promote", json=body)


async def models(api: Running) -> dict[str, Any]:
    found: dict[str, Any] = (await api.client.get("/v1/datasets/math/models")).json()
    return found


def audited(api: Running, action: str) -> list[Any]:
    with api.registry.connect() as connection:
        lines = select(audit.c.target, audit.c.data).where(audit.c.action == action)
        return [tuple(line) for line in connection.execute(lines.order_by(audit.c.seq))]


async def test_a_champion_is_a_run_that_passed_its_gates_and_moves(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.client.post("/v1/datasets", json={"name": "math", "query": ""})
        put(api, run("run1"), run("run2"), run("run3", "failed"))
        assert (await promote(api, "run1")).status_code == 200
        assert (await promote(api, "run2")).status_code == 200
        assert (await promote(api, "run2", alias="staging")).status_code == 200
        found = await models(api)
        assert [(one["alias"], one["run_id"], one["reason"]) for one in found["aliases"]] == [
            ("champion", "run2", None),
            ("staging", "run2", None),
        ]
        assert [(one["run_id"], one["aliases"]) for one in found["models"]] == [
            ("run2", ["champion", "staging"]),
            ("run1", []),
        ]
        moved = [target for target, _ in audited(api, "model.promote")]
        assert moved == ["math/champion -> run1", "math/champion -> run2", "math/staging -> run2"]


async def test_a_rejected_result_needs_a_reason_that_the_audit_keeps(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.client.post("/v1/datasets", json={"name": "math", "query": ""})
        put(api, run("run1", "rejected"), run("run2"))
        refused = await promote(api, "run1")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:tunemill:problem:gate-not-passed")
        assert audited(api, "model.promote") == []
        assert (await promote(api, "run1", override=" \n")).status_code == 422, "no reason is none"
        assert (await promote(api, "run1", override="only German matters to us")).status_code == 200
        (alias,) = (await models(api))["aliases"]
        assert (alias["run_id"], alias["reason"]) == ("run1", "only German matters to us")
        assert audited(api, "model.promote") == [
            ("math/champion -> run1", {"override": "only German matters to us"}),
        ]
        assert (await promote(api, "run2", override="not needed")).status_code == 200
        (alias,) = (await models(api))["aliases"]
        assert (alias["run_id"], alias["reason"]) == ("run2", None)


@pytest.mark.parametrize("status", ["queued", "preparing", "running", "evaluating", "failed", "cancelled"])
async def test_what_left_no_model_is_never_promoted(tmp_path: Path, status: str) -> None:
    async with running_api(tmp_path) as api:
        put(api, run("run1", status))
        refused = await promote(api, "run1", override="all the same")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:tunemill:problem:no-model")
        assert status in refused.json()["detail"]
        assert (await promote(api, "run9")).status_code == 404


async def test_the_candidate_is_not_set_by_hand(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put(api, run("run1"))
        assert (await promote(api, "run1", alias=CANDIDATE)).status_code == 422
        assert (await promote(api, "run1", alias="../x")).status_code == 422


async def test_a_named_model_is_listed_however_many_came_after_it(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.client.post("/v1/datasets", json={"name": "math", "query": ""})
        old = run("old1", finished_ms=0)
        many = [run(f"r{number}", finished_ms=number + 5, run_key=f"k{number}") for number in range(100, 220)]
        put(api, old, *many)
        with api.registry.begin() as connection:
            put_alias(connection, "default", "math", "champion", "old1", by="person:x")
        found = (await models(api))["models"]
        assert (len(found), found[-1]["run_id"], found[-1]["aliases"]) == (101, "old1", ["champion"])


async def test_two_runs_are_compared_knob_by_knob_and_score_by_score(tmp_path: Path) -> None:
    better = {**RESULT, "after": {"exact_match": 0.9, "loss": 1.5}, "retention": {"before": 3.0, "after": 3.0}}
    async with running_api(tmp_path) as api:
        put(
            api,
            run("run1", result=RESULT, recipe={"method": "lora", "r": 16, "gates": {"a": 1, "b": None}}),
            run("run2", result=better, recipe={"method": "full", "gates": {"a": 2}}, digest="e"),
        )
        found = (await api.client.get("/v1/runs/run1/compare/run2")).json()
        assert (found["a"]["run_id"], found["b"]["run_id"], found["same_rows"]) == ("run1", "run2", False)
        assert [(one["knob"], one["a"], one["b"]) for one in found["recipe"]] == [
            ("method", "lora", "full"),
            ("r", 16, None),
            ("gates.a", 1, 2),
            ("gates.b", None, None),
        ]
        said = [(one["name"], one["on"], one["a"], one["b"], one["better"]) for one in found["scores"]]
        assert said == [
            ("Exact match", "held-out rows", 0.6, 0.9, "not_comparable"),
            ("Loss per trained token", "held-out rows", 1.0, 1.5, "not_comparable"),
            ("Loss per trained token", "retention set", 3.3, 3.0, "not_comparable"),
        ]
        assert (await api.client.get("/v1/runs/run1/compare/nobody")).status_code == 404


@pytest.mark.parametrize(
    ("other", "same"),
    [({"recipe": {"seed": 1}}, True), ({"recipe": {"retention": "own.jsonl"}}, False), ({"digest": "e"}, False)],
)
def test_scores_of_other_rows_say_little_about_one_another(other: dict[str, Any], same: bool) -> None:
    one = {"digest": "d", "recipe": {"seed": 0}}

    assert same_rows(one, one | other) is same


def by_row(
    name: str, *values: float, of: Literal["held_out", "retention"] = "held_out", rows_of: str = "d", tokens: int = 0
) -> RowScores:
    """A score of each of the first rows, of so many tokens each."""
    weights = (float(tokens),) * len(values) if tokens else None
    return RowScores(name=name, of=of, rows_of=rows_of, rows=tuple(range(len(values))), values=values, weights=weights)


async def test_one_is_better_where_that_is_sure_over_the_rows_of_both(tmp_path: Path) -> None:
    theirs = {"exact_match": 0.5, "f1": 0.6, "loss": 1.6, "perplexity": 4.9, "length_tokens": 9.0}
    ours = {"exact_match": 0.6, "f1": 0.5, "loss": 1.0, "perplexity": 2.7, "length_tokens": 4.0}
    losses = [10.0 + n for n in range(8)]
    left = [
        by_row("loss", *losses, tokens=10), by_row("f1", *[0.4, 0.6] * 4), by_row("exact_match", 1, 1, 1, 0),
        by_row("length_tokens", *[4.0] * 8), by_row("loss", 3.0, 3.1, of="retention", rows_of="x", tokens=1),
    ]  # fmt: skip
    right = [
        by_row("loss", *[6 + one for one in losses], tokens=10), by_row("f1", *[0.9, 0.3] * 4), by_row("exact_match", 0, 0, 0, 0),
        by_row("length_tokens", *[9.0] * 8), by_row("loss", 3.0, 3.1, of="retention", rows_of="y", tokens=1),
    ]  # fmt: skip
    async with running_api(tmp_path) as api:
        for run_id, after, kept, rows in (("run1", ours, 3.0, left), ("run2", theirs, 3.5, right)):
            put(
                api, run(run_id, result={"before": theirs, "after": after, "retention": {"before": 3.0, "after": kept}})
            )
            folder = api.files / "runs" / "default" / run_id
            folder.mkdir(parents=True)
            (folder / ROW_SCORES_FILE).write_bytes(msgspec.json.encode(rows))
        scores = (await api.client.get("/v1/runs/run1/compare/run2")).json()["scores"]

    said = {(one["name"], one["on"]): one for one in scores}
    assert {f"{name}, {on}": one["better"] for (name, on), one in said.items()} == {
        "Loss per trained token, held-out rows": "a",
        "Perplexity, held-out rows": "a",
        "Word F1, held-out rows": "not_sure",
        "Exact match, held-out rows": "not_sure",  # of four rows
        "Length of answers, held-out rows": None,
        "Loss per trained token, retention set": "not_comparable",
    }
    loss = said["Loss per trained token", "held-out rows"]
    assert (loss["low"], loss["high"], loss["rows"]) == (pytest.approx(0.6), pytest.approx(0.6), 8)
    assert said["Perplexity", "held-out rows"]["low"] is None


def test_rows_are_the_same_by_their_places_and_tokens() -> None:
    one = by_row("loss", 1.0, 2.0, tokens=5)

    assert one.is_of_same_rows(by_row("loss", 3.0, 4.0, tokens=5))
    assert not one.is_of_same_rows(by_row("loss", 1.0, 2.0, tokens=6))
    assert not one.is_of_same_rows(by_row("loss", 1.0, tokens=5))
    assert not one.is_of_same_rows(by_row("loss", 1.0, 2.0, tokens=5, rows_of="e"))


def test_equal_runs_differ_in_nothing_and_a_score_of_one_alone_is_shown() -> None:
    assert knobs({"r": 16, "gates": {"a": 1}}, {"gates": {"a": 1}, "r": 16}) == []
    (exact, loss, kept) = compared(RESULT, {"before": {"loss": 2.0}, "after": {"loss": 1.0}})
    assert (exact.a, exact.b, exact.change, exact.better) == (0.6, None, None, None)
    assert (loss.change, loss.better) == (0.0, None)
    assert (kept.a, kept.b) == (3.3, None)


async def test_runs_are_told_apart_by_dataset_and_status(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put(api, run("run1"), run("run2", "failed"), run("run3", name="other"))

        async def found(**asked: str) -> list[str]:
            return [one["run_id"] for one in (await api.client.get("/v1/runs", params=asked)).json()["runs"]]

        assert await found(name="math") == ["run2", "run1"]
        assert await found(status="failed") == ["run2"]
        assert await found(name="math", status="succeeded") == ["run1"]
        assert (await api.client.get("/v1/runs", params={"status": "done"})).status_code == 422


async def test_a_run_that_failed_waits_again_and_says_so(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        over = {"error": {"code": "disk_full"}, "cancel_requested_ms": 5, "finished_ms": 6}
        put(api, run("run1", "failed", **over), run("run2", "cancelled", **over))
        for run_id in ("run1", "run2"):
            answer = await api.client.post(f"/v1/runs/{run_id}/resume")
            assert answer.status_code == 202
            waits = answer.json()
            assert waits["status"] == "queued"
            assert [waits[name] for name in over] == [None, None, None]
        with api.registry.connect() as connection:
            rows = connection.execute(select(outbox.c.value).where(outbox.c.topic == RUNS_STATUS.name)).scalars()
            assert [wire.decode(row, RunStatus).status for row in rows] == ["queued", "queued"]
        assert [target for target, _ in audited(api, "run.resume")] == ["run1", "run2"]
        again = await api.client.post("/v1/runs/run1/resume")
        assert (again.status_code, again.json()["type"]) == (409, "urn:tunemill:problem:under-way")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (run("run1", "succeeded"), "finished"),
        (run("run1", "rejected"), "finished"),
        (run("run1", "running"), "under-way"),
        (run("run1", "failed", attempt=0), "finished"),
    ],
)
async def test_what_cannot_go_on_is_not_resumed(tmp_path: Path, row: dict[str, Any], code: str) -> None:
    async with running_api(tmp_path) as api:
        put(api, row)
        answer = await api.client.post("/v1/runs/run1/resume")
        assert (answer.status_code, answer.json()["type"]) == (409, f"urn:tunemill:problem:{code}")
        assert (await api.client.get("/v1/runs/run1")).json()["status"] == row["status"]
        assert (await api.client.post("/v1/runs/nobody/resume")).status_code == 404


async def test_a_run_on_rows_that_were_erased_is_not_resumed(tmp_path: Path) -> None:
    async with running_api(tmp_path, *(tagged(f"log-{number}") for number in range(5))) as api:
        await api.client.post("/v1/datasets", json={"name": "math", "query": ""})
        digest = (await api.client.post("/v1/datasets/math/versions", json={})).json()["digest"]
        put(api, run("run1", "failed", digest="of an earlier revision"), run("run2", "failed", digest=digest))
        answer = await api.client.post("/v1/runs/run1/resume")
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:tunemill:problem:version-redacted")
        assert (await api.client.post("/v1/runs/run2/resume")).status_code == 202


async def test_samples_are_those_in_the_runs_folder(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put(api, run("run1"), run("run2"))
        folder = api.files / "runs/default/run1"
        folder.mkdir(parents=True)
        said = {"row_id": "r1", "before": "<b>", "after": "ä"}
        (folder / "samples.jsonl").write_text(json.dumps(said) + "\n")
        assert (await api.client.get("/v1/runs/run1/samples")).json() == {"samples": [said]}
        (folder / "samples.jsonl").write_text(json.dumps(said) + '\n{"row_')  # the trainer writes it now
        assert (await api.client.get("/v1/runs/run1/samples")).json() == {"samples": []}
        (folder / "samples.jsonl").write_text("")  # an erasure leaves it so
        assert (await api.client.get("/v1/runs/run1/samples")).json() == {"samples": []}
        assert (await api.client.get("/v1/runs/run2/samples")).json() == {"samples": []}
        assert (await api.client.get("/v1/runs/run9/samples")).status_code == 404


async def test_a_priority_goes_with_the_order(tmp_path: Path) -> None:
    async with running_api(tmp_path, *(tagged(f"log-{number}") for number in range(5))) as api:
        await api.client.post("/v1/datasets", json={"name": "math", "query": ""})
        assert (await api.client.post("/v1/datasets/math/versions", json={})).status_code == 201
        order = {"name": "math", "version": 1, "recipe": {"base": "b"}, "priority": 7}
        assert (await api.client.post("/v1/runs", json=order)).status_code == 202
        assert (await api.client.post("/v1/runs", json={**order, "priority": 10**6})).status_code == 422
        with api.registry.connect() as connection:
            told = select(outbox.c.value).where(outbox.c.topic == DATASETS_READY.name).order_by(outbox.c.seq)
            events = [wire.decode(value, DatasetReady) for value in connection.execute(told).scalars()]
        assert [event.priority for event in events] == [0, 7]
