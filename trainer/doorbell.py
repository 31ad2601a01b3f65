"""`datasets.ready` -> a queued run. The event is a doorbell, not a workbench: one insert, then the offset; milliseconds.

What becomes of an event: without a recipe nothing is trained; with one there is a run under its `run_key`, queued, or failed at once
when the recipe or the base model is wrong, so that a person sees why. Bytes that are no valid event become a dead letter.
"""

import asyncio
import re
from typing import Any

import structlog
from msgspec.structs import asdict
from sqlalchemy import Engine

from tunemill.bus.port import Bus, Message, Outgoing, Subscription
from tunemill.registry.tables import now_ms
from tunemill.schemas import wire
from tunemill.schemas.ids import digest, new_id
from tunemill.schemas.manifest import valid_name
from tunemill.schemas.records import DatasetReady, RejectedLog
from tunemill.schemas.redrive import next_rejection
from tunemill.schemas.topics import REJECTED
from tunemill.schemas.wire import WireError
from tunemill.telemetry.metrics import REJECTED as REJECTED_COUNT
from tunemill.trainer.claim import QUEUED, describe_error, insert_run
from tunemill.trainer.errors import TrainerError
from tunemill.trainer.identity import identify, identify_base, run_key
from tunemill.trainer.named_versions import with_versions
from tunemill.trainer.recipe import resolve, spelled

GROUP = "trainer"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_INTEGER = 2**31 - 1  # of a column

log = structlog.get_logger()


async def answer(subscription: Subscription, bus: Bus, engine: Engine, *, timeout_s: float) -> int:
    """Turn the next events into runs; says how many events there were.

    1. insert the run, or publish the dead letter; 2. commit the offset. A crash between them repeats 1, which changes nothing.
    """
    messages = await subscription.poll(max_messages=100, timeout_s=timeout_s)
    for message in messages:
        try:
            event = decode(message.value)
        except WireError as error:
            await _dead_letter(bus, message, error)
        else:
            await asyncio.to_thread(ring, engine, event)  # reads the base model's weights once, which are gigabytes
        await subscription.commit({(message.topic, message.partition): message.offset + 1})
    return len(messages)


def decode(payload: bytes) -> DatasetReady:
    """The event in these bytes.

    Raises:
        WireError: they are none, or a name in them could not be a dataset's.
    """
    event = wire.decode(payload, DatasetReady)
    if not valid_name(event.name) or not valid_name(event.project):
        raise WireError("invalid", "the dataset's or the project's name holds other characters than a-z, 0-9, - and _")
    if not _DIGEST.fullmatch(event.digest) or not 1 <= event.version <= _MAX_INTEGER or not event.manifest_url:
        raise WireError("invalid", "digest, version or manifest_url cannot be right")
    if abs(event.priority) > _MAX_INTEGER or "\0" in event.manifest_url + event.sources_url:
        raise WireError("invalid", "priority, manifest_url or sources_url cannot be kept")
    return event


def ring(engine: Engine, event: DatasetReady) -> str | None:
    """Insert the run that this event asks for, unless it is there. Gives the new run's id, else None."""
    if event.recipe is None:
        log.info("dataset_ready_without_recipe", name=event.name, version=event.version)
        return None
    run_id = new_id()
    added = insert_run(
        engine, {**_unknown_run(event), **_outcome(engine, event), "run_id": run_id}, "the dataset is ready"
    )
    log.info(
        "run_added" if added else "run_known", run_id=run_id if added else None, name=event.name, version=event.version
    )
    return run_id if added else None


def _outcome(engine: Engine, event: DatasetReady) -> dict[str, Any]:
    """The columns that depend on the recipe: a queued run, or one that failed before it began."""
    try:
        recipe = with_versions(resolve(event.recipe), engine, event.project)
        identity = identify(recipe, identify_base(recipe.base, recipe.revision))
        key = run_key(event.project, event.digest, identity, recipe)
        return {"recipe": spelled(recipe), "status": QUEUED, "run_key": key, "identity": asdict(identity)}
    except TrainerError as error:
        # The key holds the error's code: the same order is a new run once the base model is there.
        key = digest([event.project, event.digest, event.recipe, error.code])
        recipe_as_given = event.recipe if isinstance(event.recipe, dict) else {}
        failed = {"status": "failed", "error": describe_error(error), "finished_ms": now_ms()}
        return {"recipe": recipe_as_given, "run_key": key, **failed}


def _unknown_run(event: DatasetReady) -> dict[str, Any]:
    return {
        "project": event.project,
        "name": event.name,
        "version": event.version,
        "digest": event.digest,
        "manifest_url": event.manifest_url,
        "sources_url": event.sources_url,
        "priority": event.priority,
        "attempt": 0,
        "event_seq": 0,
        "created_ms": now_ms(),
    }


async def _dead_letter(bus: Bus, message: Message, error: WireError) -> None:
    said = next_rejection(message.headers, message.topic, message.partition, message.offset, 0)
    letter = RejectedLog(
        rejected_id=said.rejected_id,
        ts_ms=now_ms(),
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        stage="decode",
        error_code=error.code,
        reason=str(error),
        payload=message.value,
        payload_bytes=len(message.value),
        attempts=said.attempts,
        first_ts_ms=said.first_ts_ms,
    )
    await bus.publish(REJECTED, [Outgoing(wire.encode(letter), key=letter.rejected_id)])
    REJECTED_COUNT.labels("decode", error.code).inc()
    log.warning("dataset_ready_rejected", code=error.code, partition=message.partition, offset=message.offset)
