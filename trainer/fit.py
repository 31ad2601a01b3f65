"""What happens to rows that are longer than the model may read. Nothing is cut or left out without being counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.render import IGNORE, Example

Policy = Literal["error", "drop", "truncate_left"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The examples that fit, and what became of those that did not."""

    examples: list[Example]
    dropped: int
    truncated: int
    truncated_tokens: int


def fit(examples: Sequence[Example], max_length_tokens: int, policy: Policy) -> Fitted:
    """Apply the policy for overlong rows.

    Raises:
        InvalidRun: the policy is `error` and a row is too long.
    """
    overlong = [example for example in examples if len(example.ids) > max_length_tokens]
    if overlong and policy == "error":
        longest = max(len(example.ids) for example in overlong)
        raise InvalidRun(
            f"{len(overlong)} rows are longer than {max_length_tokens} tokens, the longest has {longest}",
            "raise max_length_tokens, or set overlong to drop or truncate_left",
        )
    if policy == "drop":
        kept = [example for example in examples if len(example.ids) <= max_length_tokens]
        return Fitted(kept, dropped=len(overlong), truncated=0, truncated_tokens=0)
    kept = [_keep_end(example, max_length_tokens) for example in examples]
    cut = sum(len(example.ids) - max_length_tokens for example in overlong)
    return Fitted(kept, dropped=0, truncated=len(overlong), truncated_tokens=cut)


def trained_tokens(example: Example) -> int:
    """How many of its tokens are predicted and trained on; the first token has nothing before it to be predicted from."""
    return sum(label != IGNORE for label in example.labels[1:])


def _keep_end(example: Example, max_length_tokens: int) -> Example:
    cut = len(example.ids) - max_length_tokens
    if cut <= 0:
        return example
    spans = tuple((max(a - cut, 0), b - cut) for a, b in example.spans if b > cut)
    return Example(example.row, example.ids[cut:], example.labels[cut:], spans)
