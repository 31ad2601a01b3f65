"""What a version holds and may not be trained on any more: logs whose consent, and models whose licence, was taken back since."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from tunemill.curator_api import edit_store, licence_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.edits import brought_up
from tunemill.curator_api.filters import Sieve
from tunemill.curator_api.licences import TERMS
from tunemill.curator_api.publish_files import folder
from tunemill.curator_api.published import checked, entries_of, read_manifest, read_sources
from tunemill.curator_api.rows import Reason
from tunemill.curator_api.version_store import Version
from tunemill.schemas.origin import read_origins
from tunemill.schemas.records import TaggedLog

_LOGS = 500  # asked for at once


async def taken_back(curator: Curator, sieve: Sieve, base: Version) -> dict[str, Reason]:
    """The row_keys and log_ids that leave for it, each with why. The index is asked about those alone that only it knows.

    Args:
        sieve: by which rows of the version's recipe are let in now.

    Raises:
        DamagedFile: a file of the version is not what it was.
    """
    found: dict[str, Reason] = {}
    changed = licence_store.changed_since
    if await asyncio.to_thread(changed, curator.registry, curator.project, base.point_ms):
        found |= dict.fromkeys(await _unlicensed(curator, sieve, base), Reason.LICENCE)
    return found | dict.fromkeys(await _unconsented(curator, base.point_ms), Reason.CONSENT)


async def _unconsented(curator: Curator, since_ms: int) -> list[str]:
    """Logs of which a person's last word since then is not `train`, nor that they are as they came where that is `train`."""
    words = await asyncio.to_thread(edit_store.consents_since, curator.registry, curator.project, since_ms)
    as_they_came = [log_id for log_id, word in words.items() if word is None]
    default = curator.settings.default_consent
    came = [one.log.log_id async for one in _logs(curator, as_they_came) if (one.shown.consent or default) != "train"]
    return [*came, *(log_id for log_id, word in words.items() if word not in (None, "train"))]


async def _unlicensed(curator: Curator, sieve: Sieve, base: Version) -> list[str]:
    """What rows are made of that the table of models does not let in as it is now."""
    found, unsure = await asyncio.to_thread(_by_sources, curator, sieve, base)
    async for tagged in _logs(curator, list(unsure)):
        unsure[tagged.log.log_id] = tagged.log.model
    return [*found, *(key for key, name in unsure.items() if sieve.refuses(name))]


def _by_sources(curator: Curator, sieve: Sieve, base: Version) -> tuple[list[str], dict[str, str | None]]:
    """What is not let in, and what is behind rows that several logs are behind, with the model of one: a row names no other."""
    files, place = curator.files, folder(curator.project, base.name)
    entries = entries_of(read_manifest(files, place, base.digest), read_sources(files, place, base))
    found: list[str] = []
    unsure: dict[str, str | None] = {}
    for entry, content in zip(
        entries, files.read_many([f"{place}/{one.sources_path}" for one in entries]), strict=True
    ):
        for origin in read_origins(checked(content, entry.sources, f"{place}/{entry.sources_path}")):
            name = origin.model if origin.terms is None else f"{TERMS}{origin.terms}"
            behind = {*origin.row_keys, *origin.log_ids}
            if len(behind) > 1:
                unsure |= dict.fromkeys(behind, name)
            elif sieve.refuses(name):
                found += behind
    return found, unsure


async def _logs(curator: Curator, log_ids: Sequence[str]) -> AsyncIterator[TaggedLog]:
    """Those of these logs that the index has, with what people did to them since."""
    for start in range(0, len(log_ids), _LOGS):
        found = (await curator.index.stored(log_ids=log_ids[start : start + _LOGS], trace_ids=())).logs
        logs = [one.tagged for one in found.values()]
        for tagged in await asyncio.to_thread(brought_up, curator.registry, curator.project, logs):
            yield tagged
