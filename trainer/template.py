"""A chat template as text in and text out: how it writes a row, and which part of that text is whose.

The template says what a row looks like, but not which part of the text came from where. So a row is rendered with private-use
characters put round each answer; taking them out must give the plain rendering back, letter for letter, which proves that they
changed nothing and that their places are the answers' places. Rows where that fails (a template that trims or rewrites, answers
with tool calls) are rendered turn by turn instead: an answer is what stands after the generation prompt.
"""

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.identity import read_template

OWN = "the tokenizer's own"
PLAIN = "tunemill's plain one"
_PRIVATE_USE = range(0xE000, 0xF8FF)
_PRIVATE_USE_CHARACTER = re.compile("[\ue000-\uf8ff]")
_SYSTEM_ROLES = ("system", "developer")
_CALL_ID_LETTERS = 9  # what Mistral's templates take
_TODAY = datetime(2024, 7, 26)  # noqa: DTZ001  # a date, to be printed; Llama 3.1's own

Messages = list[dict[str, Any]]
Span = tuple[int, int]  # [start, end) in characters or tokens
Reason = Literal["no_answer", "refused", "unclear", "calls_lost", "text_lost"]


@dataclass(frozen=True, slots=True)
class Text:
    """A row as one text."""

    text: str
    answers: tuple[Span, ...]  # in characters, the end-of-turn token included
    forged: tuple[Span, ...]  # in characters: special tokens that a message's text holds


@dataclass(frozen=True, slots=True)
class Written:
    """A row as text, and what had to be changed so that the template takes it."""

    texts: tuple[Text, ...]  # one; or one per answer, where the template rewrites earlier turns
    empty_answers: int  # answers without text and without calls, not to be trained on
    folded: bool  # the system text stands in the first user message
    renamed: bool  # ids of calls are replaced by shorter ones


@dataclass(frozen=True, slots=True)
class _Way:
    messages: Messages
    folded: bool
    renamed: bool


def settle_template(tokenizer: PreTrainedTokenizerBase, given: str | None) -> str:
    """Give the tokenizer the template that the recipe names, or the plain one where it has none; says which it has now.

    Raises:
        InvalidRun: the file cannot be read, or the template ends an answer with no token, so that no model could learn to stop.
    """
    name = OWN
    if given is not None:
        tokenizer.chat_template = read_template(given)
        name = Path(given).name
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = (files("tunemill.trainer") / "templates" / "plain.jinja").read_text(encoding="utf-8")
        name = PLAIN
    try:
        end_of_turn = ChatTemplate(tokenizer).end_of_turn
    except Exception as error:  # as below: a template raises what it likes
        raise InvalidRun(
            f"the chat template ({name}) cannot write a question and its answer: {type(error).__name__}",
            "set template to a .jinja file that can, or to null",
        ) from error
    if not end_of_turn:
        raise InvalidRun(
            f"the chat template ({name}) writes no special token after an answer: nothing would teach the model to stop",
            "set template to a .jinja file that ends answers with one, such as {{ eos_token }}",
        )
    return name


class ChatTemplate:
    """A tokenizer's chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._template = tokenizer.get_chat_template()
        # a template that prints the date would write other rows tomorrow
        self._variables = dict(tokenizer.special_tokens_map) | {"strftime_now": _TODAY.strftime}
        added = tokenizer.added_tokens_decoder.values()
        self._special = sorted({token.content for token in added if token.special}, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, self._special)) or r"(?!)")
        self._opening, self.lead, self.end_of_turn = self._probe()

    def write(self, messages: Messages, tools: Any) -> Written | Reason:
        """The row as text, or why there is none."""
        answers = sum(map(is_answer, messages))
        if not answers:
            return "no_answer"
        empty = sum(message.get("role") == "assistant" for message in messages) - answers
        refused: Reason = "refused"
        for way in _ways(messages):
            try:
                texts = self._by_marks(way.messages, tools) or self._by_turns(way.messages, tools)
                _all_text(way.messages, tools).encode()  # half a surrogate pair is no text
            except Exception:  # noqa: S112  # a template is a program of its own and raises what it likes
                continue
            if isinstance(texts, str):
                refused = texts
            elif _forgets_system(way.messages, texts[-1].text):
                refused = "text_lost"
            else:
                return Written(texts, empty, way.folded, way.renamed)
        return refused

    def _by_marks(self, messages: Messages, tools: Any) -> tuple[Text, ...]:
        answers = _answers(messages)
        if self._opening is None or any(messages[k].get("tool_calls") for k in answers):
            return ()
        start, end = _unused_characters(messages, tools, 2)
        marked = list(messages)
        for k in answers:
            marked[k] = {**messages[k], "content": f"{start}{messages[k]['content']}{end}"}
        text = self._unmarked(marked, tools)
        plain, found = _take_marks_out(text.text, start, end)
        said = [messages[k]["content"] for k in answers]
        if plain != self._render(messages, tools) or [plain[a:b] for a, b in found] != said:
            return ()
        spans = tuple((a - len(self.lead), b + len(self.end_of_turn)) for a, b in found)
        opened = all(plain.endswith(self._opening, 0, a) for a, _ in found)
        ended = all(plain.startswith(self.end_of_turn, b) for _, b in found)
        if not opened or not ended or not self._asks(messages, tools, answers, [plain[:a] for a, _ in spans]):
            return ()
        return (Text(plain, spans, _without_marks(text.forged, text.text, start, end)),)

    def _asks(self, messages: Messages, tools: Any, answers: list[int], before: list[str]) -> bool:
        """Whether inference would show this before the last answer, and before the first where templates move text to later turns."""
        roles = [message.get("role") for message in messages]
        asked = list(zip(answers, before, strict=True))
        looked_at = asked[-1:]
        if tools or not {*_SYSTEM_ROLES}.isdisjoint(roles):
            looked_at = [pair for pair in asked[:-1] if "user" in roles[: pair[0]]][:1] + looked_at
        return all(self._render(messages[:k], tools, generation_prompt=True) == text for k, text in looked_at)

    def _by_turns(self, messages: Messages, tools: Any) -> tuple[Text, ...] | Reason:
        turns = []
        for k in _answers(messages):
            turn = self._turn(messages, tools, k)
            if turn is None:
                return "unclear"
            if lost := _lost(messages[k], turn.text[slice(*turn.answers[0])]):
                return lost
            turns.append(turn)
        whole = self._unmarked(messages, tools)
        if all(whole.text.startswith(turn.text) for turn in turns):
            return (Text(whole.text, tuple(span for turn in turns for span in turn.answers), whole.forged),)
        return tuple(turns)

    def _turn(self, messages: Messages, tools: Any, k: int) -> Text | None:
        """The row up to its k-th message, with that message as the answer; None when its place is not clear."""
        before = self._render(messages[:k], tools, generation_prompt=True)
        through = self._unmarked(messages[: k + 1], tools)
        if not through.text.startswith(before):
            return None
        end = through.text.rfind(self.end_of_turn) + len(self.end_of_turn)
        if end <= len(before) or any(a < end <= b for a, b in through.forged):
            return None
        return Text(through.text[:end], ((len(before), end),), tuple(s for s in through.forged if s[1] <= end))

    def _unmarked(self, messages: Messages, tools: Any, *, generation_prompt: bool = False) -> Text:
        """Rendered, with the places of special tokens that came from the messages and not from the template."""
        found = sorted(set(self._special_pattern.findall(_all_text(messages, tools))))
        if not found:
            return Text(self._render(messages, tools, generation_prompt=generation_prompt), (), ())
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

    def _probe(self) -> tuple[str | None, str, str]:
        """What the template writes round an answer.

        Returns:
            Between a question and its answer (None: not what the generation prompt asks for), the part of it that the model must
            say itself (a space, an empty thought), and after an answer to the first special token, which the model must learn to
            say in order to stop.
        """
        ask: Messages = [{"role": "user", "content": "QUESTION"}]
        answered = self._render([*ask, {"role": "assistant", "content": "ANSWER"}], None)
        head, _, tail = answered.rpartition("ANSWER")
        ends = self._special_pattern.search(tail)
        end_of_turn = tail[: ends.end()] if ends else ""
        asking = self._render(ask, None, generation_prompt=True)
        _, asked, opening = head.rpartition("QUESTION")
        if not asked or not head.startswith(asking):
            return None, "", end_of_turn
        return opening, head[len(asking) :], end_of_turn


def is_answer(message: dict[str, Any]) -> bool:
    """Whether the assistant says or calls something here."""
    said = message.get("role") == "assistant"
    return said and bool(str(message.get("content") or "").strip() or message.get("tool_calls"))


def _answers(messages: Messages) -> list[int]:
    return [k for k, message in enumerate(messages) if is_answer(message)]


def _ways(messages: Messages) -> Iterator[_Way]:
    """How to put a row to a template, the plainest first: as it is, and with what some templates refuse or lose put otherwise."""
    yield _Way(messages, folded=False, renamed=False)
    folded = _fold_system(messages)
    if folded is not None:
        yield _Way(folded, folded=True, renamed=False)
    if any(message.get("tool_calls") or message.get("tool_call_id") for message in messages):
        yield _Way(_rename_calls(messages), folded=False, renamed=True)
        if folded is not None:
            yield _Way(_rename_calls(folded), folded=True, renamed=True)


def _fold_system(messages: Messages) -> Messages | None:
    """The system text before the first user message's; None when there is no such text, or no user."""
    first = next((k for k, message in enumerate(messages) if message.get("role") == "user"), None)
    system = [message for message in messages[:first] if message.get("role") in _SYSTEM_ROLES]
    if first is None or not system:
        return None
    said = "\n\n".join([str(message["content"]) for message in [*system, messages[first]]])
    kept = [message for message in messages[:first] if message.get("role") not in _SYSTEM_ROLES]
    return [*kept, {**messages[first], "content": said}, *messages[first + 1 :]]


def _forgets_system(messages: Messages, text: str) -> bool:
    """Whether the template passes over a system text in silence, as Phi 3's of 2024; white space may differ."""
    said = [str(message["content"]) for message in messages if message.get("role") in _SYSTEM_ROLES]
    return any(part not in text and _without_space(part) not in _without_space(text) for part in said)


def _rename_calls(messages: Messages) -> Messages:
    """With short ids, equal where they were equal."""
    renamed = []
    for message in messages:
        changed = dict(message)
        if message.get("tool_call_id"):
            changed["tool_call_id"] = _short(message["tool_call_id"])
        if message.get("tool_calls"):
            changed["tool_calls"] = [
                {**call, "id": _short(call["id"])} if call.get("id") else call for call in message["tool_calls"]
            ]
        renamed.append(changed)
    return renamed


def _short(call_id: str) -> str:
    return hashlib.sha256(call_id.encode()).hexdigest()[:_CALL_ID_LETTERS]


def _lost(message: dict[str, Any], trained: str) -> Reason | None:
    """Whether the template leaves out something of what the assistant said or called; white space may differ."""
    written = _without_space(trained)
    if _without_space(str(message.get("content") or "")) not in written:
        return "text_lost"
    for call in message.get("tool_calls") or []:
        leaves = [call["function"]["name"], *_leaves(call["function"]["arguments"])]
        if not all(any(_without_space(form) in written for form in _forms(leaf)) for leaf in leaves):
            return "calls_lost"
    return None


def _without_space(text: str) -> str:
    return "".join(text.split())


def _leaves(value: Any) -> Iterator[Any]:
    """The names and values of a call's arguments."""
    if isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _forms(leaf: Any) -> tuple[str, ...]:
    """How a template may write it: as it is, or as JSON."""
    if isinstance(leaf, str):
        return (leaf, json.dumps(leaf, ensure_ascii=False)[1:-1], json.dumps(leaf)[1:-1])
    return (str(leaf), json.dumps(leaf))


def _texts_of(value: Any) -> list[str]:
    """All texts and names in it, in no order."""
    texts, rest = [], [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, dict):
            rest += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            rest += one
    return texts


def _map_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_text(item, change) for item in value]
    return value


def _unused_characters(messages: Messages, tools: Any, count: int) -> list[str]:
    used = set(_PRIVATE_USE_CHARACTER.findall(_all_text(messages, tools)))
    unused = (character for code in _PRIVATE_USE if (character := chr(code)) not in used)
    return list(islice(unused, count))


def _all_text(messages: Messages, tools: Any) -> str:
    return "\0".join(_texts_of([messages, tools]))


def _take_marks_out(marked: str, start: str, end: str) -> tuple[str, list[Span]]:
    """The text without the marks, and where the marked pieces lie in it."""
    pieces = re.split(f"[{start}{end}]", marked)
    ends = list(accumulate(len(piece) for piece in pieces))
    return "".join(pieces), [(ends[i - 1], ends[i]) for i in range(1, len(pieces), 2)]


def _without_marks(spans: Sequence[Span], marked: str, start: str, end: str) -> tuple[Span, ...]:
    """Where these pieces, which hold no mark, lie in the text without the marks."""
    marks = [found.start() for found in re.finditer(f"[{start}{end}]", marked)]
    shifts = [bisect_left(marks, a) for a, _ in spans]
    return tuple((a - shift, b - shift) for (a, b), shift in zip(spans, shifts, strict=True))


def _put_back(text: str, tokens: dict[str, str]) -> Text:
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
    return Text("".join(pieces), (), tuple(forged))
