"""What stands behind the pages: the endpoints themselves, called without HTTP."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from tunemill.curator_api import (
    aliases,
    datasets,
    draft_rows,
    erasures,
    jobs,
    logs,
    models,
    preview,
    rejected,
    review,
    runs,
    saved,
    search,
    similar,
    training_api,
    versions,
)
from tunemill.curator_api.access import person_of
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.edit_payloads import LogEditIn, RevertIn, TagsIn
from tunemill.curator_api.erasure_payloads import ErasureIn
from tunemill.curator_api.errors import Unprocessable
from tunemill.curator_api.job_payloads import JobIn
from tunemill.curator_api.page_source import Json
from tunemill.curator_api.payloads import RedriveIn, RowEditIn
from tunemill.curator_api.problems import translated
from tunemill.curator_api.recipe_payloads import DatasetIn
from tunemill.curator_api.run_payloads import STATUSES, PolicyIn, PromoteIn
from tunemill.curator_api.saved_payloads import SavedSearchIn
from tunemill.curator_api.search_payloads import SearchIn
from tunemill.curator_api.version_payloads import AliasIn, PublishIn, RestoreIn
from tunemill.indexer.search import SORTS

RUNS_SHOWN = 100
JOBS_SHOWN = 100
EVENTS_READ = 1_000  # at once

T = TypeVar("T", bound=BaseModel)


class Answers:
    """The `PageSource` of a running server."""

    def __init__(self, curator: Curator) -> None:
        self._curator = curator

    async def admit(self, request: Request, key: str | None) -> str:
        # A browser sends its cookies to every port: a key in one may be that of another server on this machine.
        theirs = key if self._curator.settings.require_key else None
        async with _our_errors():
            return await asyncio.to_thread(
                person_of, self._curator, theirs, request.client.host if request.client else None
            )

    async def search(self, query: str, *, limit: int, cursor: str | None, sort: str) -> Json:
        async with _our_errors():
            wanted = _taken(SearchIn, q=query, limit=limit, cursor=cursor, sort=sort)
            return _plain(await search.found(self._curator, wanted))

    async def log(self, log_id: str, *, revision: int | None = None) -> Json:
        async with _our_errors():
            return _plain(await logs.get_log(log_id, self._curator, "", revision))

    async def similar(self, log_id: str) -> Json:
        async with _our_errors():
            return _plain(await similar.get_similar(self._curator, "", log_id))

    async def edit_tags(self, log_id: str, *, add: Sequence[str], remove: Sequence[str], by: str) -> None:
        async with _our_errors():
            await logs.edit_tags(log_id, _taken(TagsIn, add=add, remove=remove), self._curator, by)

    async def review(self, query: str, *, sort: str, after: str | None) -> Json:
        order: Any = sort if sort in SORTS else "newest"
        async with _our_errors():
            return (await review.queue(self._curator, query, sort=order, after=after))._asdict()

    async def decide(self, log_id: str, decision: str, *, revision: int, by: str) -> None:
        async with _our_errors():
            await review.decide(self._curator, log_id, decision, by=by, expected=revision)

    async def fix_log(
        self, log_id: str, *, messages: Sequence[Json], output: Sequence[Json], revision: int, by: str
    ) -> None:
        async with _our_errors():
            wanted = _taken(LogEditIn, messages=messages, output=output, expected_revision=revision, why="review")
            fixed = await logs.edit_log(log_id, wanted, self._curator, by)
            await review.decide(self._curator, log_id, "keep", by=by, expected=fixed.revision)

    async def undo_review(self, log_id: str, revision: int, *, by: str) -> None:
        async with _our_errors():
            await review.take_back(self._curator, log_id, revision, by=by)

    async def saved_searches(self) -> Sequence[Json]:
        async with _our_errors():
            found = await asyncio.to_thread(saved.list_searches, self._curator, "")
        return _list(_plain(found)["searches"])

    async def save_search(self, name: str, query: str, *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(saved.put_search, name, _taken(SavedSearchIn, query=query), self._curator, by)

    async def delete_search(self, name: str, *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(saved.delete_search, name, self._curator, by)

    async def edit_log(self, log_id: str, change: Mapping[str, Any], *, by: str) -> None:
        async with _our_errors():
            await logs.edit_log(log_id, _taken(LogEditIn, **change), self._curator, by)

    async def revert_log(self, log_id: str, wanted: Mapping[str, Any], *, by: str) -> None:
        async with _our_errors():
            await logs.revert_log(log_id, _taken(RevertIn, **wanted), self._curator, by)

    async def jobs(self) -> Sequence[Json]:
        async with _our_errors():
            found = await asyncio.to_thread(jobs.list_jobs, self._curator, "", JOBS_SHOWN)
        return _list(_plain(found)["jobs"])

    async def job(self, job_id: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(jobs.get_job, job_id, self._curator, ""))

    async def count_logs(self, query: str) -> Json:
        async with _our_errors():
            wanted = _taken(JobIn, kind="delete", query=query, dry_run=True)
            return _plain(await jobs.start_job(wanted, self._curator, "", Response()))

    async def start_job(self, wanted: Mapping[str, Any], *, by: str) -> str:
        async with _our_errors():
            begun = await jobs.start_job(_taken(JobIn, **wanted), self._curator, by, Response())
        return str(_plain(begun)["job_id"])

    async def cancel_job(self, job_id: str, *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(jobs.cancel_job, job_id, self._curator, by)

    async def undo_job(self, job_id: str, *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(jobs.undo_job, job_id, self._curator, by)

    async def erasures(self) -> Sequence[Json]:
        async with _our_errors():
            found = await asyncio.to_thread(erasures.list_erasures, self._curator, "", JOBS_SHOWN)
        return _list(_plain(found)["erasures"])

    async def erasure(self, request_id: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(erasures.get_erasure, request_id, self._curator, ""))

    async def count_erased(self, wanted: Mapping[str, Any]) -> int:
        async with _our_errors():
            counted = await erasures.start_erasure(
                _taken(ErasureIn, **wanted, dry_run=True), self._curator, "", Response()
            )
        return int(_plain(counted)["total"])

    async def start_erasure(self, wanted: Mapping[str, Any], *, by: str) -> str:
        async with _our_errors():
            begun = await erasures.start_erasure(_taken(ErasureIn, **wanted), self._curator, by, Response())
        return str(_plain(begun)["request_id"])

    async def rejected(self, *, limit: int, stage: str | None, error_code: str | None) -> Json:
        async with _our_errors():
            return _plain(
                await rejected.list_rejected(self._curator, "", limit=limit, stage=stage, error_code=error_code)
            )

    async def rejected_one(self, rejected_id: str) -> Json:
        async with _our_errors():
            return _plain(await rejected.get_rejected(rejected_id, self._curator, ""))

    async def redrive(self, wanted: Mapping[str, Any], *, by: str) -> Json:
        async with _our_errors():
            return _plain(await rejected.redrive_rejected(_taken(RedriveIn, **wanted), self._curator, by))

    async def datasets(self) -> Sequence[Json]:
        async with _our_errors():
            found = await asyncio.to_thread(datasets.list_datasets, self._curator, "")
        return _list(_plain(found)["datasets"])

    async def dataset(self, name: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(datasets.view, self._curator, name))

    async def create_dataset(self, name: str, draft: Mapping[str, Any], *, by: str) -> None:
        async with _our_errors():
            wanted = _taken(DatasetIn, name=name, **draft)
            await datasets.create_dataset(wanted, self._curator, by)

    async def rows(self, name: str, *, limit: int, cursor: str | None) -> Json:
        async with _our_errors():
            return _plain(await preview.list_rows(name, self._curator, "", limit, cursor))

    async def preview(self, name: str) -> Json:
        async with _our_errors():
            return _plain(await preview.preview_dataset(name, self._curator, ""))

    async def bad_rows(self, name: str, *, limit: int) -> Json:
        async with _our_errors():
            return _plain(await preview.list_bad_rows(name, self._curator, "", None, limit))

    async def edit_row(self, name: str, row_key: str, messages: Sequence[Json], *, by: str) -> None:
        async with _our_errors():
            await draft_rows.edit_row(name, row_key, _taken(RowEditIn, messages=messages), self._curator, by)

    async def delete_row(self, name: str, row_key: str, *, by: str) -> None:
        async with _our_errors():
            await draft_rows.delete_row(name, row_key, self._curator, by)

    async def publish(self, name: str, *, note: str | None, recipe: Json | None, by: str) -> int:
        async with _our_errors():
            wanted = _taken(PublishIn, note=note, recipe=recipe)
            return (await versions.publish_version(name, self._curator, by, wanted)).version

    async def version(self, name: str, version: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(versions.get_version, name, version, self._curator, ""))

    async def origins(self, name: str, version: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(versions.version_lineage, name, version, self._curator, ""))

    async def aliases(self, name: str) -> Sequence[Json]:
        async with _our_errors():
            found = await asyncio.to_thread(aliases.list_aliases, name, self._curator, "")
        return _list(_plain(found)["aliases"])

    async def put_alias(self, name: str, alias: str, version: str, *, by: str) -> None:
        async with _our_errors():
            wanted = _taken(AliasIn, version=version)
            await asyncio.to_thread(aliases.put_alias, name, alias, wanted, self._curator, by)

    async def diff(self, name: str, before: str, after: str, *, limit: int) -> Json:
        async with _our_errors():
            found = await asyncio.to_thread(versions.difference, self._curator, name, before, after, limit=limit)
        return _plain(found)

    async def restore(self, name: str, version: str, *, by: str) -> None:
        async with _our_errors():
            wanted = _taken(RestoreIn, version=version)
            await asyncio.to_thread(aliases.restore_version, name, wanted, self._curator, by)

    async def runs(self, *, name: str | None, status: str | None) -> Sequence[Json]:
        wanted: Any = status if status in STATUSES else None
        async with _our_errors():
            found = await asyncio.to_thread(runs.list_runs, self._curator, "", RUNS_SHOWN, None, name, wanted)
        return _list(_plain(found)["runs"])

    async def run(self, run_id: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(runs.get_run, run_id, self._curator, ""))

    async def run_events(self, run_id: str) -> Sequence[Json]:
        async with _our_errors():
            return await asyncio.to_thread(self._run_events, run_id)

    def _run_events(self, run_id: str) -> Sequence[Json]:
        found: list[Json] = []
        cursor: str | None = None
        while True:  # a run that looks at its validation rows often tells more than a page
            page = _plain(runs.list_events(run_id, self._curator, "", EVENTS_READ, cursor))
            found += page["events"]
            if (cursor := page["cursor"]) is None:
                return found

    async def cancel_run(self, run_id: str, *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(runs.cancel_run, run_id, self._curator, by)

    async def resume_run(self, run_id: str, *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(runs.resume_run, run_id, self._curator, by)

    async def promote_run(self, run_id: str, wanted: Mapping[str, Any], *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(runs.promote_run, run_id, _taken(PromoteIn, **wanted), self._curator, by)

    async def run_samples(self, run_id: str) -> Sequence[Json]:
        async with _our_errors():
            found = await asyncio.to_thread(runs.list_samples, run_id, self._curator, "")
        return _list(_plain(found)["samples"])

    async def compare_runs(self, a: str, b: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(runs.compare_runs, a, b, self._curator, ""))

    async def models(self, name: str) -> Json:
        async with _our_errors():
            return _plain(await asyncio.to_thread(models.list_models, name, self._curator, ""))

    async def policy(self, name: str) -> Json | None:
        async with _our_errors():
            found = await asyncio.to_thread(training_api.policy_of, self._curator, name)
        return None if found is None else _plain(found)

    async def put_policy(self, name: str, wanted: Mapping[str, Any], *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(training_api.put_policy, name, _taken(PolicyIn, **wanted), self._curator, by)

    async def delete_policy(self, name: str, *, by: str) -> None:
        async with _our_errors():
            await asyncio.to_thread(training_api.delete_policy, name, self._curator, by)


@asynccontextmanager
async def _our_errors() -> AsyncIterator[None]:
    """Errors of the index, the bus and the database become those that a page can show."""
    try:
        yield
    except Exception as error:
        known = translated(error)
        if known is None:
            raise
        raise known from error


def _taken(model: type[T], **values: object) -> T:
    """What a form sent, held to the rules of the JSON endpoint."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(step) for step in found["loc"])
        raise Unprocessable(f"{where}: {found['msg']}") from None


def _plain(model: BaseModel) -> Json:
    return model.model_dump(mode="json")


def _list(found: object) -> Sequence[Json]:
    return found if isinstance(found, list) else []
