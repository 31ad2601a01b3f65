"""The engine that a URL names."""

from pathlib import Path

from tunemill.indexer.errors import UnknownIndexUrl
from tunemill.indexer.search import SearchIndex
from tunemill.schemas.ids import PROJECT
from tunemill.schemas.manifest import valid_name


def open_index(url: str, *, project: str = PROJECT) -> SearchIndex:
    """The index behind `local:<folder>` or `http(s)://host:port`. Nothing is opened until it is used.

    Raises:
        UnknownIndexUrl: the URL names no engine, or the project's name cannot name an index.
    """
    if not valid_name(project):
        raise UnknownIndexUrl(f"{project!r}: a project is named by lower case letters, digits, - and _")
    scheme, _, rest = url.partition(":")
    if scheme == "local" and rest:
        from tunemill.indexer.local import LocalIndex

        return LocalIndex(Path(rest), project=project)
    if scheme in {"http", "https"} and rest.startswith("//"):
        from tunemill.indexer.elastic import ElasticIndex

        return ElasticIndex(url, project=project)
    raise UnknownIndexUrl(f"a URL that begins with {scheme[:20]!r}: an index is local:<folder> or http(s)://host:port")
