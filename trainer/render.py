"""Chat rows -> token ids and labels: what the assistant wrote is trained on, and nothing else.

Text in a message that looks like one of the template's own special tokens is encoded as ordinary text: it cannot forge a turn.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunemill.trainer.template import ChatTemplate, Reason, Span, Text, Written

IGNORE = -100  # the label of a token that is not trained on, as in torch's cross entropy
_BATCH_ROWS = 256
_SPACES = ("▁", "Ġ")
_ANCHOR = "\ue000"  # stands before a piece that does not begin the text, where a tokenizer would put a space of its own


@dataclass(frozen=True, slots=True)
class Example:
    """One row as the model sees it; `spans` are the token ranges of its answers."""

    row: int  # place in the rows that were rendered
    ids: tuple[int, ...]  # (T,)
    labels: tuple[int, ...]  # (T,), IGNORE where not trained on
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Examples, the rows that gave none, and what was changed so that the template took the others."""

    examples: list[Example]
    unused: dict[int, Reason]  # by place in the rows
    empty_answers: int
    folded: int  # rows whose system text stands in the first user message
    renamed_calls: int  # rows whose calls have shorter ids

    def counts(self) -> dict[str, int]:
        """How many rows, by what became of them; what did not happen is left out."""
        changed = {
            "empty_answers": self.empty_answers,
            "folded_system": self.folded,
            "renamed_calls": self.renamed_calls,
        }
        counted = Counter[str](self.unused.values()) + Counter(changed)
        return dict(counted)


def render(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Rendered:
    """Render rows of `{"messages", "tools"}`.

    A row whose template rewrites earlier turns gives one example per answer; every other row gives one.
    """
    template = ChatTemplate(tokenizer)
    found: list[Written | Reason] = []  # of each row

    def batches() -> Iterator[list[tuple[int, Text]]]:
        for first in range(0, len(rows), _BATCH_ROWS):
            batch = [template.write(row["messages"], row.get("tools")) for row in rows[first : first + _BATCH_ROWS]]
            found.extend(batch)
            written = ((row, one) for row, one in enumerate(batch, start=first) if not isinstance(one, str))
            yield [(row, text) for row, one in written for text in one.texts]

    examples = list(_encode(batches(), tokenizer))
    written = [one for one in found if not isinstance(one, str)]
    return Rendered(
        examples=examples,
        unused={row: one for row, one in enumerate(found) if isinstance(one, str)},
        empty_answers=sum(row.empty_answers for row in written),
        folded=sum(row.folded for row in written),
        renamed_calls=sum(row.renamed for row in written),
    )


def _encode(batches: Iterable[list[tuple[int, Text]]], tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
    # all that are: a tokenizer's own list of them has only those that it names, such as the end of the text
    special = frozenset(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)
    for texts, encodings in _encodings(batches, tokenizer):
        for (number, text), encoding in zip(texts, encodings, strict=True):
            ids = encoding.ids
            spans = tuple(_quick_span(span, encoding, ids, special) for span in text.answers)
            begins = [
                a
                for (a, _), (start, _) in zip(text.answers, spans, strict=True)
                if encoding.token_to_chars(start)[0] < a
            ]
            if text.forged or begins:
                ids, offsets = _encode_text(text, begins, tokenizer)
                spans = tuple(_token_span(span, offsets, ids, special) for span in text.answers)
            yield Example(number, tuple(ids), _labels(ids, spans), spans)


def _encodings(
    batches: Iterable[list[tuple[int, Text]]], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[tuple[int, Text]], list[Any]]]:
    """Each batch with its encodings, made while the next one is written: templates are Python, and encoding is not.

    Nothing is being encoded while a batch is looked at, so that it may be encoded otherwise.
    """
    backend = _backend(tokenizer)
    with ThreadPoolExecutor(1) as encoder:
        before: tuple[list[tuple[int, Text]], Future[list[Any]]] | None = None
        for texts in batches:
            if before is not None:
                yield before[0], before[1].result()
            plain = [text.text for _, text in texts]
            before = texts, encoder.submit(backend.encode_batch, plain, add_special_tokens=False)
        if before is not None:
            yield before[0], before[1].result()


def _quick_span(span: Span, encoding: Any, ids: Sequence[int], special: Collection[int]) -> Span:
    """The same as `_token_span`, without every token's place: an answer ends with a special token, which is one token."""
    a, b = span
    start = encoding.char_to_token(a)
    if start is None or ids[start] in special:
        return _token_span(span, encoding.offsets, ids, special)
    return (start, encoding.char_to_token(b - 1) + 1)


def _token_span(span: Span, offsets: Sequence[Span], ids: Sequence[int], special: Collection[int]) -> Span:
    """The tokens that touch these characters."""
    a, b = span
    start = bisect_right([end for _, end in offsets], a)
    if offsets[start][0] < a and ids[start] in special:
        start += 1  # a token of the template that takes the white space after it, such as Phi 3's
    return (start, bisect_left([start for start, _ in offsets], b))


def _encode_text(text: Text, begins: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[Span]]:
    """Token ids and their character ranges, with forged special tokens encoded as the ordinary text that they are.

    Args:
        begins: where answers begin inside a token: at inference none reaches from the generation prompt into the answer.
    """
    backend = _backend(tokenizer)
    prepends = backend.encode(_ANCHOR, add_special_tokens=False).tokens[0] in _SPACES
    ids: list[int] = []
    offsets: list[Span] = []
    forged = set(text.forged)
    cuts = sorted({0, *(place for span in forged for place in span), *begins, len(text.text)})
    for a, b in pairwise(cuts):
        piece = text.text[a:b]
        anchor = _ANCHOR if a and prepends else ""
        backend.encode_special_tokens = (a, b) in forged  # as ordinary text
        encoding = backend.encode(anchor + piece, add_special_tokens=False)
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if end > len(anchor):
                ids.append(token)
                offsets.append((a + start - len(anchor), a + end - len(anchor)))
    backend.encode_special_tokens = False
    return ids, offsets


def _backend(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The Rust tokenizer, with nothing cut and nothing padded behind our back."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return backend


def _labels(ids: Sequence[int], spans: Sequence[Span]) -> tuple[int, ...]:
    labels = [IGNORE] * len(ids)
    for a, b in spans:
        labels[a:b] = ids[a:b]
    return tuple(labels)
