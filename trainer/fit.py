"""What happens to rows that are longer than the model may read. Nothing is cut or left out without being counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.render import IGNORE, Example
from tunemill.trainer.template import Span

Policy = Literal["error", "drop", "truncate_left", "split"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The examples that fit, and what became of those that did not."""

    examples: list[Example]
    dropped: int = 0
    truncated: int = 0
    truncated_tokens: int = 0
    split: int = 0  # rows that became several examples
    dropped_answers: int = 0  # of those rows: answers that alone are too long

    def counts(self) -> dict[str, int]:
        """What became of the rows that are too long."""
        return {
            "dropped_overlong": self.dropped,
            "truncated": self.truncated,
            "truncated_tokens": self.truncated_tokens,
            "split": self.split,
            "dropped_answers": self.dropped_answers,
        }


def fit(examples: Sequence[Example], max_length_tokens: int, policy: Policy) -> Fitted:
    """Apply the policy for overlong rows.

    Raises:
        InvalidRun: the policy is `error` and a row is too long.
    """
    overlong = [example for example in examples if len(example.ids) > max_length_tokens]
    if not overlong:
        return Fitted(list(examples))
    if policy == "error":
        longest = max(len(example.ids) for example in overlong)
        raise InvalidRun(
            f"{len(overlong)} rows are longer than {max_length_tokens} tokens, the longest has {longest}",
            "raise max_length_tokens, or set overlong to drop, split or truncate_left",
        )
    if policy == "drop":
        kept = [example for example in examples if len(example.ids) <= max_length_tokens]
        return Fitted(kept, dropped=len(overlong))
    if policy == "split":
        return _split_all(examples, max_length_tokens)
    ends = [(example, _keep_end(example, max_length_tokens)) for example in examples]
    kept = [end for _, end in ends if end.spans]  # else no answer stands there
    lost = [len(example.ids) - len(end.ids) for example, end in ends if end.spans and end is not example]
    return Fitted(kept, dropped=len(ends) - len(kept), truncated=len(lost), truncated_tokens=sum(lost))


def trained_tokens(example: Example) -> int:
    """How many of its tokens are predicted and trained on; the first token has nothing before it to be predicted from."""
    return sum(label != IGNORE for label in islice(example.labels, 1, None))


def _keep_end(example: Example, max_length_tokens: int) -> Example:
    cut = len(example.ids) - max_length_tokens
    if cut <= 0:
        return example
    spans = tuple((max(a - cut, 0), b - cut) for a, b in example.spans if b > cut)
    return Example(example.row, example.ids[cut:], example.labels[cut:], spans)


def _split_all(examples: Sequence[Example], limit: int) -> Fitted:
    kept: list[Example] = []
    split = dropped_answers = 0
    for example in examples:
        if len(example.ids) <= limit:
            kept.append(example)
            continue
        pieces = list(_split(example, limit))
        kept += pieces
        split += 1
        dropped_answers += len(example.spans) - sum(len(piece.spans) for piece in pieces)
    return Fitted(kept, split=split, dropped_answers=dropped_answers)


def _split(example: Example, limit: int) -> Iterator[Example]:
    """Pieces that end with an answer; each answer that fits is trained on in one of them, behind what precedes it.

    The first piece begins where the row does. A later one takes as many answers as leave its first one half the limit of what
    precedes it, or all there is room for: that an answer is seen with less is the price of not reading the row once per answer.
    """
    waiting = [span for span in example.spans if span[1] <= limit or span[1] - span[0] < limit]
    while waiting:
        a = waiting[0][0]
        taken = 1
        while taken < len(waiting) and _start(waiting[taken], limit) <= max(0, a - limit // 2):
            taken += 1
        yield _piece(example, _start(waiting[taken - 1], limit), waiting[:taken])
        waiting = waiting[taken:]


def _start(last: Span, limit: int) -> int:
    return max(0, last[1] - limit)


def _piece(example: Example, start: int, answers: Sequence[Span]) -> Example:
    end = answers[-1][1]
    labels = [IGNORE] * (end - start)
    for a, b in answers:
        labels[a - start : b - start] = example.labels[a:b]
    spans = tuple((a - start, b - start) for a, b in answers)
    return Example(example.row, example.ids[start:end], tuple(labels), spans)
