"""A draft at one point in time: its rows, which of them are in the dataset, and why the others are not."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np

from tunemill.curator_api.curator import Curator
from tunemill.curator_api.facts import Columns, distinct
from tunemill.curator_api.filters import Outcome
from tunemill.curator_api.gather import Plan, gather
from tunemill.curator_api.near import sketches
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.recipe import slice_names
from tunemill.curator_api.report import Report, report_on
from tunemill.curator_api.rows import Left, Reason, Row
from tunemill.curator_api.select import REASONS, Selected, select, wants_sketches
from tunemill.curator_api.spill import Spill
from tunemill.curator_api.tally import Counting, Tally
from tunemill.schemas.manifest import SPLITS

_COUNTED_AT_ONCE = 10_000
_SAME = REASONS.index(Reason.DUPLICATE_CONTENT)


class Frozen:
    """A draft whose rows lie outside memory. Its rows are counted as they are read: `tally` is whole after `rows`."""

    def __init__(self, plan: Plan, spill: Spill, counting: Counting, lefts: Mapping[int, int]) -> None:
        """Decide which rows stay.

        Args:
            counting: what was left out before, counted.
            lefts: how many those are, by ingredient.
        """
        self.plan = plan
        self._spill, self._counting = spill, counting
        columns = spill.columns()  # not kept: while rows are written there is more room for them
        self._selected = select(columns, plan.recipe)
        for some in _left(columns, self._selected):
            counting.leave(some)
        found = np.bincount(columns.ingredient, minlength=len(plan.recipe.ingredients)).tolist()
        self.matched = [count + lefts.get(number, 0) for number, count in enumerate(found)]  # by ingredient
        self.logs = _logs(columns, self._selected)  # that are in it, also of rows that say the same

    @property
    def splits(self) -> dict[str, int]:
        """How many rows each split has."""
        counts = np.bincount(self._selected.split[self._selected.reason == 0], minlength=len(SPLITS))
        return dict(zip(SPLITS, counts.tolist(), strict=True))

    def rows(self) -> Iterator[list[StoredRow]]:
        """The rows that are in the dataset, in their order, some at a time. To be read once."""
        for some in self._spill.kept(self._selected):
            for split in SPLITS:
                self._counting.keep([one.row for one in some if one.split == split], split)
            yield some

    def tally(self) -> Tally:
        """What was counted."""
        return self._counting.tally()

    def report(self, default_consent: str) -> Report:
        """The report on what was counted.

        Args:
            default_consent: what held for logs that say nothing.
        """
        return report_on(
            self.tally(),
            self.plan.recipe,
            private_data=self.plan.private_data,
            point_ms=self.plan.point_ms,
            default_consent=default_consent,
            near=self._selected.near,
        )


@asynccontextmanager
async def frozen(curator: Curator, plan: Plan) -> AsyncIterator[Frozen]:
    """Gather a draft and decide over all its rows together. What it needs on disk is gone when the context ends.

    Raises:
        InvalidRecipe: a tokenizer or a version that the recipe names is not there.
    """
    counting, lefts = Counting(slice_names(plan.recipe)), dict[int, int]()
    with Spill(plan.recipe, sketches if wants_sketches(plan.recipe) else None) as spill:
        async for page in gather(curator, plan):
            await asyncio.to_thread(_take_in, spill, counting, lefts, page)
        yield await asyncio.to_thread(Frozen, plan, spill, counting, lefts)


def _take_in(spill: Spill, counting: Counting, lefts: dict[int, int], page: Sequence[Outcome]) -> None:
    spill.add([one for one in page if isinstance(one, Row)])
    left = [one for one in page if isinstance(one, Left)]
    counting.leave(left)
    for one in left:
        lefts[one.ingredient] = lefts.get(one.ingredient, 0) + 1


def _logs(columns: Columns, selected: Selected) -> int:
    kept = selected.reason == 0
    said = kept | ((selected.reason == _SAME) & kept[selected.same])
    return len(distinct(np.concatenate([columns.key[said & columns.of_log], columns.log_keys[said[columns.log_rows]]])))


def _left(columns: Columns, selected: Selected) -> Iterator[list[Left]]:
    """What the rows' columns say of those that are left out only when all are looked at together."""
    out = np.flatnonzero(selected.reason)
    for start in range(0, len(out), _COUNTED_AT_ONCE):
        some = out[start : start + _COUNTED_AT_ONCE]
        slices = [
            [columns.values[name][code] for code in codes[some].tolist()] for name, codes in columns.slices.items()
        ]
        reasons = [REASONS[code] for code in selected.reason[some].tolist()]
        yield [
            Left("", reason, dict(zip(columns.slices, values, strict=True)))
            for reason, *values in zip(reasons, *slices, strict=True)
            if reason is not None
        ]
