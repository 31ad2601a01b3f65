"""A row whose last answer is asked for, before and after training."""

from collections.abc import Sequence
from typing import Any

import msgspec
from transformers import PreTrainedTokenizerBase

from tunemill.trainer.accepted import Accepted, is_right
from tunemill.trainer.calls import Call, expected_calls
from tunemill.trainer.render import Example
from tunemill.trainer.template import ChatTemplate, is_answer


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, and what is expected."""

    row: int  # its place among the rows that were read
    row_id: str  # "" of a general row
    topic: str  # "" of a row that names none
    messages: tuple[dict[str, Any], ...]  # what is asked
    prompt: tuple[int, ...]  # the same as the model sees it
    lead: str = (
        ""  # what the template has every answer begin with, such as an empty thought; it is no part of `expected`
    )
    expected: str
    expected_tokens: int
    calls: tuple[Call, ...]  # the tool calls that are expected
    accepted: Accepted | None = None  # None: the row says nothing of it

    def is_right(self, answer: str) -> bool | None:
        """Whether the answer says what is accepted; None where nothing is, or where nobody says what."""
        if not self.accepted:
            return None
        asked = (str(message["content"]) for message in reversed(self.messages) if message["role"] == "user")
        return is_right(answer, self.accepted, question=next(asked, ""))


def questions(
    rows: Sequence[dict[str, Any]], examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> list[Question]:
    """The last answer of each of these rows as a question; examples are the rows' renderings, the last one per row counts."""
    last = {example.row: example for example in examples}
    template = ChatTemplate(tokenizer)
    return [_question(rows, example, template, tokenizer) for example in last.values()]


def _question(
    rows: Sequence[dict[str, Any]], example: Example, template: ChatTemplate, tokenizer: PreTrainedTokenizerBase
) -> Question:
    row = rows[example.row]
    messages = row["messages"]
    answer = max(place for place, message in enumerate(messages) if is_answer(message))
    a, b = example.spans[-1]
    written = tokenizer.decode(example.ids[a:b], skip_special_tokens=False)
    return Question(
        row=example.row,
        row_id=row.get("row_id", ""),
        topic=row.get("topic", ""),
        messages=tuple(messages[:answer]),
        prompt=example.ids[:a],  # to the generation prompt's end, as at inference
        lead=template.lead,
        expected=written.removeprefix(template.lead).removesuffix(template.end_of_turn),
        expected_tokens=b - a,
        calls=expected_calls(messages[answer]),
        accepted=row.get("accepted_answers"),
    )
