"""The embedded loop: the same flow as the Faust worker's, on a `Bus`, inside a process that may do other things, too."""

import asyncio

from tunemill.bus.port import Bus
from tunemill.schemas.topics import ERASURES, FEEDBACK, LOGS, REJECTED
from tunemill.streams.batch import Hop, next_offsets
from tunemill.streams.erased import follow_erasures
from tunemill.streams.feedback import keep_feedback
from tunemill.streams.flow import flowing
from tunemill.streams.garbage import collected_seldom
from tunemill.streams.ports import LogIndex
from tunemill.streams.rulebook import Rulebook, follow_rules
from tunemill.streams.schema_registry import opened_registry

GROUP = "tunemill-streams"
_POLL_MESSAGES = 1000
_POLL_S = 0.5  # how long a stop may have to wait


async def run_local(
    bus: Bus, index: LogIndex, rulebook: Rulebook, *, stop: asyncio.Event, schema_registry_url: str | None = None
) -> None:
    """Process messages of `llm.logs` and `llm.feedback` until `stop` is set; what is begun is finished first.

    Args:
        schema_registry_url: where the schemas of Confluent's frames are; without it such messages are dead letters.

    Raises:
        Exception: whatever a part could not go on after. It is not committed, and comes again at the next start.
    """
    await bus.create_topics([LOGS, REJECTED, ERASURES, FEEDBACK])
    with collected_seldom():
        await _run(bus, index, rulebook, stop, schema_registry_url)


async def _run(
    bus: Bus, index: LogIndex, rulebook: Rulebook, stop: asyncio.Event, schema_registry_url: str | None
) -> None:
    async with (
        follow_rules(rulebook),
        follow_erasures(bus, index) as erased,
        opened_registry(schema_registry_url) as schemas,
        bus.subscribe([LOGS, FEEDBACK], group=GROUP) as subscription,
    ):
        await erased.catch_up()
        hop = Hop(index, bus, erased, rulebook, schemas)
        async with flowing(hop, subscription.commit) as flow:
            while not stop.is_set():
                messages = await subscription.poll(max_messages=_POLL_MESSAGES, timeout_s=_POLL_S)
                if messages:
                    await flow.take([message for message in messages if message.topic == LOGS.name])
                    feedback = [message for message in messages if message.topic == FEEDBACK.name]
                    if feedback:
                        await keep_feedback(feedback, hop)
                        await subscription.commit(next_offsets(feedback))
                else:
                    await erased.catch_up()  # a part does so itself; an erasure may not wait for the next one
