"""Which rows go through the model together: an epoch's optimizer steps, and each step's forward passes.

A pure function of (lengths, seed, epoch), so that a resumed run sees what the killed one would have seen.
"""

import math
import random
from collections.abc import Sequence
from functools import lru_cache, partial

Bin = list[int]  # row numbers that share one forward pass
Step = list[Bin]  # the forward passes of one optimizer step


def epoch_steps(
    lengths: Sequence[int], *, rows_per_step: int, tokens_per_forward: int, seed: int, epoch: int
) -> list[Step]:
    """One epoch: every row once, in an order of its own, packed into forward passes.

    Args:
        lengths: each row's length in tokens.
        tokens_per_forward: a forward pass holds at most this many tokens; a longer row goes alone.
    """
    order = list(range(len(lengths)))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311  # an order, not a secret
    groups = [order[i : i + rows_per_step] for i in range(0, len(order), rows_per_step)]
    return [pack(group, lengths, tokens_per_forward) for group in groups]


def pack(rows: Sequence[int], lengths: Sequence[int], capacity: int) -> Step:
    """Best fit decreasing: the longest row first, each into the fullest bin that still takes it."""
    bins: list[Bin] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        fitting = [i for i, free in enumerate(room) if free >= lengths[row]]
        if fitting:
            best = min(fitting, key=lambda i: room[i])
            bins[best].append(row)
            room[best] -= lengths[row]
        else:
            bins.append([row])
            room.append(capacity - lengths[row])
    return bins


class Steps:
    """The optimizer steps of a run by their number, from 0; one epoch's are held at a time."""

    def __init__(self, lengths: Sequence[int], rows_per_step: int, *, tokens_per_forward: int, seed: int) -> None:
        self.per_epoch = math.ceil(len(lengths) / rows_per_step)
        self._of_epoch = lru_cache(maxsize=1)(
            partial(epoch_steps, lengths, rows_per_step=rows_per_step, tokens_per_forward=tokens_per_forward, seed=seed)
        )

    def __getitem__(self, step: int) -> Step:
        epoch, place = divmod(step, self.per_epoch)
        return self._of_epoch(epoch=epoch)[place]
