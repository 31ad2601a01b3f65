"""How long logs are kept, over HTTP. `POST /v1/jobs` with the kind `retention` has it done now; it is done by itself every hour."""

import asyncio

from fastapi import APIRouter

from tunemill.curator_api import retention_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.problems import responses
from tunemill.curator_api.retention_job import due
from tunemill.curator_api.retention_payloads import RetentionIn, RetentionOut
from tunemill.curator_api.retention_store import Policy
from tunemill.registry.tables import now_ms

router = APIRouter(prefix="/v1/retention", tags=["jobs"])


@router.get("")
async def get_retention(here: Here, _person: Person) -> RetentionOut:
    """How long logs are kept, and how many are due."""
    return await _out(here, await asyncio.to_thread(retention_store.policy_of, here.registry, here.project))


@router.put("", responses=responses(400, 422))
async def put_retention(wanted: RetentionIn, here: Here, person: Person) -> RetentionOut:
    """Set how long logs are kept. Once an hour, older ones are dropped, with their feedback.

    Erasures and published versions stay as they are. With `dry_run` nothing is set.
    """
    policy = Policy(max_age_days=wanted.max_age_days, max_bytes=wanted.max_bytes)
    if not wanted.dry_run:
        policy = await asyncio.to_thread(
            retention_store.set_policy,
            here.registry,
            here.project,
            max_age_days=wanted.max_age_days,
            max_bytes=wanted.max_bytes,
            by=person,
        )
    return await _out(here, policy)


async def _out(curator: Curator, policy: Policy) -> RetentionOut:
    count = await due(curator.index, policy, now_ms=now_ms())
    size = await curator.index.size()
    return RetentionOut(
        max_age_days=policy.max_age_days,
        max_bytes=policy.max_bytes,
        by=policy.by,
        updated_ms=policy.updated_ms,
        logs=size.logs,
        bytes=size.bytes,
        due=count,
    )
