"""Who is asking: the public part of their key, or `local` on a machine whose server asks for none."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.errors import Unauthorised
from tunemill.curator_api.guard import is_loopback_name
from tunemill.curator_api.keys import key_id_of

_bearer = HTTPBearer(auto_error=False, description="An API key")


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


def _person(
    request: Request, here: Here, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    if credentials is None and request.headers.get("authorization") is not None:
        raise Unauthorised("the Authorization header must be: Bearer <key>")
    key = None if credentials is None else credentials.credentials
    return person_of(here, key, request.client.host if request.client else None)


Person = Annotated[str, Depends(_person)]
