"""What a person wants in a dataset: ingredients, filters, balance, splits. One tree in JSON, YAML and the registry. Pure."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import msgspec

from tunemill.curator_api.draft import bad_query
from tunemill.curator_api.errors import InvalidRecipe
from tunemill.curator_api.slices import NAMES, is_slice
from tunemill.indexer.errors import QueryError
from tunemill.indexer.query import SavedText, parse
from tunemill.schemas.manifest import NAME

SLICES = f"slices are {', '.join(NAMES)} and meta:<key>"
# A version, or an alias of one, which does not look like a number.
REFERENCE = re.compile(rf"{NAME.pattern}@(v[1-9][0-9]{{0,8}}|(?!v[0-9]+$){NAME.pattern})")

Problem = tuple[str, str]  # the place in the recipe, and what is wrong there
Take = Literal["oldest", "newest", "random", "balanced", "diverse"]
Answer = Literal["logged", "corrected", "corrected_only"]
Shape = Literal["chat", "preference"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a recipe."""


class Search(_Part, tag="search", tag_field="kind", frozen=True):
    """The logs that match a search."""

    query: str
    limit: int | None = None  # rows that are left of it, at most
    take: Take = "oldest"  # which, where there are more
    by: str | None = None  # the slice whose values are balanced
    answer: Answer = "logged"


class Pairs(_Part, tag="pairs", tag_field="kind", frozen=True):
    """A better and a worse answer to one prompt."""

    query: str
    source: Literal["corrections", "models"]
    prefer: str | None = None  # of `models`: the feedback whose higher score is better
    limit: int | None = None
    take: Take = "oldest"
    by: str | None = None


class Logs(_Part, tag="logs", tag_field="kind", frozen=True):
    """Logs that a person picked."""

    log_ids: tuple[str, ...]
    answer: Answer = "logged"


class Imported(_Part, tag="imported", tag_field="kind", frozen=True):
    """Rows that were brought into the draft."""

    source: str | None = None  # None: all of them


class FromVersion(_Part, tag="version", tag_field="kind", frozen=True):
    """Rows of a published version."""

    of: str  # name@v3 or name@alias
    share: float | None = None  # they become this share of all rows; None: every one is taken


Ingredient = Search | Pairs | Logs | Imported | FromVersion


class Lengths(_Part, frozen=True):
    """How long a row may be, in tokens of its texts without a template."""

    tokenizer: str  # the name of a folder among the operator's tokenizers
    min_tokens: int | None = None
    max_tokens: int | None = None


class Decontaminate(_Part, frozen=True):
    """Which evaluation sets a row may not repeat."""

    against: tuple[str, ...]  # published versions: name@v3
    words: int = 13  # so many in a row that are the same are a repetition


class Filters(_Part, frozen=True):
    """What keeps a row out, beyond consent, status and form, which always hold."""

    private_data: Literal["project", "mask", "pseudonyms", "exclude"] = "project"
    lengths: Lengths | None = None
    finish_reasons: tuple[str, ...] | None = None
    licence: Literal["not_refused", "allowed"] = "not_refused"
    near_duplicates: float | None = None  # the similarity from which one of two goes
    decontaminate: Decontaminate | None = None


class Cap(_Part, frozen=True):
    """How many rows a value of a slice may have: one of both is given."""

    by: str
    most: int | None = None
    share: float | None = None  # of all rows of the version


class Weight(_Part, frozen=True):
    """The share of rows that stays, by value of a slice; of values that are not named all stay."""

    by: str
    keep: dict[str, float]


class Recipe(_Part, frozen=True):
    """A draft's recipe."""

    ingredients: tuple[Ingredient, ...]
    shape: Shape = "chat"
    filters: Filters = Filters()
    caps: tuple[Cap, ...] = ()
    weights: tuple[Weight, ...] = ()
    slices: tuple[str, ...] = ("language", "app", "topic", "length")
    groups: tuple[str, ...] = ()  # keys of metadata that say to which group a log's subject belongs
    seed: int = 0
    test_share: float = 0.1


def slice_names(recipe: Recipe) -> tuple[str, ...]:
    """Every slice that the recipe reports on, samples or balances by: what `Row.slices` of its rows holds."""
    sampled = (one.by for one in recipe.ingredients if isinstance(one, Search | Pairs) and one.by)
    balanced = (*(cap.by for cap in recipe.caps), *(weight.by for weight in recipe.weights))
    groups = (f"meta:{key}" for key in recipe.groups)
    return tuple(dict.fromkeys((*recipe.slices, *groups, *sampled, *balanced)))


def queries(recipe: Recipe) -> list[str]:
    """The texts of its searches."""
    return [one.query for one in recipe.ingredients if isinstance(one, Search | Pairs)]


def checked(recipe: Recipe, saved: SavedText) -> Recipe:
    """The recipe, if it can be followed; it keeps the names of saved searches, for what they mean when it is gathered.

    Args:
        saved: gives a saved search's text by its name.

    Raises:
        InvalidRecipe: it cannot; `place` says where in it.
        BadQuery: one of its queries cannot be read; says at which column.
    """
    for place, problem in (*_of_ingredients(recipe), *_of_filters(recipe.filters), *_of_balance(recipe)):
        raise InvalidRecipe(f"{place}: {problem}", place=place)
    for number, one in enumerate(recipe.ingredients):
        if isinstance(one, Search | Pairs):
            try:
                parse(one.query, saved=saved)
            except QueryError as error:
                raise bad_query(error, place=f"ingredients[{number}].query") from error
    return recipe


def _of_ingredients(recipe: Recipe) -> Iterator[Problem]:
    if not recipe.ingredients:
        yield "ingredients", "name at least one: search, pairs, logs, imported or version"
    for number, one in enumerate(recipe.ingredients):
        place = f"ingredients[{number}]"
        if isinstance(one, Search | Logs) and recipe.shape == "preference":
            yield (
                f"{place}.kind",
                f"{_kind(one)} gives rows without a worse answer: a preference dataset takes pairs, imported and version",
            )
        if isinstance(one, Pairs) and recipe.shape == "chat":
            yield f"{place}.kind", "pairs are for a dataset whose shape is preference"
        if isinstance(one, Search | Pairs):
            yield from _of_sampling(place, one)
        if isinstance(one, Pairs) and (one.source == "models") != (one.prefer is not None):
            yield (
                f"{place}.prefer",
                "name the feedback whose higher score is better where the source is models, and only there",
            )
        if isinstance(one, FromVersion) and not REFERENCE.fullmatch(one.of):
            yield f"{place}.of", "name a version as in general@v1, or by an alias as in general@latest"
    shares = [one.share for one in recipe.ingredients if isinstance(one, FromVersion) and one.share is not None]
    if sum(Fraction(str(share)) for share in shares) >= 1:
        yield "ingredients", f"the shares of {len(shares)} versions are all rows or more: together they must be below 1"


def _of_sampling(place: str, one: Search | Pairs) -> Iterator[Problem]:
    if one.take == "balanced" and one.by is None:
        yield f"{place}.by", f"name the slice that is balanced: {SLICES}"
    if one.take != "balanced" and one.by is not None:
        yield f"{place}.by", "only take: balanced goes by a slice"
    if one.take != "oldest" and one.limit is None:
        yield f"{place}.limit", f"{one.take} chooses among more rows than a limit: name one"
    if one.by is not None and not is_slice(one.by):
        yield f"{place}.by", f"not a slice: {SLICES}"


def _of_filters(filters: Filters) -> Iterator[Problem]:
    lengths = filters.lengths
    if lengths is not None and lengths.min_tokens is None and lengths.max_tokens is None:
        yield "filters.lengths", "name min_tokens, max_tokens or both"
    if lengths is not None and (lengths.min_tokens or 0) > (lengths.max_tokens or lengths.min_tokens or 0):
        yield "filters.lengths.max_tokens", "it is below min_tokens, so that no row is left"
    for number, name in enumerate(filters.decontaminate.against if filters.decontaminate else ()):
        if not REFERENCE.fullmatch(name):
            yield f"filters.decontaminate.against[{number}]", "name a version as in gsm8k-test@v1"


def _of_balance(recipe: Recipe) -> Iterator[Problem]:
    for number, cap in enumerate(recipe.caps):
        if (cap.most is None) == (cap.share is None):
            yield f"caps[{number}]", "give most or share, one of both"
    named = [
        *((f"caps[{number}].by", cap.by) for number, cap in enumerate(recipe.caps)),
        *((f"weights[{number}].by", weight.by) for number, weight in enumerate(recipe.weights)),
        *((f"slices[{number}]", name) for number, name in enumerate(recipe.slices)),
    ]
    for place, name in named:
        if not is_slice(name):
            yield place, f"not a slice: {SLICES}"


def _kind(one: Ingredient) -> str:
    return str(type(one).__struct_config__.tag)
