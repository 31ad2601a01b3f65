"""Which dead letters are open: written, and not sent again since. Folded from their topic, message by message; no I/O."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tunemill.schemas.records import RejectedLog

MOST_HELD = 100_000  # about 100 MB; beyond that the oldest are counted only
MOST_SENT = 1_000_000  # about 150 MB; a letter that a replay repeats after that is open once more, which harms nothing


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A dead letter without its payload, and the partition and offset at which it lies with it."""

    letter: RejectedLog
    place: tuple[int, int]


class OpenLetters:
    """The open dead letters. The order in which a letter, its mark and the letter that follows it come makes no difference."""

    def __init__(self, most: int = MOST_HELD, *, again: "OpenLetters | None" = None) -> None:
        """Empty; `again`: to fold the same topic once more, knowing from its start what was sent, so that older ones have room."""
        self._most: int = again._most if again else most
        self._open: dict[str, OpenLetter] = {}
        self._sent: dict[str, int] = dict(again._sent) if again else {}  # by id: after which attempt it was sent last
        self.older = 0  # how many were too many to hold

    def take(self, letter: RejectedLog, place: tuple[int, int]) -> None:
        """Fold in a letter, or the mark of one that was sent again. The same one again changes nothing."""
        if letter.redriven_ms is not None:
            self._mark(letter.rejected_id, letter.attempts)
            return
        name, held = letter.rejected_id, self._open.get(letter.rejected_id)
        if letter.attempts > self._sent.get(name, 0) and (held is None or held.letter.attempts <= letter.attempts):
            self._open.pop(name, None)  # it goes to the end: the newest stand there
            self._open[name] = OpenLetter(msgspec.structs.replace(letter, payload=b""), place)
        if len(self._open) > self._most:
            del self._open[next(iter(self._open))]
            self.older += 1

    def has_room(self) -> bool:
        """Whether so many of the newest were sent that it is worth while to look for older ones again."""
        return self.older > 0 and len(self._open) <= self._most // 2

    def _mark(self, name: str, attempts: int) -> None:
        held, sent = self._open.get(name), self._sent.pop(name, 0)
        self._sent[name] = max(sent, attempts)
        if len(self._sent) > MOST_SENT:
            del self._sent[next(iter(self._sent))]
        if held is not None and held.letter.attempts <= attempts:
            del self._open[name]
        elif held is None and attempts > sent and self.older:  # it was one of those that are counted only
            self.older -= 1

    def get(self, rejected_id: str) -> OpenLetter | None:
        """The open letter with this id."""
        return self._open.get(rejected_id)

    def matching(
        self,
        *,
        stage: str | None = None,
        error_code: str | None = None,
        topic: str | None = None,
        until_ms: int | None = None,
    ) -> list[OpenLetter]:
        """Those that have what is given, and were rejected no later than `until_ms`, the newest first."""
        wanted = {"stage": stage, "error_code": error_code, "topic": topic}
        asked = [(name, value) for name, value in wanted.items() if value is not None]
        found = [one for one in self._open.values() if all(getattr(one.letter, name) == value for name, value in asked)]
        if until_ms is not None:
            found = [one for one in found if one.letter.ts_ms <= until_ms]
        return sorted(found, key=lambda one: one.letter.ts_ms, reverse=True)


def counts(found: list[OpenLetter]) -> Mapping[tuple[str, str], int]:
    """How many there are by stage and error code, the commonest first."""
    return dict(Counter((one.letter.stage, one.letter.error_code) for one in found).most_common())
