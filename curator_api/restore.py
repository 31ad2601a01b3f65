"""A published version becomes a draft again: its rows, with the recipe that they were let in by."""

import msgspec

from tunemill.curator_api import draft_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.draft import checked_name
from tunemill.curator_api.draft_store import Dataset
from tunemill.curator_api.recipe import FromVersion, Recipe
from tunemill.curator_api.version_refs import address_of
from tunemill.curator_api.version_store import Version


def restored(version: Version) -> Recipe:
    """The recipe whose rows are those of the version. Its filters, caps and weights leave them as they are. Pure."""
    return msgspec.structs.replace(version.draft, ingredients=(FromVersion(of=address_of(version)),))


def restore(curator: Curator, version: Version, *, name: str | None, by: str) -> Dataset:
    """Give a draft the rows of a version; what people did to rows of that draft before is forgotten.

    Args:
        name: of another dataset that is started with them; None: the version's own.

    Raises:
        Exists: there is a dataset of this name already.
        Unprocessable: a dataset may not be called so.
    """
    registry, project = curator.registry, curator.project
    if name is not None:
        return draft_store.create(registry, project, checked_name(name), restored(version))
    draft_store.restore(registry, project, version.name, restored(version), address_of(version), by=by)
    return draft_store.find(registry, project, version.name)
