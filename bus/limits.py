"""Is a message too large for its topic? Asked before anything is sent, so that both engines refuse the same messages."""

from collections.abc import Sequence

from tunemill.bus.errors import MessageTooLarge
from tunemill.bus.port import Outgoing
from tunemill.schemas.topics import Topic


def check_sizes(topic: Topic, messages: Sequence[Outgoing]) -> None:
    """Return if the topic takes every message; a key counts with its value.

    Raises:
        MessageTooLarge: names the place of the first one that is too large, never its content.
    """
    for place, message in enumerate(messages):
        size = len(message.value) + len((message.key or "").encode())
        if size > topic.max_message_bytes:
            limit = topic.max_message_bytes
            raise MessageTooLarge(f"message {place} of {len(messages)} has {size} bytes; {topic.name} takes {limit}")
