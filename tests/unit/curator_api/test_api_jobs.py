"""Work on many logs over HTTP."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.curator_api import running_api, tagged

from tunemill.curator_api import job_store as store
from tunemill.curator_api.page_guard import COOKIE

LOGS = [tagged(f"l{n:02}", "a refund, please" if n % 2 else "a poem", tags=(), ts_ms=n + 1) for n in range(12)]
TAGS = {"kind": "tags", "query": "refund", "add": ["team:x"], "why": "billing looks at these"}


async def begun(client: httpx.AsyncClient, **wanted: Any) -> Any:
    answer = await client.post("/v1/jobs", json=wanted)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def ended(client: httpx.AsyncClient, job_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            now = (await client.get(f"/v1/jobs/{job_id}")).json()
            if now["status"] not in ("running", "undoing"):
                return now
            await asyncio.sleep(0.05)


async def test_what_matches_is_counted_tagged_and_given_back(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        counted = await api.client.post("/v1/jobs", json={**TAGS, "dry_run": True})
        newest = ["l11", "l09", "l07", "l05", "l03"]
        assert (counted.status_code, counted.json()) == (200, {"total": 6, "log_ids": newest})
        assert (await api.client.get("/v1/jobs")).json() == {"jobs": []}
        job = await begun(api.client, **TAGS, expected_total=6)
        assert (job["total"], job["query"], job["work"], job["waits_for"]) == (6, "refund", {"add": ["team:x"]}, None)
        done = await ended(api.client, job["job_id"])
        assert (done["status"], done["seen"], done["changed"], done["undone"]) == ("done", 6, 6, 0)
        assert done["logs_per_s"] > 0
        shown = (await api.client.get("/v1/logs/l01")).json()
        assert shown["tags"] == ["team:x"]
        assert [(edit["why"], edit["job_id"]) for edit in shown["edits"]] == [(TAGS["why"], job["job_id"])]
        assert (await api.client.get("/v1/logs/l02")).json()["tags"] == []
        undoing = await api.client.post(f"/v1/jobs/{job['job_id']}/undo")
        assert (undoing.status_code, undoing.json()["result"]) == (202, {"undone_by": job["by"]})
        undone = await ended(api.client, job["job_id"])
        assert (undone["status"], undone["undone"]) == ("undone", 6)
        assert (await api.client.get("/v1/logs/l01")).json()["tags"] == []
        assert (await api.client.post(f"/v1/jobs/{job['job_id']}/cancel")).json()["type"].endswith(":finished")
        listed = (await api.client.get("/v1/jobs", params={"kind": "tags"})).json()["jobs"]
        assert listed == [undone]
        assert (await api.client.get("/v1/jobs", params={"kind": "delete"})).json() == {"jobs": []}
        assert (await api.client.get("/v1/backfills")).json() == {"backfills": []}
        assert (await api.client.get(f"/v1/backfills/{job['job_id']}")).status_code == 404


async def test_a_persons_word_on_consent_goes_before_the_logs_own(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        job = await begun(api.client, kind="consent", query="id:l01", consent="none")
        assert (await ended(api.client, job["job_id"]))["changed"] == 1
        assert (await api.client.get("/v1/logs/l01")).json()["consent"] == "none"


async def test_nothing_is_deleted_that_was_not_counted_and_it_is_for_good(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        wanted = {"kind": "delete", "query": "refund"}
        assert "expected_total" in (await api.client.post("/v1/jobs", json=wanted)).json()["detail"]
        refused = await api.client.post("/v1/jobs", json={**wanted, "expected_total": 5})
        assert (refused.status_code, refused.json()["total"]) == (409, 6)
        assert refused.json()["type"] == "urn:tunemill:problem:total-changed"
        all_of_it = {"kind": "delete", "query": " ", "expected_total": 12}
        assert "everything" in (await api.client.post("/v1/jobs", json=all_of_it)).json()["detail"]
        assert (await api.client.get("/v1/jobs")).json() == {"jobs": []}
        job = await begun(api.client, **wanted, expected_total=6)
        done = await ended(api.client, job["job_id"])
        assert (done["status"], done["seen"], done["changed"], done["can_be_undone"]) == ("done", 6, 6, False)
        assert (await api.client.get("/v1/logs/l01")).status_code == 404
        undo = await api.client.post(f"/v1/jobs/{job['job_id']}/undo")
        assert (undo.status_code, undo.json()["type"]) == (409, "urn:tunemill:problem:cannot-be-undone")
        rest = await begun(api.client, kind="delete", query="", expected_total=6, everything=True)
        assert (await ended(api.client, rest["job_id"]))["changed"] == 6
        assert (await api.client.get("/v1/search")).json()["total"] == 0


@pytest.mark.parametrize(
    ("path", "wanted", "others"),
    [
        ("/v1/jobs", TAGS, [{"query": "poem"}, {"add": ["team:y"]}, {"why": None}, {"kind": "delete", "add": []}]),
        ("/v1/jobs", {"kind": "retention"}, [{"kind": "reindex"}]),
        ("/v1/backfills", {"query": "refund"}, [{"query": "poem"}]),
    ],
)
async def test_what_is_sent_again_with_its_key_is_the_same_job_and_nothing_is_counted(
    tmp_path: Path, path: str, wanted: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        key = {"Idempotency-Key": "once"}
        if "add" in wanted:
            assert (await api.client.post(path, json={**wanted, "dry_run": True}, headers=key)).status_code == 200
        first = await api.client.post(path, json=wanted, headers=key)
        begun = first.json().get("job_id") or first.json()["backfill_id"]
        assert first.status_code == 202, first.text
        await ended(api.client, begun)
        again = await api.client.post(path, json=wanted, headers=key)
        assert (again.status_code, again.json()["status"]) == (202, "done")
        assert begun in again.json().values()
        for other in others:
            refused = await api.client.post(path, json={**wanted, **other}, headers=key)
            assert (refused.status_code, refused.json()["type"]) == (422, "urn:tunemill:problem:unprocessable")
        if "add" in wanted:
            assert (await api.client.post(path, json={**wanted, "dry_run": True}, headers=key)).status_code == 200
        more = await api.client.post(path, json=wanted, headers={"Idempotency-Key": "twice"})
        assert begun not in more.json().values()
        for bad in ("", "x" * 129):
            assert (await api.client.post(path, json=wanted, headers={"Idempotency-Key": bad})).status_code == 422
        assert len((await api.client.get("/v1/jobs")).json()["jobs"]) == 2


async def test_a_key_goes_before_a_total_that_is_another_by_now(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        key = {"Idempotency-Key": "once"}
        wanted = {"kind": "delete", "query": "refund", "expected_total": 6}
        first = (await api.client.post("/v1/jobs", json=wanted, headers=key)).json()
        assert (await ended(api.client, first["job_id"]))["changed"] == 6
        again = await api.client.post("/v1/jobs", json=wanted, headers=key)
        assert (again.status_code, again.json()["job_id"]) == (202, first["job_id"])
        assert (await api.client.post("/v1/jobs", json=wanted)).status_code == 409


async def test_a_query_means_later_what_it_meant_when_it_was_asked_for(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        await api.client.put("/v1/searches/money", json={"query": "refund OR invoice"})
        job = await begun(api.client, **{**TAGS, "query": "saved:money ts:<now"})
        assert "saved" not in job["query"]
        assert "now" not in job["query"]
        done = await ended(api.client, job["job_id"])
        assert (done["status"], done["changed"]) == ("done", 6)


async def test_the_pages_do_it_too(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        api.client.cookies.set(COOKIE, api.key)
        assert "/jobs/new?q=refund" in (await api.client.get("/", params={"q": "refund"})).text
        assert "/logs/l11" in (await api.client.get("/jobs/new", params={"q": "refund"})).text
        assert (await api.client.get("/jobs/new", params={"q": "(refund"})).status_code == 400
        sent = {"kind": "tags", "query": "refund", "add": "team:x", "expected_total": "6", "why": "for billing"}
        own = {"Origin": str(api.client.base_url).rstrip("/")}
        began = await api.client.post("/jobs", data=sent, headers=own)
        assert began.status_code == 303, began.text
        path = began.headers["location"]
        assert (await ended(api.client, path.removeprefix("/jobs/")))["changed"] == 6
        assert "for billing" in (await api.client.get(path)).text
        assert path in (await api.client.get("/jobs")).text
        assert (await api.client.post(f"{path}/undo", headers=own)).headers["location"] == path
        assert (await ended(api.client, path.removeprefix("/jobs/")))["status"] == "undone"
        too_late = await api.client.post(f"{path}/cancel", headers=own)
        assert (too_late.status_code, "the job is undone" in too_late.text) == (409, True)
        other = await api.client.post("/jobs", data={**sent, "expected_total": "5"}, headers=own)
        assert (other.status_code, "6 logs match by now" in other.text) == (409, True)


async def test_a_job_says_which_one_it_waits_for(tmp_path: Path) -> None:
    async with running_api(tmp_path, *LOGS) as api:
        first = store.start(api.registry, "default", kind="tags", query="", total=1, by="person:ann", work={})
        store.claim(api.registry, "default", "somebody else")
        second = await begun(api.client, **TAGS)
        assert (second["status"], second["seen"], second["waits_for"]) == ("running", 0, first.job_id)
        assert (await api.client.get(f"/v1/jobs/{first.job_id}")).json()["waits_for"] is None
        cancelled = (await api.client.post(f"/v1/jobs/{second['job_id']}/cancel")).json()
        assert (cancelled["status"], cancelled["waits_for"]) == ("cancelled", None)


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"kind": "tags"}, 422, "add or remove"),
        ({"kind": "tags", "add": ["team:x"], "remove": ["team:x"]}, 422, "either added or removed"),
        ({"kind": "tags", "add": ["team:x"], "consent": "none"}, 422, "takes no consent"),
        ({"kind": "tags", "add": ["no tag"]}, 422, "a tag is `namespace:value`"),
        ({"kind": "consent"}, 422, "send consent"),
        ({"kind": "consent", "consent": "yes"}, 422, "eval_only"),
        ({"kind": "delete", "remove": ["team:x"]}, 422, "takes no remove"),
        ({"kind": "shred"}, 422, "tags"),
        ({**TAGS, "query": "(refund"}, 400, ""),
        ({**TAGS, "query": "saved:none"}, 400, "none"),
    ],
)
async def test_what_cannot_be_meant_is_refused(tmp_path: Path, wanted: dict[str, Any], status: int, said: str) -> None:
    async with running_api(tmp_path, *LOGS[:1]) as api:
        for more in ({}, {"dry_run": True}):
            answer = await api.client.post("/v1/jobs", json={**wanted, **more})
            assert answer.status_code == status, answer.text
            assert said in answer.json()["detail"]
        assert (await api.client.get("/v1/jobs")).json() == {"jobs": []}
        assert (await api.client.get("/v1/jobs/none")).status_code == 404
