"""What goes over HTTP of saved searches."""

from pydantic import Field

from tunemill.curator_api.payloads import Given, SearchText, Taken


class SavedSearchIn(Taken):
    """A search to keep under a name."""

    query: SearchText = Field(examples=["tag:topic:math feedback:is_correct:0"])


class SavedSearchOut(Given):
    """A search text with a name; `saved:<name>` stands for it in any query."""

    name: str
    query: str
    by: str = Field(description="Who changed it last.")
    created_ms: int
    updated_ms: int


class SavedSearchesOut(Given):
    """The project's saved searches, by name."""

    searches: list[SavedSearchOut]
