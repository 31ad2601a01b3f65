"""The embedded loop: the same batch as the Faust worker's, on a `Bus`, inside a process that may do other things, too."""

import asyncio

from tunemill.bus.port import Bus
from tunemill.schemas.topics import ERASURES, LOGS, REJECTED
from tunemill.streams.batch import Hop, next_offsets, run_batch
from tunemill.streams.erased import follow_erasures
from tunemill.streams.ports import LogIndex
from tunemill.streams.rules import Rules

GROUP = "tunemill-streams"
_BATCH_MESSAGES = 200
_POLL_S = 0.5  # how long a stop may have to wait


async def run_local(bus: Bus, index: LogIndex, rules: Rules, *, stop: asyncio.Event) -> None:
    """Process messages of `llm.logs` until `stop` is set; the batch in hand is finished first.

    Raises:
        Exception: whatever a batch could not go on after. It is not committed, and comes again at the next start.
    """
    await bus.create_topics([LOGS, REJECTED, ERASURES])
    async with follow_erasures(bus, index) as erased, bus.subscribe([LOGS], group=GROUP) as subscription:
        await erased.catch_up()
        hop = Hop(index, bus, erased, rules)
        while not stop.is_set():
            messages = await subscription.poll(max_messages=_BATCH_MESSAGES, timeout_s=_POLL_S)
            if messages:
                await run_batch(messages, hop)
                await subscription.commit(next_offsets(messages))
            else:
                await erased.catch_up()  # a batch does so itself; an erasure may not wait for the next one
