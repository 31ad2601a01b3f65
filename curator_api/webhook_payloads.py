"""What goes over HTTP of webhooks."""

from typing import Annotated

from pydantic import Field

from tunemill.curator_api.payloads import Given, Storable, Taken


class WebhookIn(Taken):
    """An address that is to hear of events."""

    url: Annotated[str, Field(max_length=2_000, examples=["https://ci.example.com/hooks/tunemill"]), Storable]


class WebhookOut(Given):
    """An address that hears of every event, and how that goes."""

    webhook_id: str
    url: str
    by: str
    created_ms: int
    sent: int = Field(description="Events that it took.")
    waiting: int = Field(description="Events that will be sent, or sent again.")
    given_up: int = Field(description="Events that it did not take in seven attempts over some seven hours.")
    last_error: str | None = Field(description="A status, or the kind of an error, of an event that it did not take.")


class WebhookMade(WebhookOut):
    """A new webhook."""

    secret: str = Field(description="What its deliveries are signed with. Shown this once.")


class WebhooksOut(Given):
    """The project's webhooks, the oldest first."""

    webhooks: list[WebhookOut]
