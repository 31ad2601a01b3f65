"""Logs made of the sentences of others: as many as one likes, in which the vocabulary goes on growing as that of real text does."""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import count, islice

import msgspec

from tunemill.schemas.ids import new_id
from tunemill.schemas.records import Message, TaggedLog

HEAPS_EXPONENT = 0.6  # words known after n logs grow by this power of n, as in English text
STEP_MS = 10_000  # from one log to the next
START_MS = 1_767_225_600_000  # 2026-01-01

_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*\s*")
_WORD = re.compile(r"\w+")
_SYLLABLES = tuple(first + second for first in "bdfgklmnprstvz" for second in "aeiou")
_MADE_SYLLABLES = 5


class Recombined:
    """Each log has an input's values and as many sentences, of any input, in each of its texts; the same for the same seed.

    Where sentences alone bring no new word in time, rare made ones come in; old made ones come back, the older the oftener.
    """

    def __init__(self, tagged: Sequence[TaggedLog], *, seed: int = 0) -> None:
        self._inputs = tagged
        self._random = random.Random(seed)
        self._sentences = {
            role: [sentence for log in tagged for message in _messages(log, role) for sentence in _cut(message.content)]
            for role in ("user", "assistant")
        }
        self._input_words = {word for some in self._sentences.values() for text in some for word in _words(text)}
        self._made: list[str] = []

    @property
    def words(self) -> int:
        """How many different words there can have been so far."""
        return len(self._input_words) + len(self._made)

    def logs(self) -> Iterator[TaggedLog]:
        """One after the other, without end."""
        for number in count():
            due = len(self._input_words) * (number / len(self._inputs)) ** HEAPS_EXPONENT
            rare = [self._make() for _ in range(int(due) - self.words)] + self._again()
            known = self._inputs[self._random.randrange(len(self._inputs))]
            messages = [self._mixed(message) for message in known.log.messages]
            place = next((at for at, message in enumerate(messages) if message.role == "user"), 0)
            messages[place] = _with_words(messages[place], rare)
            log = msgspec.structs.replace(
                known.log,
                log_id=new_id(),
                ts_ms=START_MS + number * STEP_MS,
                messages=tuple(messages),
                output=tuple([self._mixed(message) for message in known.log.output]),
            )
            yield msgspec.structs.replace(known, log=log)

    def _mixed(self, message: Message) -> Message:
        pool = self._sentences.get(message.role)
        if not pool or not message.content:
            return message
        wanted = len(_cut(message.content))
        return msgspec.structs.replace(message, content="".join(self._random.choices(pool, k=wanted)))

    def _make(self) -> str:
        """A word that was not there: the letters of its number, shuffled."""
        rest = (len(self._made) * 2_654_435_761) % len(_SYLLABLES) ** _MADE_SYLLABLES
        syllables = []
        for _ in range(_MADE_SYLLABLES):
            rest, at = divmod(rest, len(_SYLLABLES))
            syllables.append(_SYLLABLES[at])
        self._made.append("".join(syllables))
        return self._made[-1]

    def _again(self) -> list[str]:
        return [self._made[int(len(self._made) ** self._random.random()) - 1]] if self._made else []


def taken(logs: Iterator[TaggedLog], wanted: int, *, at_once: int) -> Iterator[list[TaggedLog]]:
    """So many of them, some at once."""
    while wanted > 0 and (some := list(islice(logs, min(at_once, wanted)))):
        wanted -= len(some)
        yield some


def _messages(tagged: TaggedLog, role: str) -> list[Message]:
    return [message for message in (*tagged.log.messages, *tagged.log.output) if message.role == role]


def _cut(text: str | None) -> list[str]:
    return _SENTENCE.findall(text or "")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _with_words(message: Message, words: Sequence[str]) -> Message:
    return msgspec.structs.replace(message, content=" ".join([message.content or "", *words])) if words else message
