"""What the forms that edit messages send: the messages with other texts. Tool calls, names and attachments stay. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from tunemill.curator_api.errors import BadRequest
from tunemill.curator_api.page_source import Json


def edited_messages(sent: Mapping[str, str]) -> list[Json]:
    """The messages in the form's field `messages`, as its fields `content-<n>` change them.

    Raises:
        BadRequest: the form does not hold the messages it was made from.
    """
    try:
        messages = msgspec.json.decode(sent.get("messages", ""), type=list[Json])
    except msgspec.DecodeError as error:
        raise BadRequest("the form lacks the row's messages: reload the page and edit again") from error
    return with_texts(messages, sent, "content")


def with_texts(messages: Sequence[Json], sent: Mapping[str, str], name: str) -> list[Json]:
    """These messages as the form's fields `<name>-<n>` change them."""
    return [_edited(message, sent.get(f"{name}-{place}")) for place, message in enumerate(messages)]


def _edited(message: Json, text: str | None) -> Json:
    """The message with this text, unless only its line ends differ: a browser changes those by itself."""
    if text is None or text == str(message.get("content")).replace("\r\n", "\n"):
        return message
    return message | {"content": text}
