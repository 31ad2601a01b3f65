"""A draft becomes an immutable version: files first, then one transaction that makes it visible and its event due."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from tunemill.curator_api import version_store
from tunemill.curator_api.card import card
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import EmptyDataset, Unavailable
from tunemill.curator_api.frozen import Frozen, frozen
from tunemill.curator_api.gather import Plan, planned
from tunemill.curator_api.leftovers import clean
from tunemill.curator_api.lineage import Lineage, lineage_of
from tunemill.curator_api.publish_files import Card, Written, folder, is_whole, name, write_rows
from tunemill.curator_api.recipe import Recipe
from tunemill.curator_api.report import ALLOW, Report, declared
from tunemill.curator_api.rows import Reason
from tunemill.curator_api.tally import Tally
from tunemill.curator_api.version_store import ErasedMeanwhile, Proposal, Version
from tunemill.schemas.manifest import DatasetManifest


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants published."""

    name: str
    note: str | None = None
    recipe: Any = None  # what to train on it
    by: str
    idempotency_key: str | None = None


async def publish(curator: Curator, order: Order) -> Version:
    """Publish a draft as the next version of its dataset.

    Raises:
        NotFound: there is no such dataset.
        EmptyDataset: no row is left; says how many matched and why each was left out.
        Unchanged: the latest version has this content.
        PublishedMeanwhile: somebody else published another version since the draft was read.
        Unavailable: logs are being erased faster than the draft can be written.
    """
    if made := await asyncio.to_thread(made_before, curator, order):
        return made
    for _ in range(3):
        parent = await asyncio.to_thread(version_store.latest, curator.registry, curator.project, order.name)
        plan = await planned(curator, order.name)
        try:
            async with frozen(curator, plan) as found:
                return await asyncio.to_thread(_publish, curator, order, parent, found)
        except ErasedMeanwhile:
            await asyncio.to_thread(clean, curator, order.name)  # what was written of erased logs
    raise Unavailable("logs of this draft are being erased right now: publish again in a moment")


def made_before(curator: Curator, order: Order) -> Version | None:
    """What an earlier request with the same idempotency key made."""
    if order.idempotency_key is None:
        return None
    return version_store.find_by_idempotency_key(curator.registry, curator.project, order.name, order.idempotency_key)


def card_of(dataset: str, report: Report, recipe: Recipe) -> Card:
    """What writes the card of a version with this report."""

    def written(manifest: DatasetManifest, digest: str) -> str:
        return card(
            name=dataset,
            digest=digest,
            shape=manifest.shape,
            splits=manifest.splits,
            report=msgspec.to_builtins(report),
            recipe=msgspec.to_builtins(recipe),
            files=_files(manifest),
        )

    return written


def make_version(
    curator: Curator,
    order: Order,
    plan: Plan,
    rows: Written,
    *,
    latest: int | None,
    parent: int | None,
    draft: Recipe,
    report: Report,
    tally: Tally,
    lineage: Lineage,
) -> Version:
    """Write what names these rows, and make them visible as a version.

    Args:
        latest: the latest version when the rows were read: there may be no later one by now.
        parent: the version that this one follows.

    Raises:
        Unchanged, PublishedMeanwhile, ErasedMeanwhile: as `insert_version` says.
    """
    place = folder(curator.project, order.name)
    named = name(curator.files, place, rows, card_of(order.name, report, draft))
    proposal = Proposal(
        project=curator.project,
        name=order.name,
        digest=named.digest,
        manifest_url=named.manifest_url,
        sources_url=named.sources_url,
        shape=rows.manifest.shape,
        latest=latest,
        parent=parent,
        point_ms=plan.point_ms,
        draft=draft,
        report=report,
        tally=tally,
        lineage=lineage,
        keys=rows.keys,
        erased_seen=plan.erased_seen,
        note=order.note,
        recipe=order.recipe,
        by=order.by,
        idempotency_key=order.idempotency_key,
    )
    return version_store.insert_version(curator.registry, proposal, partial(is_whole, curator.files, place, named))


def _files(manifest: DatasetManifest) -> Mapping[str, list[str]]:
    """The parts of each split, as they lie from the card."""
    files: dict[str, list[str]] = {split: [] for split in manifest.splits}
    for part in manifest.parts:
        files[part.split].append(f"../../{part.path}")
    return files


def _publish(curator: Curator, order: Order, parent: int | None, found: Frozen) -> Version:
    """1. the rows; 2. what names them; 3. one transaction: the version and its event."""
    plan, place = found.plan, folder(curator.project, order.name)
    if not sum(found.splits.values()):
        raise _empty(found.tally())
    written = write_rows(
        curator.files,
        place,
        found.rows(),
        splits=found.splits,
        shape=plan.recipe.shape,
        balance=declared(plan.recipe),
    )
    return make_version(
        curator,
        order,
        plan,
        written,
        latest=parent,
        parent=parent,
        draft=plan.recipe,
        report=found.report(curator.settings.default_consent),
        tally=found.tally(),
        lineage=_lineage(found),
    )


def _lineage(found: Frozen) -> Lineage:
    tally = found.tally()
    return lineage_of(
        found.plan.asked,
        found.plan.recipe,
        found.matched,
        sources=tally.sources,
        logs=found.logs,
        feedback=tally.flags.get("corrected", 0),
    )


def _empty(tally: Tally) -> EmptyDataset:
    if not tally.matched:
        return EmptyDataset("no log matches the draft's searches, and nothing was imported", matched=0, excluded={})
    reasons = ", ".join(f"{reason} {count}" for reason, count in tally.excluded.items())
    detail = f"{tally.matched} matched and every one was left out: {reasons}"
    if Reason.CONSENT in tally.excluded:
        detail = f"{detail}; {ALLOW}"
    return EmptyDataset(detail, matched=tally.matched, excluded=tally.excluded)
