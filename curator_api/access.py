"""Who is asking: the public part of their key, or `local` on a machine whose server asks for none."""

import base64
from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBase
from fastapi.security.base import SecurityBase

from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import Unauthorised
from tunemill.curator_api.guard import PERSON, is_loopback_name
from tunemill.curator_api.keys import key_id_of


def admit(curator: Curator, authorization: str | None, client_host: str | None) -> str:
    """Who a request is from, by its `Authorization` header. Blocks on SQL.

    Raises:
        Unauthorised: nobody who is let in.
    """
    return person_of(curator, sent_key(authorization), client_host)


def person_of(curator: Curator, key: str | None, client_host: str | None) -> str:
    """`person:<key id>` of a key that is let in, or `person:local` for this machine where no key is asked for. Blocks on SQL.

    Raises:
        Unauthorised: there is no key, or it is not one of ours.
    """
    if not curator.settings.require_key and is_loopback_name(client_host or ""):
        return "person:local"  # whatever key is sent: it may be meant for another server
    if key is None:
        raise Unauthorised("send your key: Authorization: Bearer <key>")
    key_id = key_id_of(curator.registry, curator.settings.project, key)
    if key_id is None:
        raise Unauthorised("this key is not one of ours")
    return f"person:{key_id}"


def sent_key(authorization: str | None) -> str | None:
    """The key in an `Authorization` header: a bearer's token, or the password of the Basic scheme, whatever the user's name.

    Raises:
        Unauthorised: the header is neither.
    """
    if authorization is None:
        return None
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    if scheme.lower() == "basic" and (key := _password(credentials)):
        return key
    raise Unauthorised("the Authorization header must be: Bearer <key>, or Basic with the key as the password")


def _password(credentials: str) -> str | None:
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, or no UTF-8
        return None


class _Documented(SecurityBase):
    """One way to send a key, for the API's description alone: the guard has looked at the key already."""

    def __init__(self, scheme: str, description: str) -> None:
        self.model = HTTPBase(scheme=scheme, description=description)
        self.scheme_name = f"HTTP{scheme.capitalize()}"

    def __call__(self) -> None:
        """Nothing: see above."""


_bearer = _Documented("bearer", "An API key")
_basic = _Documented("basic", "An API key as the password; the user's name is not looked at")


def _person(request: Request, _1: Annotated[None, Depends(_bearer)], _2: Annotated[None, Depends(_basic)]) -> str:
    """Who the guard let in; nobody, should an endpoint lie where it does not look."""
    person = request.scope.get(PERSON)
    if not isinstance(person, str):
        raise Unauthorised("send your key: Authorization: Bearer <key>")
    return person


Person = Annotated[str, Depends(_person)]
