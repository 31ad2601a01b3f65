"""Images, audio and documents that Langfuse's SDKs take out of a call and send by themselves, leaving a token in their place.

A client asks where to send one, sends it there, and says how that went.
"""

import time
from datetime import UTC, datetime

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.errors import NotFound, TooLarge
from tunemill.curator_api.media_bytes import (
    ADDRESS_HOLDS_S,
    MAX_BYTES,
    ContentType,
    MediaId,
    Sha256,
    Upload,
    address,
    find,
    media_id_of,
)
from tunemill.curator_api.problems import responses

router = APIRouter(prefix="/api/public/media", tags=["langfuse"])

_log = structlog.get_logger()


class _Langfuse(BaseModel):
    """Names as Langfuse spells them; members that are not known are left alone."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class MediaIn(_Langfuse):
    """A file that a client is about to send. It is known by its content: where it was found is not kept."""

    content_type: ContentType
    content_length: int = Field(ge=1)
    sha256_hash: Sha256


class UploadOut(_Langfuse):
    """Where to send the file; no address: it is there already."""

    media_id: str
    upload_url: str | None


class UploadStatusIn(_Langfuse):
    """How sending went."""

    upload_http_status: int


class MediaOut(_Langfuse):
    """A file that is there, and the address that its bytes can be read from for an hour."""

    media_id: str
    content_type: str
    content_length: int
    uploaded_at: str
    url: str
    url_expiry: str


@router.post("", responses=responses(422))
def announce_media(media: MediaIn, request: Request, here: Here, person: Person) -> UploadOut:
    """Ask where to send a file of at most 10 MiB."""
    if media.content_length > MAX_BYTES:
        raise TooLarge(f"a file may have {MAX_BYTES} bytes", limit=MAX_BYTES)
    media_id = media_id_of(media.sha256_hash)
    try:
        find(here, media_id)
    except NotFound:
        upload = Upload(content_type=media.content_type, content_length=media.content_length, sha256=media.sha256_hash)
        return UploadOut(media_id=media_id, upload_url=address(request, here, person, media_id, upload))
    return UploadOut(media_id=media_id, upload_url=None)


@router.patch("/{media_id}", status_code=204, responses=responses(404, 422))
def report_upload(media_id: MediaId, report: UploadStatusIn, here: Here, _person: Person) -> None:
    """Say how sending went; 404 where it is said to have gone well and the file is not there."""
    if 200 <= report.upload_http_status < 300:
        find(here, media_id)
    else:
        _log.warning("media_upload_failed", media_id=media_id, status=report.upload_http_status)


@router.get("/{media_id}", responses=responses(404, 422))
def get_media(media_id: MediaId, request: Request, here: Here, person: Person) -> MediaOut:
    """What is known about a file, and where to read it."""
    stored = find(here, media_id)
    return MediaOut(
        media_id=media_id,
        content_type=stored.content_type,
        content_length=stored.content_length,
        uploaded_at=_iso(stored.uploaded_ms / 1000),
        url=address(request, here, person, media_id, None),
        url_expiry=_iso(time.time() + ADDRESS_HOLDS_S),
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
