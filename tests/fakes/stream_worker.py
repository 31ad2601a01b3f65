"""The stream's own functions over a bus, at work when a test says so."""

from collections import Counter

from tunemill.bus.port import Bus, Outgoing
from tunemill.schemas.outcome import Outcome
from tunemill.schemas.topics import FEEDBACK, LOGS
from tunemill.streams.batch import Hop, next_offsets, run_batch
from tunemill.streams.erased import follow_erasures
from tunemill.streams.feedback import keep_feedback
from tunemill.streams.ports import LogIndex
from tunemill.streams.rulebook import Rulebook
from tunemill.streams.rules import load_rules

RULES = load_rules()


class StreamWorker:
    """Processes what waits on the bus, and stops."""

    def __init__(self, bus: Bus, index: LogIndex) -> None:
        self.bus, self.index = bus, index

    async def publish(self, *values: bytes, key: str | None = None) -> None:
        """Messages of logs."""
        await self.bus.publish(LOGS, [Outgoing(value, key) for value in values])

    async def work(self, group: str = "g") -> Counter[Outcome]:
        """Account for everything that waits for a group, and say how it ended."""
        counts = Counter[Outcome]()
        async with (
            follow_erasures(self.bus, self.index) as erased,
            self.bus.subscribe([LOGS, FEEDBACK], group=group) as reader,
        ):
            hop = Hop(self.index, self.bus, erased, Rulebook(RULES))
            while messages := await reader.poll(max_messages=100, timeout_s=0):
                counts.update(await run_batch([one for one in messages if one.topic == LOGS.name], hop))
                counts.update(await keep_feedback([one for one in messages if one.topic == FEEDBACK.name], hop))
                await reader.commit(next_offsets(messages))
        return +counts
