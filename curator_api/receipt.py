"""What an erasure removed where, written down step by step and handed over in the end: counts and digests, no text. Pure."""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

Exposure = Literal["exposed", "redacted before training", "not exposed"]
Kind = Literal["log", "subject", "query"]

INDEX = "search index"


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the erased logs in one store."""

    store: str
    removed: int
    note: str | None = None
    kept_until_ms: int | None = None  # when the store lets go of what could not be removed


class RedactedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that lost rows."""

    name: str
    version: int
    revision: int
    rows_removed: int
    digest: str
    replaces_digest: str


class ExposedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run on a version that held one of the logs, and whether it saw it."""

    run_id: str
    name: str
    version: int
    status: str
    artefact_url: str | None
    exposure: Exposure
    aliases: tuple[str, ...] = ()  # the names that its model is used by


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was done so far; once all steps are, it is what the person gets."""

    steps: tuple[str, ...] = ()  # that are done
    counted: dict[
        str, int
    ] = {}  # by store, what a step is about to remove: known also if it is cut off and begun again
    logs: int = 0
    stores: tuple[Line, ...] = ()
    versions: tuple[RedactedVersion, ...] = ()
    runs: tuple[ExposedRun, ...] = ()
    verified: bool = False  # the index was asked for the logs in the end, and has none
    error: str | None = None


def scope_digest(value: str) -> str:
    """The SHA-256 of a log's id, a subject or a query: says that two requests are about the same, and not about what."""
    return hashlib.sha256(value.encode()).hexdigest()


def about_to_remove(receipt: Receipt, found: Iterable[tuple[str, int]]) -> Receipt:
    """It, with what is found in stores before it is removed there. What was found by a step that was cut off counts."""
    counted = dict(receipt.counted)
    for store, count in found:
        counted[store] = max(counted.get(store, 0), count)
    return msgspec.structs.replace(receipt, counted=counted)


def step_done(receipt: Receipt, step: str, lines: Iterable[Line]) -> Receipt:
    """It, with a step that came to its end: a line's number is at least what was counted before, and adds to an earlier line's."""
    counted, stores = dict(receipt.counted), {line.store: line for line in receipt.stores}
    for line in lines:
        removed = max(line.removed, counted.pop(line.store, 0))
        before = stores[line.store].removed if line.store in stores else 0
        stores[line.store] = msgspec.structs.replace(line, removed=before + removed)
    return msgspec.structs.replace(
        receipt, steps=(*receipt.steps, step), counted=counted, stores=tuple(stores.values())
    )
