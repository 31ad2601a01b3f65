"""What goes over HTTP when a person does something to a log."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from tunemill.curator_api.payloads import Given, Storable, TagText, Taken, encodable
from tunemill.privacy.secrets import without_secrets

MAX_WHY_CHARACTERS = 1_000


def _without_secrets(text: str) -> str:
    if without_secrets(text)[1]:
        raise ValueError("it holds what looks like a secret: take it out")
    return text


Why = Annotated[
    str,
    Field(max_length=MAX_WHY_CHARACTERS, examples=["the sum was wrong"]),
    Storable,
    AfterValidator(_without_secrets),
]
Revision = Annotated[
    int, Field(ge=0, le=2**31 - 1, description="the `revision` that you saw; if the log has another by now: 409")
]
Text = Annotated[str, Storable]


class TagsIn(Taken):
    """Tags to add and to remove."""

    add: list[TagText] = Field([], max_length=100)
    remove: list[TagText] = Field([], max_length=100)
    why: Why | None = None
    expected_revision: Revision | None = None


class TagsOut(Given):
    """The tags that the log has now."""

    tags: list[str]
    revision: int


class ToolCallIn(Taken):
    """One call of a tool, as a log shows it."""

    id: Text | None = None
    name: Text
    arguments: Text = Field(description="JSON text as the model wrote it")


class MessageIn(Taken):
    """One message, as a log shows it; what is left out is null."""

    role: Annotated[str, Field(max_length=64), Storable]
    content: Text | None = None
    parts: Annotated[JsonValue, AfterValidator(encodable)] = None
    tool_calls: list[ToolCallIn] = Field([])
    tool_call_id: Text | None = None
    name: Text | None = None
    refusal: Text | None = None
    reasoning: Text | None = None


class LogEditIn(Taken):
    """What to put in place of a log's messages, answer or consent; what is not named stays."""

    messages: list[MessageIn] | None = Field(None, description="all of them; null: they stay")
    output: list[MessageIn] | None = Field(None, description="all choices; null: they stay")
    consent: Literal["train", "eval_only", "none"] | None = Field(
        None, description="null: what the log itself came with; left out: it stays"
    )
    why: Why | None = None
    expected_revision: Revision | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.messages is None and self.output is None and not self.sets_consent:
            raise ValueError("it changes nothing: send messages, output or consent")
        return self

    @property
    def sets_consent(self) -> bool:
        """Whether a consent is named; null is one."""
        return "consent" in self.model_fields_set


class RevertIn(Taken):
    """A revision whose messages and answer the log is to have again; 0: those that it came with."""

    revision: int = Field(ge=0, le=2**31 - 1)
    why: Why | None = None
    expected_revision: Revision | None = None
