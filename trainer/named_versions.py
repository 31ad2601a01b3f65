"""The dataset versions that a recipe names as `name@v3`, spelled out: where their manifest lies, and its digest."""

import re

import msgspec
from sqlalchemy import Engine, select

from tunemill.registry.tables import versions
from tunemill.schemas.manifest import NAME
from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.recipe import Recipe, VersionRows

_VERSION = re.compile(rf"({NAME.pattern})@v([1-9][0-9]{{0,8}})")


def with_versions(recipe: Recipe, engine: Engine, project: str) -> Recipe:
    """The recipe with each named version of this project spelled out as it is now.

    One that comes spelled out is looked up all the same: else an order could name any address, and other projects' rows.

    Raises:
        InvalidRun: there is no such version.
    """
    found = {}
    for knob, of in (("replay", recipe.replay), ("retention", recipe.retention)):
        if match := version_named(of.of if isinstance(of, VersionRows) else of):
            found[knob] = _version(engine, project, knob, match)
        elif isinstance(of, VersionRows):
            raise InvalidRun(f"{knob}: that is no name of a version", "name one as name@v3")
    return msgspec.structs.replace(recipe, **found) if found else recipe


def version_named(of: object) -> re.Match[str] | None:
    """Whether it is `name@v3`: its name and its number."""
    return _VERSION.fullmatch(of) if isinstance(of, str) else None


def _version(engine: Engine, project: str, knob: str, match: re.Match[str]) -> VersionRows:
    name, number = match[1], int(match[2])
    mine = (versions.c.project == project) & (versions.c.name == name) & (versions.c.version == number)
    with engine.connect() as connection:
        row = connection.execute(select(versions.c.manifest_url, versions.c.digest).where(mine)).one_or_none()
    if row is None:
        raise InvalidRun(
            f"{knob}: there is no version {name}@v{number} in this project", "name one that `tunemill dataset` lists"
        )
    return VersionRows(of=match[0], manifest_url=row.manifest_url, digest=row.digest)
