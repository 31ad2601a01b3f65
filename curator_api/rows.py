"""A tagged log becomes a training row, or a reason why it does not. Pure."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import NamedTuple

import msgspec

from tunemill.privacy.pii import PrivateData
from tunemill.schemas.ids import canonical_json, digest
from tunemill.schemas.origin import Trainable
from tunemill.schemas.records import LogRecord, Message, TaggedLog, ToolCall

IMPORTED = "import-"  # how the key of a row begins that came from a file, not from a log
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
_BEFORE_ALL = frozenset({"system", "developer"})
_DETECTORS = ("pii@", "pii.masked@")  # who tags private data that is, or was, replaced
_IMPORT_KEY = re.compile(IMPORTED + "[0-9a-f]{32}")


class Reason(StrEnum):
    """Why a log is not in the dataset: the first of these that holds, in this order."""

    ERASED = "erased"  # somebody asked for it to be forgotten
    DELETED_BY_PERSON = "deleted_by_person"  # from this draft
    CONSENT = "consent"  # its consent is not `train`
    NOT_TAGGED = "not_tagged"  # tagging failed, so nobody knows whether it holds private data
    SECRET = "secret"  # noqa: S105  # it has a `secret:` tag
    PII = "pii"  # somebody said that it holds private data: what people see no pattern may find
    STATUS_ERROR = "status_error"  # the call failed
    NO_ANSWER = "no_answer"
    NOT_TEXT = "not_text"  # images, audio or files are part of it, or a message says nothing
    ROLES_OUT_OF_ORDER = "roles_out_of_order"
    NOT_FOUND = "not_found"  # a log that somebody picked is not there
    NOT_CORRECTED = "not_corrected"  # only corrected answers are wanted
    NO_PAIR = "no_pair"  # no second answer to its prompt, or none that is better
    OTHER_SHAPE = "other_shape"  # a row without a worse answer where pairs are wanted, or with one where they are not
    FINISH_REASON = "finish_reason"  # not among those that the recipe names
    LICENCE = "licence"  # what the model said may not be trained on, or nobody said that it may
    TOO_SHORT = "too_short"  # in tokens
    TOO_LONG = "too_long"
    BROKEN_ARGUMENTS = "broken_arguments"  # a tool is called with what is no JSON object
    PRIVATE = "private"  # it holds private data, and the recipe takes none that does
    CONTAMINATED = "contaminated"  # it repeats a row of an evaluation set
    DUPLICATE_CONTENT = "duplicate_content"  # another row says the same
    NEAR_DUPLICATE = "near_duplicate"  # another row says nearly the same
    NOT_SAMPLED = "not_sampled"  # its ingredient's limit is reached
    CAPPED = "capped"  # its value of a slice has as many rows as it may
    WEIGHTED_OUT = "weighted_out"  # its value of a slice keeps a share of its rows only


BAD = frozenset({Reason.NO_ANSWER, Reason.NOT_TEXT, Reason.ROLES_OUT_OF_ORDER, Reason.BROKEN_ARGUMENTS})  # bad rows


class RowMessage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One message of a row: what a chat template takes, and no more."""

    role: str
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


Messages = tuple[RowMessage, ...]


class Row(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One training example, and where it came from."""

    row_key: str  # the log_id, or IMPORTED and a digest
    log_id: str | None  # None: imported
    conversation: (
        str  # what it is split by: the digest of its session or of its beginning, at least 16 hexadecimal digits
    )
    messages: tuple[RowMessage, ...]
    tools: str | None  # JSON text of the tool definitions
    tags: tuple[str, ...] = ()
    language: str | None = None
    edited: bool = False
    masked: tuple[str, ...] = ()  # the kinds of private data that was replaced in it
    rejected: tuple[RowMessage, ...] = ()  # the worse answer: of a preference row, whose last message is the better one
    log_ids: tuple[str, ...] = ()  # every log that it was made of: pairs have two
    session_id: str | None = None
    ts_ms: int | None = None
    app: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    slices: dict[str, str] = {}  # the value of each slice that the recipe names; "none" where it has none
    licence: Trainable = "unknown"  # whether what its model said may be trained on
    tokens: int | None = None  # by the recipe's tokenizer
    source: str = ""  # of an imported row: the file or set that it came from
    terms: str | None = None  # of an imported row: the licence of its set, as somebody named it
    corrected: bool = False  # a correction from feedback stands in place of the last answer
    ingredient: int = 0  # its place among the recipe's
    held_out: bool = False  # its set has it, or another row of its conversation, for testing or validation
    joined: tuple[str, ...] = ()  # conversations that were found to be one with its own, when a version was published

    def row_id(self) -> str:
        """A digest of what is trained on; equal content has an equal id, wherever it came from."""
        return self.digests()[0].hex()

    def place(self) -> bytes:
        """A digest of how the row begins, up to its first user message: an edit of an answer does not move it."""
        return _list_digest([canonical_json(message) for message in _begins(self.messages)])

    def digests(self) -> tuple[bytes, bytes]:
        """Its `row_id`, as bytes, and its `place`: each message is spelled once for both."""
        said = [canonical_json(message) for message in self.messages]
        # The canonical JSON of {"messages", "rejected", "tools"}.
        worse = b',"rejected":' + canonical_json(self.rejected) if self.rejected else b""
        tools = b"null" if self.tools is None else canonical_json(self.tools)
        content = b"".join((b'{"messages":[', b",".join(said), b"]", worse, b',"tools":', tools, b"}"))
        return hashlib.sha256(content).digest(), _list_digest(said[: len(_begins(self.messages))])

    def characters(self) -> int:
        """How long its messages are: their text, and the arguments of their tool calls."""
        return characters_of(self.messages)


SlicesOf = Callable[[TaggedLog, Messages], dict[str, str]]


class Left(NamedTuple):
    """A log or a row that is left out, and why."""

    row_key: str
    reason: Reason
    slices: dict[str, str]  # as a row's
    ingredient: int = 0


class RowEdit(msgspec.Struct, frozen=True):
    """What a person put in place of a row's messages."""

    messages: Messages
    rejected: Messages = ()  # of a pair: the worse answer; as it is unless given


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What people did to a draft: rows they rewrote and rows they took out, by row_key; and what was erased everywhere."""

    edits: Mapping[str, RowEdit] = {}
    deleted: AbstractSet[str] = frozenset()
    erased: AbstractSet[str] = frozenset()


def is_imported(row_key: str) -> bool:
    """Whether this key is one of an imported row."""
    return _IMPORT_KEY.fullmatch(row_key) is not None


def imported_row(messages: tuple[RowMessage, ...], tools: str | None, rejected: tuple[RowMessage, ...] = ()) -> Row:
    """A row that came from a file. Its key is a digest of what it says: importing the same row again finds it there."""
    row = Row(
        row_key="", log_id=None, conversation=beginning(messages), messages=messages, tools=tools, rejected=rejected
    )
    return msgspec.structs.replace(row, row_key=IMPORTED + row.row_id()[:32])


def from_log(
    tagged: TaggedLog,
    *,
    default_consent: str,
    private_data: PrivateData = "snapshot",
    edit: RowEdit | None = None,
    correction: str | None = None,
    ingredient: int = 0,
    licence: Trainable = "unknown",
    slices_of: SlicesOf | None = None,
) -> Row | Reason:
    """The row that a log makes, as people edited it: its input and, as the last message, the first choice of its output.

    Args:
        default_consent: what holds for a log that says nothing: `train` or another word.
        private_data: the project's policy; unless it is `never`, private data that somebody tagged keeps the log out.
        edit: what a person put in place of the log's messages in this draft. Privacy and consent still hold for an edited row.
        correction: a better answer, from feedback; it stands in place of the log's own, even of one that failed.
        ingredient: whose row it is.
        licence: whether what the log's model said may be trained on.
        slices_of: gives the slices of a log whose row says these messages.
    """
    log, shown = tagged.log, tagged.shown
    if reason := _private(tagged, shown.consent or default_consent, private_data):
        return reason
    if edit is None and (reason := _unusable(shown, correction, is_edited=tagged.edit is not None)):
        return reason
    messages = edit.messages if edit else corrected_messages(shown, correction)
    if reason := fault(messages):
        return reason
    return Row(
        row_key=log.log_id,
        log_id=log.log_id,
        # Of what came, not of an edit: an edited turn stays on the side of the others.
        conversation=in_session(log.session_id) if log.session_id else beginning(own_messages(log)),
        messages=messages,
        tools=tools_text(log.tools),
        rejected=edit.rejected if edit else (),
        log_ids=(log.log_id,),
        session_id=log.session_id,
        ts_ms=log.ts_ms,
        app=log.app,
        model=log.model,
        finish_reason=log.finish_reason,
        corrected=correction is not None and edit is None,
        ingredient=ingredient,
        licence=licence,
        slices={} if slices_of is None else slices_of(tagged, messages),
        tags=tuple([tag.tag for tag in tagged.tags]),
        language=tagged.language,
        edited=edit is not None or tagged.edit is not None,
    )


def characters_of(messages: Sequence[Message | RowMessage]) -> int:
    """How long messages are: their text, and the arguments of their tool calls."""
    count = 0
    for message in messages:
        if message.content:
            count += len(message.content)
        if message.tool_calls:
            count += sum([len(call.arguments) for call in message.tool_calls])
    return count


def own_messages(log: LogRecord) -> Messages:
    """The log's input and, where it has an answer, the first choice of its output."""
    return tuple([_message(message) for message in (*log.messages, *log.output[:1])])


def corrected_messages(log: LogRecord, correction: str | None) -> Messages:
    """The log's input and its answer, or the correction in place of that; the calls of tools that the answer made go with it."""
    if correction is None:
        return own_messages(log)
    asked = tuple([_message(message) for message in log.messages])
    return (*asked, RowMessage(role="assistant", content=correction))


def beginning(messages: Sequence[RowMessage]) -> str:
    """How a conversation began, where the source names none: its turns all begin alike."""
    return digest(_begins(messages))[:32]


def in_session(session_id: str) -> str:
    """The conversation of everything in a session."""
    return digest(f"session:{session_id}")[:32]


def tools_text(tools: object) -> str | None:
    """Tool definitions as the text that is stored: canonical JSON; None where there are none."""
    return canonical_json(tools).decode() if tools else None


def fault(messages: Sequence[RowMessage]) -> Reason | None:
    """What keeps these messages from being a training row.

    In order: system or developer messages first if any, at least one user message, tool messages only after a message that
    called a tool, and an assistant's message at the end.
    """
    if not messages or messages[-1].role != "assistant" or _silent(messages[-1]):
        return Reason.NO_ANSWER
    for message in messages:
        if _silent(message):
            return Reason.NOT_TEXT
    return None if _in_order(messages) else Reason.ROLES_OUT_OF_ORDER


def _list_digest(spelled: Sequence[bytes]) -> bytes:
    """The digest of a list of these values, each spelled in canonical JSON."""
    return hashlib.sha256(b"".join((b"[", b",".join(spelled), b"]"))).digest()


def _begins(messages: Sequence[RowMessage]) -> Sequence[RowMessage]:
    for number, message in enumerate(messages, start=1):
        if message.role == "user":
            return messages[:number]
    return messages


def _private(tagged: TaggedLog, consent: str, private_data: PrivateData) -> Reason | None:
    if consent != "train":
        return Reason.CONSENT
    if tagged.tag_status != "ok":
        return Reason.NOT_TAGGED
    told = False
    for tag in tagged.tags:
        if tag.tag.startswith("secret:"):
            return Reason.SECRET
        told = told or (tag.tag.startswith("pii:") and not tag.by.startswith(_DETECTORS))
    return Reason.PII if told and private_data != "never" else None


def _unusable(log: LogRecord, correction: str | None, *, is_edited: bool) -> Reason | None:
    if correction is not None:
        return _not_text(log.messages)
    if log.status != "ok" and not is_edited:  # a person gave the answer that the call did not
        return Reason.STATUS_ERROR
    if not log.output:
        return Reason.NO_ANSWER
    return _not_text(log.messages) or _not_text(log.output[:1])


def _not_text(messages: Sequence[Message]) -> Reason | None:
    for message in messages:
        if isinstance(message.parts, list) and not all(map(_is_text, message.parts)):
            return Reason.NOT_TEXT
    return None


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _TEXT_PARTS


def _message(message: Message) -> RowMessage:
    return RowMessage(
        role=message.role,
        content=message.content,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _silent(message: RowMessage) -> bool:
    if message.role == "tool":
        return message.content is None  # a tool may answer with nothing
    return not (message.content and message.content.strip()) and not message.tool_calls


def _in_order(messages: Sequence[RowMessage]) -> bool:
    begun = heard_user = called_tool = False
    for message in messages:
        if message.role in _BEFORE_ALL:
            if begun:
                return False
            continue
        begun = True
        if message.role == "user":
            heard_user, called_tool = True, False
        elif message.role == "assistant":
            called_tool = bool(message.tool_calls)
        elif message.role != "tool" or not called_tool:
            return False
    return heard_user
