"""The bytes of media: sent to and read from signed addresses outside of the API, since Langfuse's SDKs send no key with them."""

import asyncio
import base64
import hashlib
import hmac
import time
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from tunemill.curator_api.access import person_of, sent_key
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import BadRequest, DamagedFile, Forbidden, NotFound
from tunemill.curator_api.keys import signing_secrets
from tunemill.curator_api.store import AlreadyDifferent

router = APIRouter(prefix="/media", include_in_schema=False)  # addresses are given out, never made up

MAX_BYTES = 10 * 2**20  # of one file
ADDRESS_HOLDS_S = 3600

MediaId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_-]{22}$", description="the first 132 bits of the SHA-256, base64url")
]
ContentType = Annotated[str, Field(pattern=r"^[a-z]+/[A-Za-z0-9.+-]{1,100}$", examples=["image/png"])]
Sha256 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$", description="base64")]


class Upload(BaseModel):
    """What an address for an upload says about the file."""

    content_type: ContentType
    content_length: int = Field(ge=1, le=MAX_BYTES)
    sha256: Sha256


class Stored(msgspec.Struct, frozen=True):
    """What is kept beside the bytes; written after them, so that it stands for both."""

    content_type: str
    content_length: int
    uploaded_ms: int


class _Signed(BaseModel):
    """What makes an address one of ours."""

    by: str = ""
    expires_s: int = 0
    signature: str = ""


@router.put("/{media_id}")
async def upload_media(
    media_id: MediaId,
    upload: Annotated[Upload, Depends()],
    signed: Annotated[_Signed, Depends()],
    request: Request,
    here: Here,
) -> Response:
    """Take a file, at an address that `POST /api/public/media` gave."""
    await asyncio.to_thread(_let_in, request, here, media_id, signed, upload)
    content = await request.body()
    if len(content) != upload.content_length or sha256_of(content) != upload.sha256:
        raise BadRequest("the body is not the file that was announced: its length or its SHA-256 is another")
    if media_id != media_id_of(upload.sha256):
        raise BadRequest("this is the address of another file")
    await asyncio.to_thread(_store, here, media_id, content, upload.content_type)
    return Response(status_code=200)


@router.get("/{media_id}")
def download_media(media_id: MediaId, signed: Annotated[_Signed, Depends()], request: Request, here: Here) -> Response:
    """Give a file, at an address that `GET /api/public/media/{media_id}` gave. No browser shows it as a page of ours."""
    _let_in(request, here, media_id, signed, None)
    stored = find(here, media_id)
    headers = {"Content-Disposition": f'attachment; filename="{media_id}"'}
    return Response(here.files.read(_path(here, media_id)), media_type=stored.content_type, headers=headers)


def sha256_of(content: bytes) -> str:
    """The SHA-256 as Langfuse writes it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def media_id_of(sha256: str) -> str:
    """The id that every SDK gives a file with this SHA-256, and that stands in the token in its place."""
    return sha256.replace("+", "-").replace("/", "_")[:22]


def find(curator: Curator, media_id: str) -> Stored:
    """What is known about a file.

    Raises:
        NotFound: it is not there.
    """
    try:
        return msgspec.json.decode(curator.files.read(f"{_path(curator, media_id)}.json"), type=Stored)
    except DamagedFile as error:  # the store's word for: not there
        raise NotFound("there is no such file: send it again") from error


def address(request: Request, curator: Curator, person: str, media_id: str, upload: Upload | None) -> str:
    """Where the bytes are sent to, or read from without an upload, in the name of this person's key.

    Where no key is asked for, none signs, and the address is good for this machine alone.
    """
    key_id = person.removeprefix("person:")
    secrets = signing_secrets(curator.registry, curator.settings.project, key_id)
    query = {} if upload is None else upload.model_dump()
    if secrets:
        expires_s = int(time.time()) + ADDRESS_HOLDS_S
        query |= {"by": key_id, "expires_s": expires_s, "signature": signature(secrets[0], media_id, upload, expires_s)}
    return f"{request.base_url}media/{media_id}" + (f"?{urlencode(query)}" if query else "")


def signature(secret: str, media_id: str, upload: Upload | None, expires_s: int) -> str:
    """What proves that an address was given out by somebody who holds the secret, for this file and until then."""
    said = [] if upload is None else [upload.content_type, str(upload.content_length), upload.sha256]
    text = "\n".join(["media", media_id, str(expires_s), *said])
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _let_in(request: Request, curator: Curator, media_id: str, signed: _Signed, upload: Upload | None) -> None:
    """Return if the address is signed by a key that is let in still, or if whoever asks is let in without it.

    Raises:
        Forbidden: the address is not one that was given out, or too old.
        Unauthorised: it is not signed, and nobody who is let in asks.
    """
    if not signed.signature:
        person_of(
            curator, sent_key(request.headers.get("authorization")), request.client.host if request.client else None
        )
        return
    secrets = signing_secrets(curator.registry, curator.settings.project, signed.by)
    made = [signature(secret, media_id, upload, signed.expires_s) for secret in secrets]
    if not any(hmac.compare_digest(one.encode(), signed.signature.encode()) for one in made):
        raise Forbidden("this address was not given out here: ask for one at /api/public/media")
    if signed.expires_s < time.time():
        raise Forbidden("this address is too old: ask for another one at /api/public/media")


def _store(curator: Curator, media_id: str, content: bytes, content_type: str) -> None:
    """The bytes, then what stands for them. Of two that send one file, the first says of which type it is."""
    path = _path(curator, media_id)
    curator.files.put(path, content)
    stored = Stored(content_type=content_type, content_length=len(content), uploaded_ms=int(time.time() * 1000))
    with suppress(AlreadyDifferent):
        curator.files.put(f"{path}.json", msgspec.json.encode(stored))


def files_of(curator: Curator, media_id: str) -> tuple[str, str]:
    """The files that are kept of one: its bytes, and what stands for them."""
    path = _path(curator, media_id)
    return path, f"{path}.json"


def _path(curator: Curator, media_id: str) -> str:
    return f"media/{curator.settings.project}/{media_id}"
