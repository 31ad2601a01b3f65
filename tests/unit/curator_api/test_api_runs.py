"""Training runs over HTTP."""

from pathlib import Path
from typing import Any

from fakes.curator_api import Running, running_api
from sqlalchemy import insert, select

from tunemill.registry.tables import audit, run_events, runs


def run(number: int, **more: Any) -> dict[str, Any]:
    return {
        "run_id": f"run{number}",
        "run_key": f"key{number}",
        "project": "default",
        "name": "math",
        "version": 1,
        "digest": "d",
        "manifest_url": "/m",
        "recipe": {"method": "lora"},
        "status": "running",
        "attempt": 1,
        "event_seq": 0,
        "created_ms": number // 2,
        **more,
    }


def put(api: Running, *rows: dict[str, Any]) -> None:
    with api.registry.begin() as connection:
        for row in rows:
            connection.execute(insert(runs).values(row))


async def test_runs_come_newest_first_in_pages(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put(api, *(run(number) for number in range(5)), run(9, project="other"))
        first = (await api.client.get("/v1/runs", params={"limit": 3})).json()
        second = (await api.client.get("/v1/runs", params={"limit": 3, "cursor": first["cursor"]})).json()
        found = [one["run_id"] for one in first["runs"] + second["runs"]]
        assert found == ["run4", "run3", "run2", "run1", "run0"]
        assert second["cursor"] is None
        assert (await api.client.get("/v1/runs", params={"cursor": "x"})).status_code == 400
        one = (await api.client.get("/v1/runs/run3")).json()
        assert (one["recipe"], one["progress"], one["result"]) == ({"method": "lora"}, None, None)
        assert (await api.client.get("/v1/runs/run9")).status_code == 404


async def test_a_runs_events_come_in_order_in_pages(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put(api, run(1))
        with api.registry.begin() as connection:
            for seq in range(1, 6):
                event = {
                    "run_id": "run1",
                    "seq": seq,
                    "ts_ms": seq,
                    "level": "info",
                    "type": "metrics",
                    "message": "step",
                }
                connection.execute(insert(run_events).values({**event, "data": {"loss": seq}}))
        first = (await api.client.get("/v1/runs/run1/events", params={"limit": 4})).json()
        parameters = {"limit": 4, "cursor": first["cursor"]}
        second = (await api.client.get("/v1/runs/run1/events", params=parameters)).json()
        assert [event["data"]["loss"] for event in first["events"] + second["events"]] == [1, 2, 3, 4, 5]
        assert (await api.client.get("/v1/runs/nobody/events")).status_code == 404


async def test_a_run_is_asked_to_stop_once_and_one_that_is_over_is_not(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put(api, run(1), run(2, status="succeeded"))
        first = await api.client.post("/v1/runs/run1/cancel")
        again = await api.client.post("/v1/runs/run1/cancel")
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["cancel_requested_ms"] == again.json()["cancel_requested_ms"] is not None
        over = await api.client.post("/v1/runs/run2/cancel")
        assert (over.status_code, over.json()["type"]) == (409, "urn:tunemill:problem:finished")
        assert (await api.client.post("/v1/runs/nobody/cancel")).status_code == 404
        with api.registry.connect() as connection:
            assert connection.execute(select(audit.c.action, audit.c.target)).all() == [("run.cancel", "run1")]


async def test_the_page_of_a_run_shows_its_last_event_however_many_came_before(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put(api, run(1))
        event = {"run_id": "run1", "ts_ms": 1, "level": "info", "type": "message", "data": {}}
        with api.registry.begin() as connection:
            connection.execute(
                insert(run_events), [{**event, "seq": seq, "message": f"said {seq}"} for seq in range(1, 1_102)]
            )
        api.client.cookies.set("tunemill_key", api.key)
        assert "said 1101" in (await api.client.get("/runs/run1")).text
