"""What a person wants in a dataset: ingredients, filters, balance, splits. One tree in JSON, YAML and the registry. Pure."""

from typing import Literal

import msgspec

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
