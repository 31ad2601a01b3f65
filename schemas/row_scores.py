"""What a tuned model scored on each row that it was measured on, and no word of the rows: two runs are compared in pairs."""

from typing import Literal

import msgspec

ROW_SCORES_FILE = "row_scores.json"  # in a run's folder: a list of `RowScores`


class RowScores(msgspec.Struct, frozen=True, kw_only=True):
    """One score after training, row by row."""

    name: str  # as in the run's result
    of: Literal["held_out", "retention"]
    rows_of: str  # the digest of what the rows are of: a version's manifest, or a file of general rows
    rows: tuple[int, ...]  # their places there
    values: tuple[float, ...]  # where there are weights, sums over them
    weights: tuple[float, ...] | None = None  # each row's share in the mean, such as its trained tokens; None: alike

    def is_of_same_rows(self, other: "RowScores") -> bool:
        """Whether each value has its counterpart: another tokenizer, for one, counts other tokens."""
        return (self.rows_of, self.rows, self.weights) == (other.rows_of, other.rows, other.weights)
