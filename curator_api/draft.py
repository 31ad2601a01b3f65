"""What a draft may be called, and what a client is told of a query that cannot be read. Pure."""

from tunemill.curator_api.errors import BadQuery, Unprocessable
from tunemill.indexer.errors import QueryError
from tunemill.schemas.manifest import NAME, valid_name


def bad_query(error: QueryError, *, place: str | None = None) -> BadQuery:
    """The client's answer to a query that cannot be read.

    Args:
        place: where it stands in a recipe.
    """
    where = {} if place is None else {"place": place}
    return BadQuery(str(error), column=error.column, found=error.found, expected=error.expected, **where)


def checked_name(name: str) -> str:
    """The name, if a dataset may be called so.

    Raises:
        Unprocessable: it may not; says what is allowed.
    """
    if not valid_name(name):
        raise Unprocessable(f"not a name for a dataset: it must match {NAME.pattern}", pattern=NAME.pattern)
    return name
