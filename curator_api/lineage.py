"""What a version was made from: searches, other versions, imports, logs, and what people said. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from tunemill.curator_api.queries import names_saved
from tunemill.curator_api.recipe import FromVersion, Imported, Pairs, Recipe, Search


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """A search, and what it meant when the version was published."""

    query: str
    spelled_out: str
    saved: tuple[str, ...]  # the saved searches that it names itself
    matched: int


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of another version."""

    version: str
    matched: int


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows of a version came from. Runs that used it are found by its digest."""

    searches: tuple[Searched, ...] = ()
    versions: tuple[Taken, ...] = ()
    imports: tuple[
        str, ...
    ] = ()  # sources of imported rows: those asked for, and where all were, those with rows in it
    logs: int = 0  # that are in it
    feedback: int = 0  # rows whose answer came from feedback
    amends: int | None = None  # the version whose rows were changed, without asking the index again


def lineage_of(
    asked: Recipe, meant: Recipe, matched: Sequence[int], *, sources: Iterable[str], logs: int, feedback: int
) -> Lineage:
    """The lineage of a version.

    Args:
        asked: the recipe as a person wrote it.
        meant: the same, spelled out.
        matched: how many logs and rows each ingredient found.
        sources: of the imported rows that are in it.
    """
    searches, versions = [], []
    imports: list[str] = []
    for one, spelled, count in zip(asked.ingredients, meant.ingredients, matched, strict=True):
        if isinstance(one, Search | Pairs) and isinstance(spelled, Search | Pairs):
            saved = tuple(sorted(names_saved(one.query)))
            searches.append(Searched(query=one.query, spelled_out=spelled.query, saved=saved, matched=count))
        elif isinstance(spelled, FromVersion):
            versions.append(Taken(version=spelled.of, matched=count))
        elif isinstance(spelled, Imported):
            imports += sources if spelled.source is None else [spelled.source]
    return Lineage(
        searches=tuple(searches),
        versions=tuple(versions),
        imports=tuple(dict.fromkeys(imports)),
        logs=logs,
        feedback=feedback,
    )
