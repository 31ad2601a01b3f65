"""What the pages show and change: the same values that the JSON endpoints under `/v1` take and give, as plain Python data."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from starlette.requests import Request

Json = dict[str, Any]


class PageSource(Protocol):
    """What stands behind the pages. Methods raise the errors of `curator_api.errors`, as the endpoints do."""

    async def admit(self, request: Request, key: str | None) -> str:
        """Who this is, by the key they brought or by where they call from.

        Raises:
            Unauthorised: the server asks for a key, and this is none of its keys.
        """

    async def search(self, query: str, *, limit: int, cursor: str | None, sort: str) -> Json:
        """`GET /v1/search`."""

    async def log(self, log_id: str, *, revision: int | None = None) -> Json:
        """`GET /v1/logs/{log_id}`, of a revision if one is named."""

    async def similar(self, log_id: str) -> Json:
        """`GET /v1/similar` of a log."""

    async def edit_tags(self, log_id: str, *, add: Sequence[str], remove: Sequence[str], by: str) -> None:
        """`POST /v1/logs/{log_id}/tags`."""

    async def review(self, query: str, *, sort: str, after: str | None) -> Json:
        """Where a person is in the review queue of a search: `log_id`, `following`, `left`, `done`."""

    async def decide(self, log_id: str, decision: str, *, revision: int, by: str) -> None:
        """Keep or reject a log that is as it was at a revision."""

    async def fix_log(
        self, log_id: str, *, messages: Sequence[Json], output: Sequence[Json], revision: int, by: str
    ) -> None:
        """`PATCH /v1/logs/{log_id}` of a log that is as it was at a revision; and keep it."""

    async def undo_review(self, log_id: str, revision: int, *, by: str) -> None:
        """Take back what was decided of a log after a revision, and the edit that came with it."""

    async def saved_searches(self) -> Sequence[Json]:
        """The list in `GET /v1/searches`."""

    async def save_search(self, name: str, query: str, *, by: str) -> None:
        """`PUT /v1/searches/{name}`."""

    async def delete_search(self, name: str, *, by: str) -> None:
        """`DELETE /v1/searches/{name}`."""

    async def edit_log(self, log_id: str, change: Mapping[str, Any], *, by: str) -> None:
        """`PATCH /v1/logs/{log_id}`."""

    async def revert_log(self, log_id: str, wanted: Mapping[str, Any], *, by: str) -> None:
        """`POST /v1/logs/{log_id}/revert`."""

    async def jobs(self) -> Sequence[Json]:
        """The list in `GET /v1/jobs`, the newest first."""

    async def job(self, job_id: str) -> Json:
        """`GET /v1/jobs/{job_id}`."""

    async def count_logs(self, query: str) -> Json:
        """`POST /v1/jobs` with `dry_run`: how many logs match."""

    async def start_job(self, wanted: Mapping[str, Any], *, by: str) -> str:
        """`POST /v1/jobs`; the id of the new job."""

    async def cancel_job(self, job_id: str, *, by: str) -> None:
        """`POST /v1/jobs/{job_id}/cancel`."""

    async def undo_job(self, job_id: str, *, by: str) -> None:
        """`POST /v1/jobs/{job_id}/undo`."""

    async def erasures(self) -> Sequence[Json]:
        """The list in `GET /v1/erasures`, the newest first."""

    async def erasure(self, request_id: str) -> Json:
        """`GET /v1/erasures/{request_id}`."""

    async def count_erased(self, wanted: Mapping[str, Any]) -> int:
        """`POST /v1/erasures` with `dry_run`: how many logs it would be about."""

    async def start_erasure(self, wanted: Mapping[str, Any], *, by: str) -> str:
        """`POST /v1/erasures`; the id of the request."""

    async def rejected(self, *, limit: int, stage: str | None, error_code: str | None) -> Json:
        """`GET /v1/rejected`."""

    async def rejected_one(self, rejected_id: str) -> Json:
        """`GET /v1/rejected/{rejected_id}`."""

    async def redrive(self, wanted: Mapping[str, Any], *, by: str) -> Json:
        """`POST /v1/rejected/redrive`."""

    async def datasets(self) -> Sequence[Json]:
        """The list in `GET /v1/datasets`."""

    async def dataset(self, name: str) -> Json:
        """`GET /v1/datasets/{name}`: `name`, `draft`, and `versions` with the newest first."""

    async def create_dataset(self, name: str, draft: Mapping[str, Any], *, by: str) -> None:
        """`POST /v1/datasets`."""

    async def rows(self, name: str, *, limit: int, cursor: str | None) -> Json:
        """`GET /v1/datasets/{name}/rows`."""

    async def preview(self, name: str) -> Json:
        """`GET /v1/datasets/{name}/preview`."""

    async def bad_rows(self, name: str, *, limit: int) -> Json:
        """`GET /v1/datasets/{name}/bad-rows`."""

    async def edit_row(self, name: str, row_key: str, messages: Sequence[Json], *, by: str) -> None:
        """`PATCH /v1/datasets/{name}/rows/{row_key}`."""

    async def delete_row(self, name: str, row_key: str, *, by: str) -> None:
        """`DELETE /v1/datasets/{name}/rows/{row_key}`."""

    async def publish(self, name: str, *, note: str | None, recipe: Json | None, by: str) -> int:
        """`POST /v1/datasets/{name}/versions`; the number of the new version."""

    async def version(self, name: str, version: str) -> Json:
        """`GET /v1/datasets/{name}/versions/{version}`."""

    async def origins(self, name: str, version: str) -> Json:
        """`GET /v1/datasets/{name}/versions/{version}/lineage`."""

    async def aliases(self, name: str) -> Sequence[Json]:
        """The list in `GET /v1/datasets/{name}/aliases`."""

    async def put_alias(self, name: str, alias: str, version: str, *, by: str) -> None:
        """`PUT /v1/datasets/{name}/aliases/{alias}`."""

    async def diff(self, name: str, before: str, after: str, *, limit: int) -> Json:
        """`GET /v1/datasets/{name}/diff`."""

    async def restore(self, name: str, version: str, *, by: str) -> None:
        """`POST /v1/datasets/{name}/restore`."""

    async def runs(self, *, name: str | None, status: str | None) -> Sequence[Json]:
        """The list in `GET /v1/runs`, the newest first."""

    async def run(self, run_id: str) -> Json:
        """`GET /v1/runs/{run_id}`."""

    async def run_events(self, run_id: str) -> Sequence[Json]:
        """The list in `GET /v1/runs/{run_id}/events`, the oldest first."""

    async def cancel_run(self, run_id: str, *, by: str) -> None:
        """`POST /v1/runs/{run_id}/cancel`."""

    async def resume_run(self, run_id: str, *, by: str) -> None:
        """`POST /v1/runs/{run_id}/resume`."""

    async def promote_run(self, run_id: str, wanted: Mapping[str, Any], *, by: str) -> None:
        """`POST /v1/runs/{run_id}/promote`."""

    async def run_samples(self, run_id: str) -> Sequence[Json]:
        """The list in `GET /v1/runs/{run_id}/samples`."""

    async def compare_runs(self, a: str, b: str) -> Json:
        """`GET /v1/runs/{a}/compare/{b}`."""

    async def models(self, name: str) -> Json:
        """`GET /v1/datasets/{name}/models`."""

    async def policy(self, name: str) -> Json | None:
        """`GET /v1/datasets/{name}/training`; None: there is none."""

    async def put_policy(self, name: str, wanted: Mapping[str, Any], *, by: str) -> None:
        """`PUT /v1/datasets/{name}/training`."""

    async def delete_policy(self, name: str, *, by: str) -> None:
        """`DELETE /v1/datasets/{name}/training`."""
