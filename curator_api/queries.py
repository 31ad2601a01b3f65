"""Search texts as people write them -> trees, with the saved searches that they name in their place; and how many logs match one."""

from sqlalchemy import Engine

from tunemill.curator_api import saved_store
from tunemill.indexer.errors import QueryError
from tunemill.indexer.query import Query, SavedText, parse
from tunemill.indexer.query_text import to_text
from tunemill.indexer.search import SearchIndex, SearchRequest


def read_query(engine: Engine, project: str, text: str, *, now_ms: int | None = None) -> Query:
    """What a search text means by now. Blocks on SQL where it names a saved search.

    Raises:
        QueryError: it is not in the query language, or it names a saved search that is not there or cannot be read.
    """
    return parse(
        text, now_ms=now_ms, saved=saved_texts(engine, project), saved_names=lambda: saved_names(engine, project)
    )


async def total_of(index: SearchIndex, query: Query) -> int:
    """How many logs match."""
    return (await index.search(SearchRequest(query, limit=0, counts=False))).total


def saved_texts(engine: Engine, project: str) -> SavedText:
    """What gives a saved search's text by its name. It blocks on SQL."""

    def text_of(name: str) -> str | None:
        found = saved_store.find(engine, project, name)
        return None if found is None else found.query

    return text_of


def saved_names(engine: Engine, project: str) -> list[str]:
    """The names of all saved searches. Blocks on SQL."""
    return [one.name for one in saved_store.find_all(engine, project)]


def spelled_out(text: str, query: Query) -> str:
    """A text that always means this tree: the one that it was read from, if that names no saved search and no `now`."""
    try:
        means_the_same = parse(text, now_ms=0) == query
    except QueryError:
        means_the_same = False
    return text if means_the_same else to_text(query)


def names_saved(text: str) -> set[str]:
    """The saved searches that a text names itself; as far as it can be read."""
    named: set[str] = set()

    def note(name: str) -> str:
        named.add(name)
        return "found"  # any text that can be read

    try:
        parse(text, saved=note)
    except QueryError:
        return named
    return named
