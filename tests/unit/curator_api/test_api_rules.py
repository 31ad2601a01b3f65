"""Rules and backfills over HTTP."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.curator_api import running_api, tagged
from sqlalchemy import select

from tunemill.curator_api import rules_job
from tunemill.registry import rule_sets
from tunemill.registry.rule_sets import LearnedRef
from tunemill.registry.tables import audit
from tunemill.streams.rules import starter_text

REFUNDS = """\
rules:
  - {name: refunds, version: 2, tag: "topic:refund", any: [{in: user, literal: refund}]}
"""
WRONG = """\
rules:
  - name: refunds
    version: 2
    tag: refund
    any: [{in: user, regex: '('}]
"""


@pytest.fixture(autouse=True)
def no_other_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_job, "SETTLE_S", 0.0)


async def applied(client: httpx.AsyncClient, document: str = REFUNDS, **more: Any) -> Any:
    answer = await client.post("/v1/rules", json={"document": document, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def ended(client: httpx.AsyncClient, backfill_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            now = (await client.get(f"/v1/backfills/{backfill_id}")).json()
            if now["status"] not in ("running", "undoing"):
                return now
            await asyncio.sleep(0.05)


async def test_the_rules_in_force_are_the_starter_set_until_others_are_put_in_force(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        first = (await api.client.get("/v1/rules")).json()
        assert (first["revision"], first["document"], first["is_starter"]) == (0, starter_text(), True)
        made = await applied(api.client, expected_revision=0)
        assert (await api.client.get("/v1/rules")).json() == made
        assert (made["revision"], made["document"], made["is_starter"]) == (1, REFUNDS, False)
        assert made["by"].startswith("person:")
        assert (await api.client.get("/v1/rules/1")).json() == made
        assert (await api.client.get("/v1/rules/0")).json() == first
        assert (await api.client.get("/v1/rules/2")).status_code == 404
        with api.registry.connect() as connection:
            assert connection.execute(select(audit.c.action, audit.c.target)).all() == [("rules.put", "1")]


async def test_the_starter_set_can_be_gone_back_to(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await applied(api.client)
        answer = await api.client.delete("/v1/rules")
        assert answer.status_code == 200, answer.text
        now = answer.json()
        assert (now["revision"], now["document"], now["is_starter"]) == (2, starter_text(), True)
        assert (await api.client.get("/v1/rules")).json() == now
        assert (await api.client.delete("/v1/rules")).json() == now, "it was in force already"


async def test_rules_are_not_put_over_ones_that_their_author_has_not_seen(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await applied(api.client)
        refused = await api.client.post("/v1/rules", json={"document": REFUNDS, "expected_revision": 0})
        assert (refused.status_code, refused.json()["revision"]) == (409, 1)
        assert refused.json()["type"] == "urn:tunemill:problem:rules-changed"
        assert (await api.client.get("/v1/rules")).json()["revision"] == 1


async def test_learned_tags_stay_in_force_beside_new_rules(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        rule_sets.put(api.registry, "default", by="person:ann", learned=[LearnedRef("team:billing", 3)])
        assert (await applied(api.client))["learned"] == ["team:billing@3"]


@pytest.mark.parametrize(("path", "more"), [("", {}), ("/check", {}), ("/dry-run", {"query": ""})])
async def test_rules_that_are_wrong_are_refused_with_every_place(
    tmp_path: Path, path: str, more: dict[str, object]
) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post(f"/v1/rules{path}", json={"document": WRONG, **more})
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["type"] == "urn:tunemill:problem:invalid-rules"
        assert [(one["line"], one["column"], one["rule"]) for one in problem["errors"]] == [
            (4, 10, "refunds"),
            (5, 29, "refunds"),
        ]
        assert "line 4, column 10" in problem["detail"]
        assert (await api.client.get("/v1/rules")).json()["revision"] == 0


async def test_rules_that_are_right_are_said_to_be(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.client.post("/v1/rules/check", json={"document": REFUNDS})).json() == {"valid": True}


async def test_a_dry_run_counts_by_tag_and_changes_nothing(tmp_path: Path) -> None:
    logs = [
        tagged(f"l{n:02}", "a refund, please" if n % 2 else "a poem", tags=("topic:math",), ts_ms=n) for n in range(14)
    ]
    async with running_api(tmp_path, *logs) as api:
        wanted = {"document": REFUNDS, "query": "", "limit": 13}
        found = (await api.client.post("/v1/rules/dry-run", json=wanted)).json()
        assert (found["looked_at"], found["changed"]) == (13, 13)
        effects = {effect.pop("tag"): effect for effect in found["tags"]}
        none = {"count": 0, "log_ids": []}
        assert effects["topic:math"] == {
            "added": none,
            "removed": {"count": 13, "log_ids": ["l00", "l01", "l02", "l03", "l04"]},
            "kept": none,
        }
        assert effects["topic:refund"]["added"] == {"count": 6, "log_ids": ["l01", "l03", "l05", "l07", "l09"]}
        narrow = (await api.client.post("/v1/rules/dry-run", json={**wanted, "query": "refund"})).json()
        assert (narrow["looked_at"], narrow["changed"]) == (7, 7)
        in_force = (await api.client.post("/v1/rules/dry-run", json={"query": "refund"})).json()
        assert "topic:refund" not in {effect["tag"] for effect in in_force["tags"] if effect["added"]["count"]}
        assert (await api.client.get("/v1/logs/l01")).json()["tags"] == ["topic:math"]
        assert (await api.client.post("/v1/rules/dry-run", json={**wanted, "query": "tag:"})).status_code == 400
        assert (await api.client.post("/v1/rules/dry-run", json={**wanted, "limit": 10_001})).status_code == 422


async def test_a_backfill_is_followed_and_undone(tmp_path: Path) -> None:
    logs = [tagged(f"l{n:02}", "a refund, please" if n % 2 else "a poem", ts_ms=n) for n in range(10)]
    async with running_api(tmp_path, *logs) as api:
        await applied(api.client)
        begun = await api.client.post("/v1/backfills", json={"query": "refund"})
        assert begun.status_code == 202
        assert (begun.json()["total"], begun.json()["revision"]) == (5, 1)
        backfill_id = begun.json()["backfill_id"]
        done = await ended(api.client, backfill_id)
        assert (done["status"], done["seen"], done["changed"], done["undone"]) == ("done", 5, 5, 0)
        assert done["logs_per_s"] > 0
        assert "topic:refund" in (await api.client.get("/v1/logs/l01")).json()["tags"]
        assert (await api.client.get("/v1/logs/l02")).json()["tags"] == ["topic:math"]
        assert (await api.client.post(f"/v1/backfills/{backfill_id}/cancel")).status_code == 409
        assert (await api.client.post(f"/v1/backfills/{backfill_id}/undo")).status_code == 202
        undone = await ended(api.client, backfill_id)
        assert (undone["status"], undone["undone"]) == ("undone", 5)
        assert (await api.client.get("/v1/logs/l01")).json()["tags"] == ["topic:math"]
        listed = (await api.client.get("/v1/backfills")).json()["backfills"]
        assert [one["backfill_id"] for one in listed] == [backfill_id]


async def test_a_backfill_of_a_query_that_cannot_be_read_does_not_begin(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/backfills", json={"query": "(refund"})
        assert (answer.status_code, answer.json()["column"]) == (400, 8)
        assert (await api.client.get("/v1/backfills")).json() == {"backfills": []}
        assert (await api.client.get("/v1/backfills/none")).status_code == 404
