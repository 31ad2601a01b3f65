"""What stands behind the pages, held in memory; it remembers what the forms changed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from tunemill.curator_api.errors import BadQuery, EditedMeanwhile, InvalidEdit, NotFound, Unauthorised, Unprocessable
from tunemill.curator_api.page_source import Json

KEY = "tm_testkey1_0123456789abcdefghijklmnopqrstuvwxyz"
DAY_MS = 1_777_622_400_000


def message(role: str, content: str | None, **more: Any) -> Json:
    blank = {"parts": None, "tool_calls": [], "tool_call_id": None, "name": None, "refusal": None, "reasoning": None}
    return {"role": role, "content": content, **blank, **more}


def log(log_id: str, question: str, answer: str | None, **more: Any) -> Json:
    """A log as `GET /v1/logs/{log_id}` gives it."""
    return {
        "log_id": log_id,
        "ts_ms": DAY_MS,
        "source": "tunemill",
        "app": "support-router",
        "model": "atlas-large-1",
        "provider": "sample",
        "messages": [message("system", "Route the ticket."), message("user", question)],
        "output": [] if answer is None else [message("assistant", answer)],
        "tools": None,
        "params": None,
        "usage": {"input_tokens": 31, "output_tokens": 18},
        "cost_usd": None,
        "latency_ms": 412.0,
        "finish_reason": "stop",
        "status": "ok",
        "error": None,
        "response_id": None,
        "trace_id": None,
        "session_id": "ticket-0001",
        "user_id": "user-017",
        "metadata": {"channel": "mail"},
        "consent": "train",
        "extra": None,
        "tags": ["lang:en", "pii:email"],
        "tagged_by": {"lang:en": "rule@1", "pii:email": "rule@1"},
        "tag_status": "ok",
        "revision": 0,
        "original": None,
        "consent_said": None,
        "edits": [],
        "language": "en",
        "feedback": [],
    } | more


def hit(found: Json) -> Json:
    """The same log as `GET /v1/search` gives it."""
    kept = ("log_id", "ts_ms", "app", "model", "language", "status", "tags")
    return {name: found[name] for name in kept} | {
        "prompt": found["messages"][-1]["content"],
        "answer": found["output"][0]["content"] if found["output"] else None,
        "score": 1.0,
        "highlights": [],
        "match": "all",
    }


class MemoryPages:
    """A `PageSource` over a few dictionaries. `changes` holds every write, in order."""

    def __init__(self, logs: Sequence[Json] = (), *, keyed: bool = False) -> None:
        self.logs = {one["log_id"]: one for one in logs}
        self.revisions: dict[tuple[str, int], Json] = {}  # what a log said at an earlier one
        self.keyed = keyed
        self.hits = [hit(one) for one in logs]
        self.facets: Json = {}
        self.cursor: str | None = None
        self.draft_rows: list[Json] = []
        self.gone_from_draft = ""  # what its recipe names and is not there
        self.previews: dict[str, Json] = {}
        self.bad: list[Json] = []
        self.version_origins: Json = {}
        self.differences: Json = {}
        self.found_datasets: dict[str, Json] = {}
        self.found_runs: dict[str, Json] = {}
        self.events: list[Json] = []
        self.samples: list[Json] = []
        self.knobs: list[Json] = []
        self.compared: list[Json] = []
        self.found_models: Json = {"aliases": [], "models": []}
        self.policies: dict[str, Json] = {}
        self.dead_letters: list[Json] = []
        self.older = 0
        self.searches_kept: list[Json] = []
        self.found_jobs: dict[str, Json] = {}
        self.found_erasures: dict[str, Json] = {}
        self.searches: list[tuple[str, str | None, str]] = []
        self.changes: list[tuple[Any, ...]] = []

    async def admit(self, request: Request, key: str | None) -> str:
        if self.keyed and key != KEY:
            raise Unauthorised("this key is not one of ours")
        return "person:testkey1" if key else "person:local"

    async def search(self, query: str, *, limit: int, cursor: str | None, sort: str) -> Json:
        self.searches.append((query, cursor, sort))
        if query.endswith(" AND"):
            raise BadQuery("column 5: found the end, expected a word", column=5)
        return {"total": len(self.hits), "hits": self.hits[:limit], "facets": self.facets, "cursor": self.cursor}

    async def log(self, log_id: str, *, revision: int | None = None) -> Json:
        found = _in(self.logs, log_id, "log")
        return found if revision is None else found | self.revisions.get((log_id, revision), {})

    async def similar(self, log_id: str) -> Json:
        _in(self.logs, log_id, "log")
        near = [{"log_id": hit["log_id"], "similarity": 0.923} for hit in self.hits if hit["log_id"] != log_id]
        return {"similar": self.hits, "near_duplicates": near}

    async def edit_tags(self, log_id: str, *, add: Sequence[str], remove: Sequence[str], by: str) -> None:
        _in(self.logs, log_id, "log")
        self.changes.append(("tags", log_id, list(add), list(remove), by))

    async def review(self, query: str, *, sort: str, after: str | None) -> Json:
        ids = list(self.logs)
        at = 0 if after is None else int(after)
        following = str(at + 1) if at + 1 < len(ids) else None
        return {"log_id": ids[at] if ids else None, "following": following, "left": len(ids), "done": 2}

    async def decide(self, log_id: str, decision: str, *, revision: int, by: str) -> None:
        self.changes.append((decision, log_id, revision, by))

    async def fix_log(
        self, log_id: str, *, messages: Sequence[Json], output: Sequence[Json], revision: int, by: str
    ) -> None:
        self.changes.append(("fix", log_id, list(messages), list(output), revision, by))

    async def undo_review(self, log_id: str, revision: int, *, by: str) -> None:
        self.changes.append(("undo", log_id, revision, by))

    async def saved_searches(self) -> Sequence[Json]:
        return self.searches_kept

    async def save_search(self, name: str, query: str, *, by: str) -> None:
        self.changes.append(("save", name, query, by))

    async def delete_search(self, name: str, *, by: str) -> None:
        self.changes.append(("forget", name, by))

    async def edit_log(self, log_id: str, change: Mapping[str, Any], *, by: str) -> None:
        if change["expected_revision"] != (revision := _in(self.logs, log_id, "log")["revision"]):
            raise EditedMeanwhile("somebody else edited it", revision=revision)
        if any("secret" in str(message["content"]) for message in change.get("output", ())):
            raise InvalidEdit("output[0] holds what looks like secret:api-key")
        self.changes.append(("edit log", log_id, dict(change), by))

    async def revert_log(self, log_id: str, wanted: Mapping[str, Any], *, by: str) -> None:
        self.changes.append(("revert", log_id, dict(wanted), by))

    async def jobs(self) -> Sequence[Json]:
        return list(self.found_jobs.values())

    async def job(self, job_id: str) -> Json:
        return _in(self.found_jobs, job_id, "job")

    async def count_logs(self, query: str) -> Json:
        page = await self.search(query, limit=5, cursor=None, sort="newest")
        return {"total": page["total"], "log_ids": [found["log_id"] for found in page["hits"]]}

    async def start_job(self, wanted: Mapping[str, Any], *, by: str) -> str:
        self.changes.append(("job", dict(wanted), by))
        return "j/1"

    async def erasures(self) -> Sequence[Json]:
        return list(self.found_erasures.values())

    async def erasure(self, request_id: str) -> Json:
        return _in(self.found_erasures, request_id, "erasure")

    async def count_erased(self, wanted: Mapping[str, Any]) -> int:
        if "query" in wanted:
            raise Unprocessable("the query matches every log: name what is to be erased")
        return 3

    async def start_erasure(self, wanted: Mapping[str, Any], *, by: str) -> str:
        self.changes.append(("erasure", dict(wanted), by))
        return "e/1"

    async def cancel_job(self, job_id: str, *, by: str) -> None:
        self.changes.append(("cancel job", job_id, by))

    async def undo_job(self, job_id: str, *, by: str) -> None:
        self.changes.append(("undo job", job_id, by))

    async def rejected(self, *, limit: int, stage: str | None, error_code: str | None) -> Json:
        asked = {"stage": stage, "error_code": error_code}
        found = [one for one in self.dead_letters if all(v is None or one[name] == v for name, v in asked.items())]
        kinds = Counter((one["stage"], one["error_code"]) for one in found)
        counts = [{"stage": at, "error_code": code, "count": many} for (at, code), many in kinds.most_common()]
        return {"rejected": found[:limit], "total": len(found), "counts": counts, "older": self.older}

    async def rejected_one(self, rejected_id: str) -> Json:
        return _in({one["rejected_id"]: one for one in self.dead_letters}, rejected_id, "dead letter")

    async def redrive(self, wanted: Mapping[str, Any], *, by: str) -> Json:
        self.changes.append(("redrive", dict(wanted), by))
        return {"redriven": 1, "no_payload": 0, "not_found": 0}

    async def datasets(self) -> Sequence[Json]:
        return [
            {**one, "versions": len(one["versions"]), "latest_version": len(one["versions"]) or None}
            for one in self.found_datasets.values()
        ]

    async def dataset(self, name: str) -> Json:
        return _in(self.found_datasets, name, "dataset")

    async def create_dataset(self, name: str, draft: Mapping[str, Any], *, by: str) -> None:
        self.changes.append(("create", name, dict(draft), by))

    async def rows(self, name: str, *, limit: int, cursor: str | None) -> Json:
        if self.gone_from_draft:
            raise NotFound(self.gone_from_draft)
        rows = self.draft_rows[:limit]
        return {
            "rows": rows,
            "total": len(self.draft_rows),
            "matched": len(self.draft_rows) + 3,
            "excluded": {"pii": 3},
            "cursor": None,
        }

    async def preview(self, name: str) -> Json:
        return _in(self.previews, name, "dataset")

    async def bad_rows(self, name: str, *, limit: int) -> Json:
        return {"rows": self.bad[:limit], "counts": {"no_answer": len(self.bad)}, "cursor": None}

    async def edit_row(self, name: str, row_key: str, messages: Sequence[Json], *, by: str) -> None:
        self.changes.append(("edit", name, row_key, list(messages), by))

    async def delete_row(self, name: str, row_key: str, *, by: str) -> None:
        self.changes.append(("delete", name, row_key, by))

    async def publish(self, name: str, *, note: str | None, recipe: Json | None, by: str) -> int:
        self.changes.append(("publish", name, note, recipe, by))
        return len(self.found_datasets[name]["versions"]) + 1

    async def version(self, name: str, version: str) -> Json:
        found = _in(self.found_datasets, name, "dataset")["versions"]
        return _in({str(one["version"]): one for one in found}, version, "version")

    async def origins(self, name: str, version: str) -> Json:
        return self.version_origins

    async def aliases(self, name: str) -> Sequence[Json]:
        return [{"alias": "best", "version": 1, "by": "person:x", "updated_ms": 1}]

    async def put_alias(self, name: str, alias: str, version: str, *, by: str) -> None:
        self.changes.append(("alias", name, alias, version, by))

    async def diff(self, name: str, before: str, after: str, *, limit: int) -> Json:
        return self.differences

    async def restore(self, name: str, version: str, *, by: str) -> None:
        self.changes.append(("restore", name, version, by))

    async def runs(self, *, name: str | None, status: str | None) -> Sequence[Json]:
        asked = {"name": name, "status": status}
        return [
            one
            for one in self.found_runs.values()
            if all(value is None or one[key] == value for key, value in asked.items())
        ]

    async def run(self, run_id: str) -> Json:
        return _in(self.found_runs, run_id, "run")

    async def run_events(self, run_id: str) -> Sequence[Json]:
        return self.events

    async def cancel_run(self, run_id: str, *, by: str) -> None:
        self.changes.append(("cancel", run_id, by))

    async def resume_run(self, run_id: str, *, by: str) -> None:
        self.changes.append(("resume", run_id, by))

    async def promote_run(self, run_id: str, wanted: Mapping[str, Any], *, by: str) -> None:
        self.changes.append(("promote", run_id, dict(wanted), by))

    async def run_samples(self, run_id: str) -> Sequence[Json]:
        return self.samples

    async def compare_runs(self, a: str, b: str) -> Json:
        left, right = (_in(self.found_runs, one, "run") for one in (a, b))
        return {"a": left, "b": right, "same_rows": False, "recipe": self.knobs, "scores": self.compared}

    async def models(self, name: str) -> Json:
        _in(self.found_datasets, name, "dataset")
        return self.found_models

    async def policy(self, name: str) -> Json | None:
        return self.policies.get(name)

    async def put_policy(self, name: str, wanted: Mapping[str, Any], *, by: str) -> None:
        self.changes.append(("policy", name, dict(wanted), by))

    async def delete_policy(self, name: str, *, by: str) -> None:
        self.changes.append(("no policy", name, by))


def _in(found: Mapping[str, Json], name: str, kind: str) -> Json:
    if name not in found:
        raise NotFound(f"there is no {kind} {name!r}")
    return found[name]
