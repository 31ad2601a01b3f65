"""Pairs of a better and a worse answer to one prompt, as the model sees them: through the same template and shields as any row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.fit import Policy
from tunemill.trainer.render import Rendered, render
from tunemill.trainer.template import Reason, is_answer


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a preference dataset; each answer ends with the token that stops it."""

    row: int  # place in the rows that were rendered
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]

    @property
    def length_tokens(self) -> int:
        """What must fit the model: each answer is read behind the prompt, and not behind the other answer."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def tokens(self) -> int:
        """What goes through the model: the prompt twice, and both answers."""
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


@dataclass(frozen=True, slots=True)
class RenderedPairs:
    """Pairs, and the better side of each as a row of its own; there the rows that gave no pair are accounted for."""

    pairs: list[Pair]
    chosen: Rendered


@dataclass(frozen=True, slots=True)
class FittedPairs:
    """The pairs that fit, and what became of those that did not."""

    pairs: list[Pair]
    dropped: int = 0
    truncated: int = 0
    truncated_tokens: int = 0  # of their prompts


def chosen_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `{"prompt", "chosen", "rejected", "tools"}` as chat rows that end with the better answer."""
    return [{**_about(row), "messages": [*row["prompt"], *row["chosen"]]} for row in rows]


def render_pairs(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> RenderedPairs:
    """Render the last answer of both sides; a row is used only whole."""
    worse_rows = [{**_about(row), "messages": [*row["prompt"], *row["rejected"]]} for row in rows]
    better, worse = render(chosen_rows(rows), tokenizer), render(worse_rows, tokenizer)
    last_better, last_worse = ({example.row: example for example in side.examples} for side in (better, worse))
    pairs: list[Pair] = []
    unused: dict[int, Reason] = {}
    for number, row in enumerate(rows):
        reason = better.unused.get(number) or worse.unused.get(number)
        if reason is None and not (is_answer(row["chosen"][-1]) and is_answer(row["rejected"][-1])):
            reason = "no_answer"
        if reason is None:
            chosen, rejected = last_better[number], last_worse[number]
            (a, b), (c, d) = chosen.spans[-1], rejected.spans[-1]
            if chosen.ids[:a] == rejected.ids[:c]:
                pairs.append(Pair(number, chosen.ids[:a], chosen.ids[a:b], rejected.ids[c:d]))
                continue
            reason = "unclear"
        unused[number] = reason
    used = [last_better[pair.row] for pair in pairs]
    return RenderedPairs(pairs, replace(better, examples=used, unused=unused))


def fit_pairs(pairs: Sequence[Pair], max_length_tokens: int, policy: Policy) -> FittedPairs:
    """Apply the policy for overlong rows. Both sides of a pair keep one prompt: what is cut off is its beginning.

    Raises:
        InvalidRun: the policy is `error` and a pair is too long.
    """
    overlong = [pair.length_tokens for pair in pairs if pair.length_tokens > max_length_tokens]
    if overlong and policy == "error":
        raise InvalidRun(
            f"{len(overlong)} pairs are longer than {max_length_tokens} tokens, the prompt with the longer answer;"
            f" the longest has {max(overlong)}",
            "raise max_length_tokens, or set overlong to drop or truncate_left",
        )
    kept: list[Pair] = []
    dropped = truncated = truncated_tokens = 0
    for pair in pairs:
        cut = pair.length_tokens - max_length_tokens
        if cut <= 0:
            kept.append(pair)
        elif policy == "drop" or cut >= len(pair.prompt_ids):
            dropped += 1
        else:
            kept.append(replace(pair, prompt_ids=pair.prompt_ids[cut:]))
            truncated += 1
            truncated_tokens += cut
    return FittedPairs(kept, dropped, truncated, truncated_tokens)


def _about(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in {"prompt", "chosen", "rejected"}}
