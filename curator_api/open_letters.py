"""Which dead letters are open: written, and not sent again since. Folded from their topic, message by message; no I/O."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tunemill.schemas.records import RejectedLog

MOST_HELD = 100_000  # about 100 MB; beyond that the oldest are counted only


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A dead letter without its payload, and the partition and offset at which it lies with it."""

    letter: RejectedLog
    place: tuple[int, int]


class OpenLetters:
    """The open dead letters. The order in which a letter, its mark and the letter that follows it come makes no difference."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most = most
        self._open: dict[str, OpenLetter] = {}
        self._sent: dict[str, int] = {}  # by rejected_id: after which attempt it was sent again last
        self.older = 0  # how many were too many to hold

    def take(self, letter: RejectedLog, place: tuple[int, int]) -> None:
        """Fold in a letter, or the mark of one that was sent again. The same one again changes nothing."""
        name, held = letter.rejected_id, self._open.get(letter.rejected_id)
        if letter.redriven_ms is not None:
            self._sent[name] = max(self._sent.pop(name, 0), letter.attempts)
            if held is not None and held.letter.attempts <= letter.attempts:
                del self._open[name]
        elif letter.attempts > self._sent.get(name, 0) and (held is None or held.letter.attempts <= letter.attempts):
            self._open.pop(name, None)  # it goes to the end: the newest stand there
            self._open[name] = OpenLetter(msgspec.structs.replace(letter, payload=b""), place)
        if len(self._open) > self._most:
            del self._open[next(iter(self._open))]
            self.older += 1
        if (
            len(self._sent) > self._most
        ):  # a letter that a replay repeats so late is open once more, which harms nothing
            del self._sent[next(iter(self._sent))]

    def get(self, rejected_id: str) -> OpenLetter | None:
        """The open letter with this id."""
        return self._open.get(rejected_id)

    def matching(
        self, *, stage: str | None = None, error_code: str | None = None, topic: str | None = None
    ) -> list[OpenLetter]:
        """Those that have what is given, the newest first."""
        wanted = {"stage": stage, "error_code": error_code, "topic": topic}
        asked = [(name, value) for name, value in wanted.items() if value is not None]
        found = [one for one in self._open.values() if all(getattr(one.letter, name) == value for name, value in asked)]
        return sorted(found, key=lambda one: one.letter.ts_ms, reverse=True)


def counts(found: list[OpenLetter]) -> Mapping[tuple[str, str], int]:
    """How many there are by stage and error code, the commonest first."""
    return dict(Counter((one.letter.stage, one.letter.error_code) for one in found).most_common())
