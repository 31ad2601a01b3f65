"""How a delivery is signed, as https://www.standardwebhooks.com says (version 1). Pure."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> str:
    """A secret that nobody had before, as receivers' libraries take it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secret: str, event_id: str, ts_s: int, body: bytes) -> Mapping[str, str]:
    """The headers that say which event it is, when it was sent, and that it is from us.

    Args:
        secret: as `new_secret` gives it.
        ts_s: seconds since the epoch: a receiver refuses what is too old, so that nobody can send it again.
    """
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.new(key, f"{event_id}.{ts_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(ts_s),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
