"""How a version is named: by its number, by an alias, or as the latest; with its dataset `NAME@v3`, `NAME@best`, `NAME@latest`."""

import re

from sqlalchemy import Engine

from tunemill.curator_api import alias_store, version_store
from tunemill.curator_api.errors import NotFound, Unprocessable
from tunemill.curator_api.version_store import Version
from tunemill.schemas.manifest import NAME, valid_name

LATEST = "latest"
_NUMBER = re.compile(r"v?([1-9][0-9]{0,8})")
_LIKE_A_NUMBER = re.compile(r"v?[0-9]+")


def find_one(engine: Engine, project: str, name: str, wanted: str) -> Version:
    """A version of a dataset.

    Args:
        wanted: `3` or `v3`, `latest`, or an alias.

    Raises:
        NotFound: there is no such version.
    """
    number = _NUMBER.fullmatch(wanted)
    if number:
        return version_store.find_version(engine, project, name, int(number[1]))
    is_latest = wanted == LATEST
    found = (
        version_store.latest(engine, project, name) if is_latest else alias_store.find(engine, project, name, wanted)
    )
    if found is None:
        raise NotFound(f"there is no version {wanted!r} of a dataset {name!r}")
    return version_store.find_version(engine, project, name, found)


def find_address(engine: Engine, project: str, address: str) -> Version:
    """The version that an address names.

    Raises:
        NotFound: there is no such version.
        Unprocessable: this is no address.
    """
    name, at, wanted = address.partition("@")
    if not at or not wanted or not valid_name(name):
        raise Unprocessable("not a version: write NAME@v3, NAME@latest, or NAME@ and an alias")
    return find_one(engine, project, name, wanted)


def address_of(version: Version) -> str:
    """The address that always means this version."""
    return f"{version.name}@v{version.version}"


def checked_alias(alias: str) -> str:
    """The alias, if a version may be called so.

    Raises:
        Unprocessable: it may not; says what is allowed.
    """
    if not valid_name(alias) or alias == LATEST or _LIKE_A_NUMBER.fullmatch(alias):
        raise Unprocessable(
            f"not a name for a version: it must match {NAME.pattern}, and be neither `{LATEST}` nor a number",
            pattern=NAME.pattern,
        )
    return alias
