"""The embedded loop: the same batch as the Faust worker's, on a `Bus`, inside a process that may do other things, too."""

import asyncio
from collections.abc import Sequence

from tunemill.bus.port import Bus, Message
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED
from tunemill.streams.batch import Hop, next_offsets, run_batch
from tunemill.streams.erased import follow_erasures
from tunemill.streams.feedback import keep_feedback
from tunemill.streams.ports import LogIndex
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.schema_registry import opened_registry

GROUP = "tunemill-streams"
_BATCH_MESSAGES = 200
_POLL_S = 0.5  # how long a stop may have to wait


async def run_local(
    bus: Bus, index: LogIndex, rulebook: Rulebook, *, stop: asyncio.Event, schema_registry_url: str | None = None
) -> None:
    """Process messages of `llm.logs` and `llm.feedback` until `stop` is set; the batch in hand is finished first.

    Args:
        schema_registry_url: where the schemas of Confluent's frames are; without it such messages are dead letters.

    Raises:
        Exception: whatever a batch could not go on after. It is not committed, and comes again at the next start.
    """
    await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
    async with (
        follow_erasures(bus, index) as erased,
        opened_registry(schema_registry_url) as schemas,
        bus.subscribe([LOGS, FEEDBACK], group=GROUP) as subscription,
    ):
        await erased.catch_up()
        hop = Hop(index, bus, erased, rulebook, schemas)
        while not stop.is_set():
            messages = await subscription.poll(max_messages=_BATCH_MESSAGES, timeout_s=_POLL_S)
            if messages:
                await _work(messages, hop)
                await subscription.commit(next_offsets(messages))
            else:
                await erased.catch_up()  # a batch does so itself; an erasure may not wait for the next one


async def _work(messages: Sequence[Message], hop: Hop) -> None:
    logs = [message for message in messages if message.topic == LOGS.name]
    feedback = [message for message in messages if message.topic == FEEDBACK.name]
    if logs:
        await run_batch(logs, hop)
    if feedback:
        await keep_feedback(feedback, hop)
