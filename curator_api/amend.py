"""A version becomes the next one with what people changed in the draft since: only the buckets with these rows are touched."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from tunemill.curator_api import draft_store, version_refs, version_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import DamagedFile, EmptyDataset, Unavailable, Unprocessable
from tunemill.curator_api.filters import Outcome, Sieve
from tunemill.curator_api.gather import Plan, gather, planned, sieve_of
from tunemill.curator_api.leftovers import clean
from tunemill.curator_api.lineage import Lineage
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.publish import Order, made_before, make_version
from tunemill.curator_api.publish_files import folder
from tunemill.curator_api.published import read_manifest, read_sources
from tunemill.curator_api.recipe import FromVersion, Imported, Logs, Recipe, slice_names
from tunemill.curator_api.report import Report, report_on
from tunemill.curator_api.rewrite import Change, rewrite
from tunemill.curator_api.rows import Left, Reason, Row, is_imported
from tunemill.curator_api.taken_back import taken_back
from tunemill.curator_api.tally import Tally
from tunemill.curator_api.version_store import ErasedMeanwhile, Version


async def amend(curator: Curator, order: Order, wanted: str) -> Version:
    """Publish a version's rows with the row edits and deletions that were made since, without asking the index for others.

    What is decided over all rows together, as near-duplicates, caps and limits, stays as it was decided.

    Args:
        wanted: the version, by number or alias.

    Raises:
        NotFound: there is no such dataset or version.
        Unprocessable: the rows were let in by a looser policy for private data than is in force.
        EmptyDataset: no row is left.
        Unchanged: the latest version has this content.
        PublishedMeanwhile: somebody else published another version meanwhile.
        Unavailable: logs are being erased faster than the version can be written.
    """
    if made := await asyncio.to_thread(made_before, curator, order):
        return made
    for _ in range(3):
        latest = await asyncio.to_thread(version_store.latest, curator.registry, curator.project, order.name)
        base = await asyncio.to_thread(version_refs.find_one, curator.registry, curator.project, order.name, wanted)
        plan = await planned(curator, order.name, base.draft)
        _refuse_looser(plan, base)
        try:
            changes, gone = await _changes(curator, plan, base)
            return await asyncio.to_thread(_amend, curator, order, _Amended(plan, base, latest, gone), changes)
        except ErasedMeanwhile:
            await asyncio.to_thread(clean, curator, order.name)  # what was written of erased logs
        except DamagedFile:
            now = await asyncio.to_thread(version_refs.find_one, curator.registry, curator.project, order.name, wanted)
            if now.digest == base.digest:
                raise  # else an erasure took its files away, and left others
    raise Unavailable("logs of this version are being erased right now: publish again in a moment")


def _refuse_looser(plan: Plan, base: Version) -> None:
    was = base.report.private_data or "never"
    if base.draft.filters.private_data == "project" and was == "never" and plan.private_data != "never":
        raise Unprocessable(
            f"version {base.version} is as the logs are, and by now private data is to be replaced: restore it, and publish "
            "the draft, in which every row is held to that"
        )


async def _changes(curator: Curator, plan: Plan, base: Version) -> tuple[dict[str, Change], dict[str, Reason]]:
    """What becomes of the rows that people changed since the version was of, and why what nobody took out itself leaves."""
    since = await asyncio.to_thread(
        draft_store.changed_since, curator.registry, curator.project, plan.name, base.point_ms
    )
    edited = sorted(since & plan.changes.edits.keys())
    logs = await _logs(curator, plan, base.draft, [key for key in edited if not is_imported(key)])
    sieve = await sieve_of(curator, plan)
    changes: dict[str, Change] = {key: partial(_edited, sieve, base.draft, logs) for key in edited}
    gone = await taken_back(curator, sieve, base) | dict.fromkeys(plan.changes.erased, Reason.ERASED)
    return changes | dict.fromkeys((since & plan.changes.deleted) | gone.keys()), gone


async def _logs(curator: Curator, plan: Plan, recipe: Recipe, log_ids: Sequence[str]) -> dict[str, Outcome]:
    """The rows that these logs make now, or why they make none."""
    if not log_ids:
        return {}
    wanted = {
        "ingredients": (Logs(log_ids=tuple(log_ids)),),
        "slices": slice_names(recipe),
    }  # also those of ingredients
    these = msgspec.structs.replace(plan, recipe=msgspec.structs.replace(recipe, **wanted))
    among = msgspec.structs.replace(plan, recipe=recipe)
    return {one.row_key: one async for page in gather(curator, these, among=among) for one in page}


def _edited(sieve: Sieve, recipe: Recipe, logs: Mapping[str, Outcome], row: Row) -> Row | None:
    """The row as a plain publishing would make it, on the side and of the ingredient that it is of."""
    one = recipe.ingredients[row.ingredient] if row.ingredient < len(recipe.ingredients) else None
    found = None if isinstance(one, FromVersion | Imported) else logs.get(row.row_key)
    if found is None or (isinstance(found, Left) and found.reason == Reason.NOT_FOUND):
        found = sieve.row(row)
    if isinstance(found, Left):
        return None
    kept = {"conversation": row.conversation, "joined": row.joined, "ingredient": row.ingredient, "session_id": None}
    return msgspec.structs.replace(found, **kept)


class _Amended(NamedTuple):
    """What is amended, as it stood when the changes were read."""

    plan: Plan
    base: Version
    latest: int | None
    gone: Mapping[str, Reason]  # what nobody took out of the draft, and leaves


def _amend(curator: Curator, order: Order, amended: _Amended, changes: Mapping[str, Change]) -> Version:
    plan, base, latest, gone = amended
    place = folder(curator.project, order.name)
    counted = _Counted(slice_names(base.draft), version_store.find_tally(curator.registry, curator.project, base))
    rewritten = rewrite(
        curator.files,
        place,
        read_manifest(curator.files, place, base.digest),
        read_sources(curator.files, place, base),
        changes,
        see=counted.see,
    )
    if not rewritten.rows.manifest.rows:
        detail = "every row was taken out since"
        raise EmptyDataset(detail, matched=base.rows, excluded={Reason.DELETED_BY_PERSON: base.rows})
    tally = counted.tally(gone)
    return make_version(
        curator,
        order,
        plan,
        rewritten.rows,
        latest=latest,
        parent=base.version,
        draft=base.draft,
        report=_report(curator, plan, base, tally),
        tally=tally,
        lineage=msgspec.structs.replace(base.lineage or Lineage(), amends=base.version),
    )


class _Counted:
    """A version's tally while its rows change. What changed is held until the end: a row that moved is seen twice."""

    def __init__(self, names: Sequence[str], tally: Tally) -> None:
        self._names, self._tally = names, tally
        self._left: dict[str, StoredRow] = {}  # by the key that stood for them
        self._came: dict[str, StoredRow] = {}

    def see(self, left: Sequence[StoredRow], came: Sequence[StoredRow]) -> None:
        """Take rows out and others in."""
        for row in left:
            known = self._came.pop(row.row_keys[0], None)
            if known is None or known.row_id != row.row_id:
                self._left[row.row_keys[0]] = row
        self._came.update((row.row_keys[0], row) for row in came)

    def tally(self, why: Mapping[str, Reason]) -> Tally:
        """What is in the version and what is left out: by people or, of what is named here, for another reason; or as a
        duplicate that came or went."""
        before = {key: row.row.slices for row in self._left.values() for key in row.row_keys}
        after = {key: row.row.slices for row in self._came.values() for key in row.row_keys}
        gone = before.keys() - after.keys()
        out = [Left(key, why.get(key, Reason.DELETED_BY_PERSON), before[key]) for key in gone]
        repeated = (self._left.keys() & after.keys()) - self._came.keys()
        out += [Left(key, Reason.DUPLICATE_CONTENT, after[key]) for key in repeated]
        alone = (self._came.keys() | gone) - self._left.keys()
        no_longer = [Left(key, Reason.DUPLICATE_CONTENT, (before | after)[key]) for key in alone]
        return self._tally - self._of(self._left, no_longer) + self._of(self._came, out)

    def _of(self, rows: Mapping[str, StoredRow], left: Sequence[Left]) -> Tally:
        return Tally.of(self._names, [(row.row, row.split) for row in rows.values()], left)


def _report(curator: Curator, plan: Plan, base: Version, tally: Tally) -> Report:
    """On the rows as they are now, of the version's own point in time."""
    return report_on(
        tally,
        base.draft,
        private_data=plan.private_data,
        point_ms=base.point_ms,
        default_consent=curator.settings.default_consent,
        near=base.report.near_duplicates,
    )
