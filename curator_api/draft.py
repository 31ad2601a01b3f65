"""A draft's recipe: which logs it gathers and how it splits them. Pure."""

import msgspec

from tunemill.curator_api.errors import BadQuery, Unprocessable
from tunemill.indexer.errors import QueryError
from tunemill.indexer.query import SavedText, parse
from tunemill.schemas.manifest import NAME, valid_name


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a draft selects."""

    query: str
    limit: int | None = None  # at most so many logs, the oldest first
    seed: int = 0
    test_share: float = 0.1  # of the conversations, about


def checked(draft: Draft, saved: SavedText) -> Draft:
    """The draft, if its query can be read; it keeps the names of saved searches, for what they mean when it is gathered.

    Args:
        saved: gives a saved search's text by its name.

    Raises:
        BadQuery: it cannot; says at which column.
    """
    try:
        parse(draft.query, saved=saved)
    except QueryError as error:
        raise bad_query(error) from error
    return draft


def bad_query(error: QueryError) -> BadQuery:
    """The client's answer to a query that cannot be read."""
    return BadQuery(str(error), column=error.column, found=error.found, expected=error.expected)


def checked_name(name: str) -> str:
    """The name, if a dataset may be called so.

    Raises:
        Unprocessable: it may not; says what is allowed.
    """
    if not valid_name(name):
        raise Unprocessable(f"not a name for a dataset: it must match {NAME.pattern}", pattern=NAME.pattern)
    return name
