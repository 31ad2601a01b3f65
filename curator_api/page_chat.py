"""How a conversation is laid out: a tool's result beside the call, and what stands in place of pictures, sound and files. Pure."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from tunemill.curator_api.page_source import Json

SHOWN_PICTURE_CHARACTERS = 256 * 2**10  # of its `data:` URL; a larger picture is only named
SHOWN_ADDRESS_CHARACTERS = 300
PICTURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}

_KINDS = {"image_url": "image", "input_image": "image", "input_audio": "audio", "input_file": "file"}
_TEXTS = ("text", "input_text", "output_text")
_NAMES = ("filename", "title", "name")
_PLACES = ("url", "image_url", "file_url", "file_data", "data", "file_id", "uri")  # where, or what, its bytes are
_DATA_URL = re.compile(r"data:(?P<media_type>[^;,]*)(?P<more>[^,]*),")
_TOKEN = re.compile(r"@@@langfuseMedia:type=([^|@]*)\|id=([^|@]*)\|source=[^|@]*@@@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What is said about a content part that is no text. `picture` is a `data:` URL that may be shown as it is."""

    kind: str
    name: str | None = None
    media_type: str | None = None
    size_bytes: int | None = None
    address: str | None = None
    picture: str | None = None
    rest: Json | None = None  # the whole part, where nothing above is known


@dataclass(slots=True)
class Turn:
    """A message and, for each of its tool calls, the result that follows it right away."""

    message: Json
    results: list[Json | None] = field(default_factory=list)


def turns(messages: Sequence[Json]) -> list[Turn]:
    """The messages in order; a tool's result stands with its call and not by itself."""
    laid_out: list[Turn] = []
    for message in messages:
        place = _call_answered(laid_out[-1], message) if laid_out else None
        if place is None:
            laid_out.append(Turn(message, [None] * len(message.get("tool_calls") or ())))
        else:
            laid_out[-1].results[place] = message
    return laid_out


def _call_answered(turn: Turn, message: Json) -> int | None:
    call_id = message.get("tool_call_id")
    if message["role"] != "tool" or call_id is None:
        return None
    calls = enumerate(turn.message.get("tool_calls") or ())
    return next((at for at, call in calls if call.get("id") == call_id and turn.results[at] is None), None)


def pieces(message: Json) -> list[str | Attachment]:
    """What a message says, in order: text, and attachments in the places that they had between the texts."""
    content, parts = message.get("content"), message.get("parts")
    shown: list[str | Attachment] = []
    parts = parts if isinstance(parts, list) else []
    texts = [text for part in parts if (text := _text(part)) is not None]
    in_order = "\n".join(texts) == content
    if content is not None and not in_order:  # edited since
        shown += with_media(content)
    for part in parts:
        text = _text(part)
        if text is None:
            shown.append(attachment(part))
        elif in_order:
            shown += with_media(text)
    return shown


def with_media(text: str) -> list[str | Attachment]:
    """Text, and attachments in place of the tokens that Langfuse's SDKs put where they took a file out."""
    shown: list[str | Attachment] = []
    start = 0
    for token in _TOKEN.finditer(text):
        shown += [text[start : token.start()]] if text[start : token.start()].strip() else []
        shown.append(_of_token(token))
        start = token.end()
    return [*shown, text[start:]] if not shown or text[start:].strip() else shown


def attachment(part: Any) -> Attachment:
    """What a page says about a content part: a picture that is small and is one, else its type, name, size or address."""
    if not isinstance(part, Mapping):
        return Attachment(kind="part", rest={"part": part})
    sent = part.get("type")
    kind = _KINDS.get(sent, sent) if isinstance(sent, str) and sent else "part"
    fields = {**part, **{name: item for inner in _inside(part) for name, item in inner.items()}}
    name = next(_texts_of(fields, _NAMES), None)
    place = next(_texts_of(fields, _PLACES), None)
    if place is None:
        return Attachment(kind=kind, name=name, rest=dict(part))
    if token := _TOKEN.fullmatch(place):
        return _of_token(token, kind=kind, name=name)
    if data := _DATA_URL.match(place):
        media_type = data["media_type"].lower() or "text/plain"
        is_base64 = data["more"].lower().endswith(";base64")
        size = base64_bytes(place, data.end()) if is_base64 else len(unquote_to_bytes(place[data.end() :]))
        picture = place if is_base64 and _is_picture(media_type, place, data.end()) else None
        return Attachment(kind=kind, name=name, media_type=media_type, size_bytes=size, picture=picture)
    media_type = next(_texts_of(fields, ("mime_type", "media_type", "format")), None)
    if place in (fields.get("data"), fields.get("file_data")):
        return Attachment(kind=kind, name=name, media_type=media_type, size_bytes=base64_bytes(place))
    return Attachment(kind=kind, name=name, media_type=media_type, address=_cut(place))


def base64_bytes(text: str, start: int = 0) -> int:
    """How many bytes the base64 from there on stands for."""
    return (len(text) - start) * 3 // 4 - text.count("=", max(start, len(text) - 2))


def _inside(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects that say more, such as the one in `{"type": "file", "file": {...}}`."""
    for name in (part.get("type"), "source"):
        inner = part.get(name) if isinstance(name, str) else None
        if isinstance(inner, Mapping):
            yield {key: item for key, item in inner.items() if key != "type"}


def _texts_of(fields: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    return (fields[name] for name in names if isinstance(fields.get(name), str) and fields[name])


def _text(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") in _TEXTS else None
    return text if isinstance(text, str) else None


def _is_picture(media_type: str, url: str, start: int) -> bool:
    """Whether it is of a type that is nothing but pixels, small, and begins as that type does."""
    if media_type not in PICTURES or len(url) > SHOWN_PICTURE_CHARACTERS:
        return False
    try:
        return base64.b64decode(url[start:], validate=True).startswith(PICTURES[media_type])
    except (binascii.Error, ValueError):
        return False


def _of_token(token: re.Match[str], *, kind: str | None = None, name: str | None = None) -> Attachment:
    media_type, media_id = token.groups()
    return Attachment(
        kind=kind or media_type.partition("/")[0] or "file", name=name, media_type=media_type, address=_cut(media_id)
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_ADDRESS_CHARACTERS else f"{text[:SHOWN_ADDRESS_CHARACTERS]}…"
