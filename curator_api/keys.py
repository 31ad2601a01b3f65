"""API keys. Only a hash of a key is stored; a key that is made here is shown once, when it is made.

A made key is `tm_<key_id>_<secret>` with 256 random bits, so one SHA-256 is enough: a slow hash protects secrets that can be
guessed, and this one cannot. An operator may choose a key of their own; how hard it is to guess is then up to them.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import IntegrityError

from tunemill.registry.tables import api_keys, now_ms

LEAST_CHARACTERS = 32  # of a key that nobody guesses; a shorter one is taken, but the operator is told
_KEY = re.compile(r"[!-~]{1,256}")  # what a header carries unchanged
_MADE = re.compile(r"tm_([a-z0-9]{8,24})_[A-Za-z0-9_-]{32,}")


class MalformedKey(ValueError):
    """A key that no `Authorization` header could carry."""


def ensure_key(engine: Engine, project: str) -> str | None:
    """A new key if the project has none, to be shown once; None if it has one already."""
    with engine.begin() as connection:
        if connection.execute(select(func.count()).where(api_keys.c.project == project)).scalar_one():
            return None
    key = new_key()
    accept_key(engine, project, key)
    return key


def accept_key(engine: Engine, project: str, key: str) -> None:
    """Let this key in from now on; the operator chose it. Nothing changes if it is known.

    Raises:
        MalformedKey: it is empty, longer than 256 characters, or holds a blank or a character that is not ASCII.
    """
    if _KEY.fullmatch(key) is None:
        raise MalformedKey("a key is 1 to 256 ASCII characters without blanks: leave it out and one is made")
    made = _MADE.fullmatch(key)
    key_id = made[1] if made else f"given-{secrets.token_hex(4)}"
    values = {"key_id": key_id, "project": project, "key_sha256": _digest(key), "created_ms": now_ms()}
    with suppress(IntegrityError), engine.begin() as connection:  # known already, also when two processes start at once
        connection.execute(insert(api_keys).values(values))


def new_key() -> str:
    """A key that nobody has."""
    return f"tm_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def key_id_of(engine: Engine, project: str, key: str) -> str | None:
    """The public part of a key that the project lets in; None for any other text.

    Keys are looked up by their hash: how long that takes says nothing about a key that is nearly right.
    """
    live = (api_keys.c.key_sha256 == _digest(key), api_keys.c.project == project, api_keys.c.revoked_ms.is_(None))
    with engine.connect() as connection:
        return connection.execute(select(api_keys.c.key_id).where(*live)).scalar_one_or_none()


def signing_secrets(engine: Engine, project: str, key_id: str) -> Sequence[str]:
    """What only we and the holders of the live keys with this public part know; an operator's keys may share one."""
    live = (api_keys.c.key_id == key_id, api_keys.c.project == project, api_keys.c.revoked_ms.is_(None))
    with engine.connect() as connection:
        return list(connection.execute(select(api_keys.c.key_sha256).where(*live)).scalars())


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
