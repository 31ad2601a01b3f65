"""Which number stands for which value of private data in a conversation, in whatever order its rows are read. Pure."""

from tunemill.curator_api.rows import Row
from tunemill.privacy.pii import Pseudonyms

_Place = tuple[int, str, int]  # of a value: the row's time and key, and how many of its kind the row has before it


class Numbering:
    """Values are met row by row; when all rows were met, those of a conversation are numbered from its oldest row on.

    What is remembered grows with the different values of private data, and not with the rows.
    """

    def __init__(self) -> None:
        self._met: dict[str, dict[tuple[str, str], _Place]] = {}  # by conversation: where each value stands first
        self._numbers: dict[str, Pseudonyms] | None = None  # until all rows were met

    def meet(self, row: Row, found: Pseudonyms) -> None:
        """Take note of what was found in a row; when all were met, there is nothing to note any more."""
        if self._numbers is not None:
            return
        for kind, values in found.met().items():
            met = self._met.setdefault(row.conversation, {})
            for place, value in enumerate(values):
                here = (row.ts_ms or 0, row.row_key, place)
                met[kind, value] = min(here, met.get((kind, value), here))

    def settle(self) -> None:
        """All rows were met."""
        self._numbers = {one: Pseudonyms(sorted(met, key=met.__getitem__)) for one, met in self._met.items()}
        self._met = {}

    def of(self, row: Row) -> Pseudonyms:
        """The numbers of the row's conversation; its own alone until all rows were met."""
        return (self._numbers or {}).get(row.conversation) or Pseudonyms()
