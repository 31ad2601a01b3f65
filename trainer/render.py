"""Chat rows -> token ids and labels: what the assistant wrote is trained on, and nothing else.

The chat template says what a row looks like as text, but not which part of the text came from where. So a row is rendered with
private-use characters put round each assistant answer; taking them out must give the plain rendering back, letter for letter, which
proves that they changed nothing and that their places are the answers' places. Rows where that fails (a template that trims or
rewrites, answers with tool calls) are rendered turn by turn instead: an answer is what stands after the generation prompt.

Text in a message that looks like one of the template's own special tokens is encoded as ordinary text: it cannot forge a turn.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

IGNORE = -100  # the label of a token that is not trained on, as in torch's cross entropy
_PRIVATE_USE = range(0xE000, 0xF8FF)
_BATCH_ROWS = 256

Messages = list[dict[str, Any]]
Span = tuple[int, int]  # [start, end) in characters or tokens


@dataclass(frozen=True, slots=True)
class Example:
    """One row as the model sees it; `spans` are the token ranges of its answers."""

    row: int  # place in the rows that were rendered
    ids: tuple[int, ...]  # (T,)
    labels: tuple[int, ...]  # (T,), IGNORE where not trained on
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Examples, and the rows that gave none."""

    examples: list[Example]
    no_answer: list[int]  # rows without an assistant turn
    unrenderable: list[int]  # rows that the template refuses, or in which no answer can be told apart


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    answers: tuple[Span, ...]  # in characters, the end-of-turn token included
    forged: tuple[Span, ...]  # in characters: special tokens that a message's text holds


def render(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Rendered:
    """Render rows of `{"messages", "tools"}`.

    A row whose template rewrites earlier turns gives one example per answer; every other row gives one.
    """
    template = ChatTemplate(tokenizer)
    rendered = Rendered([], [], [])
    texts: list[tuple[int, _Text]] = []
    for number, row in enumerate(rows):
        if not any(message["role"] == "assistant" for message in row["messages"]):
            rendered.no_answer.append(number)
        elif found := template.texts(row["messages"], row.get("tools")):
            texts += [(number, text) for text in found]
        else:
            rendered.unrenderable.append(number)
    rendered.examples.extend(_encode(texts, tokenizer))
    return rendered


def encode_prompts(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """For each row the token ids that ask for its last answer, as at inference: all before it, and the generation prompt."""
    template = ChatTemplate(tokenizer)
    prompts = []
    for row in rows:
        messages = row["messages"]
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        prompts.append(_encode_text(template.prompt(messages[:last], row.get("tools")), tokenizer)[0])
    return prompts


class ChatTemplate:
    """A tokenizer's chat template, as text in and text out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._template = tokenizer.get_chat_template()
        self._variables = dict(tokenizer.special_tokens_map)
        added = tokenizer.added_tokens_decoder.values()
        self._special = sorted({token.content for token in added if token.special}, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, self._special)) or r"(?!)")
        self.end_of_turn = self._find_end_of_turn()

    def texts(self, messages: Messages, tools: Any) -> list[_Text]:
        """The row as one text, or as one per answer; empty when its answers cannot be told apart."""
        try:
            whole = self._by_marks(messages, tools)
            return [whole] if whole is not None else self._by_turns(messages, tools)
        except Exception:  # a template is a program of its own and raises what it likes, such as for an unknown role
            return []

    def prompt(self, messages: Messages, tools: Any) -> _Text:
        """The text that asks for the next answer."""
        return self._unmarked(messages, tools, generation_prompt=True)

    def _by_marks(self, messages: Messages, tools: Any) -> _Text | None:
        if any(message["role"] == "assistant" and message.get("tool_calls") for message in messages):
            return None
        start, end = _unused_characters(messages, tools, 2)
        marked = [
            {**message, "content": f"{start}{message['content']}{end}"} if message["role"] == "assistant" else message
            for message in messages
        ]
        text = self._unmarked(marked, tools)
        plain, answers = _take_marks_out(text.text, start, end)
        if plain != self._render(messages, tools):
            return None
        spans = [(a, self._end_of_turn_after(plain, b)) for a, b in answers]
        if len(spans) != sum(message["role"] == "assistant" for message in messages) or any(b < 0 for _, b in spans):
            return None
        return _Text(plain, tuple(spans), tuple(_without_marks(span, text.text, start, end) for span in text.forged))

    def _by_turns(self, messages: Messages, tools: Any) -> list[_Text]:
        turns = [text for k in range(len(messages)) if (text := self._turn(messages, tools, k)) is not None]
        answers = sum(message["role"] == "assistant" for message in messages)
        if len(turns) != answers:
            return []
        whole = self._unmarked(messages, tools)
        if all(whole.text.startswith(turn.text) for turn in turns):
            return [_Text(whole.text, tuple(span for turn in turns for span in turn.answers), whole.forged)]
        return turns

    def _turn(self, messages: Messages, tools: Any, k: int) -> _Text | None:
        """The row up to its k-th message, with that message as the answer; None when it is none."""
        if messages[k]["role"] != "assistant":
            return None
        before = self._render(messages[:k], tools, generation_prompt=True)
        through = self._unmarked(messages[: k + 1], tools)
        if not through.text.startswith(before):
            return None
        end = through.text.rfind(self.end_of_turn) + len(self.end_of_turn)
        if end <= len(before) or any(a < end <= b for a, b in through.forged):
            return None
        return _Text(through.text[:end], ((len(before), end),), tuple(s for s in through.forged if s[1] <= end))

    def _unmarked(self, messages: Messages, tools: Any, *, generation_prompt: bool = False) -> _Text:
        """Rendered, with the places of special tokens that came from the messages and not from the template."""
        found = sorted(
            {token for text in _texts_of([messages, tools]) for token in self._special_pattern.findall(text)}
        )
        if not found:
            return _Text(self._render(messages, tools, generation_prompt=generation_prompt), (), ())
        stand_ins = dict(zip(found, _unused_characters(messages, tools, len(found)), strict=True))
        replace = self._special_pattern
        shielded = _map_text([messages, tools], lambda text: replace.sub(lambda m: stand_ins[m.group()], text))
        text = self._render(*shielded, generation_prompt=generation_prompt)
        restored = _put_back(text, {stand_in: token for token, stand_in in stand_ins.items()})
        if restored.text != self._render(messages, tools, generation_prompt=generation_prompt):
            raise ValueError("the template rewrites text that looks like its own special tokens")
        return restored

    def _render(self, messages: Messages, tools: Any, *, generation_prompt: bool = False) -> str:
        rendered = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=self._template,
            add_generation_prompt=generation_prompt,
            **self._variables,
        )
        texts = rendered[0] if isinstance(rendered, tuple) else rendered
        return str(texts[0])

    def _find_end_of_turn(self) -> str:
        """What follows an answer, its first special token included: what the model must learn to say in order to stop."""
        ask: Messages = [{"role": "user", "content": "Q"}]
        answered = self._render([*ask, {"role": "assistant", "content": "ANSWER"}], None)
        tail = answered[answered.rfind("ANSWER") + len("ANSWER") :]
        first = self._special_pattern.search(tail)
        return tail[: first.end()] if first else ""

    def _end_of_turn_after(self, text: str, end: int) -> int:
        return end + len(self.end_of_turn) if text.startswith(self.end_of_turn, end) else -1


def _texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_of(item)


def _map_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_text(item, change) for item in value]
    return value


def _unused_characters(messages: Messages, tools: Any, count: int) -> list[str]:
    used = {
        character for text in _texts_of([messages, tools]) for character in text if "\ue000" <= character <= "\uf8ff"
    }
    return [character for code in _PRIVATE_USE if (character := chr(code)) not in used][:count]


def _take_marks_out(marked: str, start: str, end: str) -> tuple[str, list[Span]]:
    """The text without the marks, and where the marked pieces lie in it."""
    pieces = re.split(f"[{start}{end}]", marked)
    ends = list(accumulate(len(piece) for piece in pieces))
    return "".join(pieces), [(ends[i - 1], ends[i]) for i in range(1, len(pieces), 2)]


def _without_marks(span: Span, marked: str, start: str, end: str) -> Span:
    before = marked[: span[0]]
    shift = before.count(start) + before.count(end)
    return (span[0] - shift, span[1] - shift)


def _put_back(text: str, tokens: dict[str, str]) -> _Text:
    """The text with each stand-in replaced by its token, and where those came to lie."""
    pieces: list[str] = []
    forged: list[Span] = []
    length = 0
    for piece in re.split(f"([{''.join(tokens)}])", text):
        original = tokens.get(piece, piece)
        if piece in tokens:
            forged.append((length, length + len(original)))
        pieces.append(original)
        length += len(original)
    return _Text("".join(pieces), (), tuple(forged))


def _encode(texts: Sequence[tuple[int, _Text]], tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
    for first in range(0, len(texts), _BATCH_ROWS):
        batch = texts[first : first + _BATCH_ROWS]
        plain = _backend(tokenizer).encode_batch([text.text for _, text in batch], add_special_tokens=False)
        for (number, text), encoding in zip(batch, plain, strict=True):
            if text.forged:
                ids, offsets = _encode_text(text, tokenizer)
                spans = tuple(_token_span(span, offsets) for span in text.answers)
            else:
                ids = encoding.ids
                spans = tuple((encoding.char_to_token(a), encoding.char_to_token(b - 1) + 1) for a, b in text.answers)
            yield Example(number, tuple(ids), _labels(ids, spans), spans)


def _encode_text(text: _Text, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[Span]]:
    """Token ids and their character ranges, with forged special tokens encoded as the ordinary text that they are."""
    backend = _backend(tokenizer)
    ids: list[int] = []
    offsets: list[Span] = []
    cuts = [0, *(place for span in text.forged for place in span), len(text.text)]
    for i, (a, b) in enumerate(pairwise(cuts)):
        backend.encode_special_tokens = i % 2 == 1  # as ordinary text
        encoding = backend.encode(text.text[a:b], add_special_tokens=False)
        ids += encoding.ids
        offsets += [(a + start, a + end) for start, end in encoding.offsets]
    backend.encode_special_tokens = False
    return ids, offsets


def _backend(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The Rust tokenizer, with nothing cut and nothing padded behind our back."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return backend


def _token_span(span: Span, offsets: list[Span]) -> Span:
    """The tokens that touch these characters."""
    first = bisect_right([end for _, end in offsets], span[0])
    return (first, bisect_left([start for start, _ in offsets], span[1]))


def _labels(ids: Sequence[int], spans: Sequence[Span]) -> tuple[int, ...]:
    labels = [IGNORE] * len(ids)
    for a, b in spans:
        labels[a:b] = ids[a:b]
    return tuple(labels)
