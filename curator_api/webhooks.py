"""Webhooks over HTTP: addresses that hear of every dataset version that is published or redacted."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path

from tunemill.curator_api import webhook_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Here
from tunemill.curator_api.errors import NotFound, Unprocessable
from tunemill.curator_api.payloads import Storable
from tunemill.curator_api.problems import responses
from tunemill.curator_api.webhook_hosts import refusal
from tunemill.curator_api.webhook_payloads import WebhookIn, WebhookMade, WebhookOut, WebhooksOut

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.get("")
def list_webhooks(here: Here, _person: Person) -> WebhooksOut:
    """The webhooks, and how their deliveries go."""
    found = webhook_store.find_all(here.registry, here.project)
    return WebhooksOut(webhooks=[WebhookOut.model_validate(one) for one in found])


@router.post("", status_code=201, responses=responses(422))
def add_webhook(wanted: WebhookIn, here: Here, person: Person) -> WebhookMade:
    """Send every event from now on to an address, signed with a secret that is shown this once."""
    why = refusal(wanted.url, here.settings.webhook_hosts)
    if why is not None:
        raise Unprocessable(f"nothing can be sent to this address: {why}")
    made, secret = webhook_store.add(here.registry, here.project, wanted.url, by=person)
    return WebhookMade(**msgspec.to_builtins(made), secret=secret)


@router.delete("/{webhook_id}", status_code=204, responses=responses(404, 422))
def remove_webhook(webhook_id: Annotated[str, Path(max_length=32), Storable], here: Here, person: Person) -> None:
    """Send no more to an address, also nothing that waits."""
    if not webhook_store.remove(here.registry, here.project, webhook_id, by=person):
        raise NotFound("there is no such webhook")
