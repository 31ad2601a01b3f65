"""What a draft holds at this moment: the logs that its query finds, what was imported, what people changed."""

import asyncio

import msgspec

from tunemill.curator_api import draft_store, version_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.draft import Draft
from tunemill.curator_api.edits import brought_up
from tunemill.curator_api.queries import read_query, spelled_out
from tunemill.curator_api.snapshot import Snapshot, freeze
from tunemill.privacy.pii import PrivateData
from tunemill.registry import rule_sets


class Gathered(msgspec.Struct, frozen=True):
    """A draft, frozen."""

    draft: Draft  # its query spelled out: what saved searches and `now` meant
    snapshot: Snapshot
    private_data: PrivateData  # the policy that was in force
    erased_seen: int  # how many erasures there were before the first log was read


def policy(curator: Curator) -> PrivateData:
    """What is done with private data now, by the rules in force."""
    return curator.tagging.private_data(rule_sets.in_force(curator.registry, curator.settings.project).document)


async def gather(curator: Curator, name: str) -> Gathered:
    """Freeze a draft.

    1. read the draft and the ledgers; 2. scan the index at one point in time; 3. lay over it what people did since; 4. build
    the rows. A log that is erased after 1 may be in the result: `erased_seen` is how the one who stores it finds out.

    Raises:
        NotFound: there is no such dataset.
        QueryError: its query names a saved search that cannot be read any more.
    """
    registry, project = curator.registry, curator.settings.project
    dataset = await asyncio.to_thread(draft_store.find, registry, project, name)
    erased_seen = await asyncio.to_thread(version_store.erasure_count, registry, project)
    changes = await asyncio.to_thread(draft_store.changes, registry, project, name)
    imported = await asyncio.to_thread(draft_store.imported, registry, project, name)
    draft = dataset.draft
    private_data = await asyncio.to_thread(policy, curator)
    await curator.index.refresh()
    query = await asyncio.to_thread(read_query, registry, project, draft.query)
    found = [log async for log in curator.index.scan(query, limit=draft.limit)]
    logs = await asyncio.to_thread(brought_up, curator.registry, curator.project, found)
    snapshot = await asyncio.to_thread(
        freeze,
        logs,
        imported,
        changes,
        default_consent=curator.settings.default_consent,
        private_data=private_data,
        seed=draft.seed,
        test_share=draft.test_share,
    )
    meant = msgspec.structs.replace(draft, query=spelled_out(draft.query, query))
    return Gathered(meant, snapshot, private_data, erased_seen)
