"""What keeps a row out of a dataset by itself, in the order of `Reason`, a page of rows at a time. Pure."""

from bisect import bisect
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import msgspec

from tunemill.curator_api.contamination import Contamination
from tunemill.curator_api.licences import TERMS, Licences
from tunemill.curator_api.private import holds_private, without_private_data
from tunemill.curator_api.pseudonyms import Numbering
from tunemill.curator_api.recipe import Filters, Recipe
from tunemill.curator_api.rows import (
    Changes,
    Left,
    Messages,
    Reason,
    Row,
    RowEdit,
    RowMessage,
    characters_of,
    fault,
    from_log,
)
from tunemill.curator_api.slices import LENGTHS, OF_METADATA, Described, slice_of
from tunemill.privacy.pii import KINDS, PrivateData, may_hold, without_private
from tunemill.schemas.origin import Trainable
from tunemill.schemas.records import Message, TaggedLog

Outcome = Row | Left

_ALL_KINDS = frozenset(KINDS)
_MOST_KNOWN = 10_000


class Candidate(NamedTuple):
    """A row before the filters."""

    row: Row
    kinds: AbstractSet[str] = _ALL_KINDS  # of private data that nobody said is none


@dataclass(frozen=True, kw_only=True)
class Sieve:
    """Everything by which rows of one draft are let in."""

    recipe: Recipe
    names: tuple[str, ...]  # of the slices that rows are looked at by
    changes: Changes
    default_consent: str
    policy: PrivateData  # the project's
    licences: Licences
    count: Callable[[Sequence[Row]], list[int]] | None = None  # tokens of rows
    contaminated: Contamination | None = None
    numbering: Numbering = field(default_factory=Numbering)  # of pseudonyms
    _known: dict[tuple[object, ...], dict[str, str]] = field(default_factory=dict)  # slices: few rows differ in them

    @property
    def masks(self) -> bool:
        """Whether private data is replaced: a recipe may ask for it where the project does not, never the other way."""
        return self.policy != "never" or self.recipe.filters.private_data != "project"

    def log(self, tagged: TaggedLog, *, ingredient: int, correction: str | None = None) -> Candidate | Left:
        """The row that a log makes.

        Args:
            correction: what stands in place of its answer.
        """
        log_id = tagged.log.log_id
        reason = self._taken_out(log_id, (log_id,))
        made = reason or from_log(
            tagged,
            default_consent=self.default_consent,
            private_data=self.policy,
            edit=self.changes.edits.get(log_id),
            correction=correction,
            ingredient=ingredient,
            licence=self.licences.of(tagged.log.model),
            slices_of=self._of_log,
        )
        if isinstance(made, Reason):
            return self.left_log(tagged, made, ingredient=ingredient)
        if not tagged.removed:
            return Candidate(made)
        looked_at = {name.removeprefix("pii:") for name in tagged.removed}  # a person says that it is none
        return Candidate(made, _ALL_KINDS - looked_at)

    def left_log(self, tagged: TaggedLog, reason: Reason, *, ingredient: int) -> Left:
        """A log that is left out, by the slices that it would have had."""
        said = (*tagged.shown.messages, *tagged.shown.output[:1])
        return Left(tagged.log.log_id, reason, self._of_log(tagged, said), ingredient)

    def row(self, row: Row, edit: RowEdit | None = None) -> Outcome:
        """What becomes of one row that is no log's: imported, or of a published version."""
        return self.sift([self.stored(row, edit)])[0]

    def stored(self, row: Row, edit: RowEdit | None = None) -> Candidate | Left:
        """A row that is no log's, as people left it.

        Args:
            edit: what a person put in place of its messages; None: what the draft holds of it.
        """
        if reason := self._taken_out(row.row_key, row.log_ids):
            return self._left(row, reason)
        if edit := edit or self.changes.edits.get(row.row_key):
            worse = edit.rejected or row.rejected
            slices = {name: value for name, value in row.slices.items() if name != "length"}
            row = msgspec.structs.replace(row, messages=edit.messages, rejected=worse, edited=True, slices=slices)
            if reason := fault(row.messages):
                return self._left(row, reason)
        named = row.model if row.terms is None else f"{TERMS}{row.terms}"
        licence = row.licence if named is None else self.licences.of(named)
        return Candidate(msgspec.structs.replace(row, licence=licence, tokens=None, slices=self._of_row(row)))

    def sift(self, candidates: Sequence[Candidate | Left]) -> list[Outcome]:
        """Rows and what is left out, in the order of the candidates."""
        found = [one if isinstance(one, Left) else self._alone(one) for one in candidates]
        places = [place for place, one in enumerate(found) if not isinstance(one, Left)]
        rows = [one for one in found if isinstance(one, Row)]
        rows = self._counted(rows)
        contaminated = self.contaminated.holds(rows) if self.contaminated else [False] * len(rows)
        for place, row, repeats in zip(places, rows, contaminated, strict=True):
            reason = self._reason(row, repeats=repeats)
            found[place] = row if reason is None else Left(row.row_key, reason, row.slices, row.ingredient)
        return found

    def _alone(self, candidate: Candidate) -> Outcome:
        """The row as it would be published."""
        row = candidate.row
        if self.masks:
            numbers = self.numbering.of(row) if self.recipe.filters.private_data == "pseudonyms" else None
            row = without_private_data(row, candidate.kinds, pseudonyms=numbers)
            if numbers is not None:
                self.numbering.meet(row, numbers)
        if (self.recipe.shape == "preference") != bool(row.rejected):
            return Left(row.row_key, Reason.OTHER_SHAPE, row.slices, row.ingredient)
        return row

    def _counted(self, rows: Sequence[Row]) -> list[Row]:
        if self.count is None:
            return list(rows)
        return [msgspec.structs.replace(row, tokens=tokens) for row, tokens in zip(rows, self.count(rows), strict=True)]

    def _reason(self, row: Row, *, repeats: bool) -> Reason | None:
        filters = self.recipe.filters
        if (
            filters.finish_reasons is not None
            and row.log_id is not None
            and row.finish_reason not in filters.finish_reasons
        ):
            return Reason.FINISH_REASON
        if self._is_refused(row.licence):
            return Reason.LICENCE
        if reason := _length_reason(filters, row.tokens):
            return reason
        if not _arguments_are_objects((*row.messages, *row.rejected)):
            return Reason.BROKEN_ARGUMENTS
        if filters.private_data == "exclude" and (row.masked or holds_private(row)):
            return Reason.PRIVATE
        return Reason.CONTAMINATED if repeats else None

    def refuses(self, name: str | None) -> bool:
        """Whether the table of models keeps out what this model said, or what is of this licence; None: nobody knows whose it is."""
        return name is not None and self._is_refused(self.licences.of(name))

    def _is_refused(self, licence: Trainable) -> bool:
        return licence == "no" or (self.recipe.filters.licence == "allowed" and licence != "yes")

    def _taken_out(self, row_key: str, log_ids: Sequence[str]) -> Reason | None:
        if not self.changes.erased.isdisjoint((row_key, *log_ids)):
            return Reason.ERASED
        return Reason.DELETED_BY_PERSON if row_key in self.changes.deleted else None

    def _left(self, row: Row, reason: Reason) -> Left:
        return Left(row.row_key, reason, self._of_row(row), row.ingredient)

    def _of_log(self, tagged: TaggedLog, messages: Sequence[Message | RowMessage]) -> dict[str, str]:
        log, tags = tagged.log, tuple([tag.tag for tag in tagged.tags])
        characters = characters_of(messages)
        return self._slices(
            Described(tagged.language, log.app, log.model, log.finish_reason, tags, characters, log.metadata)
        )

    def _of_row(self, row: Row) -> dict[str, str]:
        """Of a row that is no log's: what it has already stays, because a version does not keep all that it was told by."""
        told = Described(row.language, row.app, row.model, row.finish_reason, row.tags, row.characters())
        kept = {name: self._shown(row.slices[name]) for name in self.names if name in row.slices}
        return {**self._slices(told), **kept}

    def _slices(self, told: Described) -> dict[str, str]:
        long = bisect(LENGTHS, told.characters)
        more = [told.metadata.get(name) for name in self._keys]
        key = (told.language, told.app, told.model, told.finish_reason, told.tags, long, *more)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = {name: self._shown(slice_of(told, name)) for name in self.names}
        return found

    def _shown(self, value: str) -> str:
        """A slice's value as it may stand in reports, cards and sources."""
        return without_private(value)[0] if self.masks and may_hold(value) else value

    @cached_property
    def _keys(self) -> list[str]:
        """The keys of metadata that the slices go by."""
        return [name.removeprefix(OF_METADATA) for name in self.names if name.startswith(OF_METADATA)]


def _length_reason(filters: Filters, tokens: int | None) -> Reason | None:
    lengths = filters.lengths
    if lengths is None or tokens is None:
        return None
    if lengths.min_tokens is not None and tokens < lengths.min_tokens:
        return Reason.TOO_SHORT
    return Reason.TOO_LONG if lengths.max_tokens is not None and tokens > lengths.max_tokens else None


def _arguments_are_objects(messages: Messages) -> bool:
    for message in messages:
        for call in message.tool_calls:
            if not _is_object(call.arguments):
                return False
    return True


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
