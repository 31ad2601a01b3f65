"""What may be set about the API. Read once by whoever starts it, passed on, never changed."""

from pathlib import Path
from typing import Literal

import msgspec

from tunemill.schemas.ids import PROJECT

Consent = Literal["train", "none"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this API behaves."""

    project: str = PROJECT
    require_key: bool = True  # False: requests from this machine need none
    default_consent: Consent = "none"  # what holds for a log whose consent is not stated
    max_body_bytes: int = 32 * 2**20  # of a request, as it comes
    max_inflated_bytes: int = 128 * 2**20  # of a compressed one, inflated
    tokenizers: Path | None = None  # a folder of <name>/tokenizer.json, by which recipes count tokens
    webhook_hosts: tuple[str, ...] = ()  # host or host:port that events may be sent to
    max_inflation_ratio: int = 100  # how many times its own size that may be, beyond what may come uncompressed
