"""API keys: `tm_<key_id>_<secret>`. Only a hash of the secret is stored; the key itself is shown once, when it is made.

The secret has 256 random bits, so one SHA-256 is enough: a slow hash protects secrets that can be guessed, and this one cannot.
"""

import hashlib
import hmac
import re
import secrets

from sqlalchemy import Connection, Engine, func, insert, select

from tunemill.registry.tables import api_keys, now_ms

_KEY = re.compile(r"tm_([a-z0-9]{8,32})_([A-Za-z0-9_-]{32,128})")
_NO_SECRET = hashlib.sha256(b"").hexdigest()  # what an unknown key is compared with, so that it takes as long


class MalformedKey(ValueError):
    """A key that is not of the form `tm_<key_id>_<secret>`."""


def ensure_key(engine: Engine, project: str) -> str | None:
    """A new key if the project has none, to be shown once; None if it has one already."""
    with engine.begin() as connection:
        known = select(func.count()).where(api_keys.c.project == project)
        return None if connection.execute(known).scalar_one() else _add(connection, project, new_key())


def accept_key(engine: Engine, project: str, key: str) -> None:
    """Let this key in from now on; the operator chose it. Nothing changes if it is known.

    Raises:
        MalformedKey: it is not of the form `tm_<key_id>_<secret>`.
    """
    if _KEY.fullmatch(key) is None:
        raise MalformedKey("a key is tm_<8-32 of a-z0-9>_<32-128 of A-Z a-z 0-9 _ ->: leave it out and one is made")
    with engine.begin() as connection:
        if _stored(connection, project, _parts(key)[0]) is None:
            _add(connection, project, key)


def new_key() -> str:
    """A key that nobody has."""
    return f"tm_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def key_id_of(engine: Engine, project: str, key: str) -> str | None:
    """The public part of a key that the project lets in; None for any other text. Takes as long for an unknown key."""
    if _KEY.fullmatch(key) is None:
        return None
    key_id, digest = _parts(key)
    with engine.connect() as connection:
        stored = _stored(connection, project, key_id)
    return key_id if hmac.compare_digest(digest, stored or _NO_SECRET) and stored else None


def _parts(key: str) -> tuple[str, str]:
    """The key's id and the hash of its secret."""
    _, key_id, secret = key.split("_", 2)
    return key_id, hashlib.sha256(secret.encode()).hexdigest()


def _stored(connection: Connection, project: str, key_id: str) -> str | None:
    live = (api_keys.c.key_id == key_id, api_keys.c.project == project, api_keys.c.revoked_ms.is_(None))
    return connection.execute(select(api_keys.c.secret_sha256).where(*live)).scalar_one_or_none()


def _add(connection: Connection, project: str, key: str) -> str:
    key_id, digest = _parts(key)
    connection.execute(
        insert(api_keys).values(key_id=key_id, project=project, secret_sha256=digest, created_ms=now_ms())
    )
    return key
