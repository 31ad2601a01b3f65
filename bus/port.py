"""How records travel, seen from the services: the one port with two engines behind it, Kafka and an SQLite file.

At least once: what `publish` returned for is durable, and what was polled comes again until it is committed.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from tunemill.schemas.topics import Topic

SCRUBBED = "tunemill-scrubbed"  # the header of a message that was made empty afterwards


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish. Messages with the same key keep their order."""

    value: bytes
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # few and short: they have no part in a topic's size limit


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it lies in a topic."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: bytes
    ts_ms: int
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_scrubbed(self) -> bool:
        """Whether what it held was taken out for good: readers pass over it."""
        return not self.value and SCRUBBED in self.headers


class Subscription(Protocol):
    """One reader's place in one or more topics."""

    async def poll(self, *, max_messages: int, timeout_s: float) -> Sequence[Message]:
        """The next messages in order, waiting at most `timeout_s` for the first; empty when none came, also in an outage."""

    async def commit(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        """Remember, for this group, the next offset to read of each (topic, partition).

        Raises:
            ValueError: this reader has no group.
        """

    async def lag(self) -> int:
        """How many messages lie in the topics that this subscription has not polled yet."""


class Bus(Protocol):
    """An engine that carries messages.

    Every method raises `BusUnavailable` when the engine cannot be reached.
    """

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Make these topics exist, with their partitions, size limit and compaction; those that exist stay as they are."""

    async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
        """Publish in order; when this returns all of them are durable.

        Raises:
            MessageTooLarge: one is larger than the topic takes; none after it was published.
        """

    def subscribe(self, topics: Sequence[Topic], *, group: str | None) -> AbstractAsyncContextManager[Subscription]:
        """Read from where `group` last committed, else from the start. Without a group: always from the start, all partitions."""

    async def tail(self, topic: Topic, *, limit: int) -> Sequence[Message]:
        """The newest messages, newest first. For people to look at."""

    async def read(self, topic: Topic, places: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], Message]:
        """The messages at these places, each a partition and an offset; what the topic does not hold, or no longer, is left out."""

    async def end_offsets(self, places: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """The offset that the next message of each (topic, partition) will get."""

    async def scrub(self, topic: Topic, changed: Mapping[tuple[int, int], bytes]) -> int | None:
        """Put other values in place of those of the messages at these places, and say how many; None: this engine cannot.

        They lose their keys, which may name whom they were about. One whose value becomes empty loses its headers, too, and is known
        by `is_scrubbed`. What was there lies on the disk until `expunge`.
        """

    async def expunge(self) -> None:
        """Overwrite on the disk what messages held before they were scrubbed."""

    async def kept_until_ms(self, topic: Topic) -> int | None:
        """When the engine will have let go of all that lies in this topic now; None: it keeps it until it is told otherwise."""

    async def ping(self) -> None:
        """Return if the engine answers."""

    async def close(self) -> None:
        """Let go of connections and files."""
