"""A draft's recipe as it goes over HTTP: the same tree as `recipe`, with the bounds of its numbers."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from tunemill.curator_api.errors import InvalidRecipe
from tunemill.curator_api.payloads import LogId, Object, SearchText, Storable
from tunemill.curator_api.recipe import Answer, Recipe, Shape, Take

Short = Annotated[str, Field(min_length=1, max_length=200), Storable]
Limit = Annotated[int | None, Field(ge=1, le=10_000_000)]
Share = Annotated[float | None, Field(gt=0, lt=1)]


class _Part(BaseModel):
    """A part of a recipe; a member that is not known is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class SearchBody(_Part):
    """The logs that match a search."""

    kind: Literal["search"]
    query: SearchText
    limit: Limit = Field(None, description="rows that are left of it, at most")
    take: Take = "oldest"
    by: Short | None = Field(None, description="the slice whose values are balanced")
    answer: Answer = Field(
        "logged", description="corrected: a feedback's correction stands in place of the last answer"
    )


class PairsBody(_Part):
    """A better and a worse answer to one prompt."""

    kind: Literal["pairs"]
    query: SearchText
    source: Literal["corrections", "models"]
    prefer: Short | None = Field(None, description="of models: the feedback whose higher score is better")
    limit: Limit = None
    take: Take = "oldest"
    by: Short | None = None


class LogsBody(_Part):
    """Logs that a person picked."""

    kind: Literal["logs"]
    log_ids: list[LogId] = Field(min_length=1, max_length=10_000)
    answer: Answer = "logged"


class ImportedBody(_Part):
    """Rows that were brought into the draft."""

    kind: Literal["imported"]
    source: Short | None = Field(None, description="the file or set they came from; null: all of them")


class FromVersionBody(_Part):
    """Rows of a published version."""

    kind: Literal["version"]
    of: Short = Field(examples=["general@v3"])
    share: Share = Field(None, description="they become this share of all rows; null: every one is taken")


IngredientBody = Annotated[
    SearchBody | PairsBody | LogsBody | ImportedBody | FromVersionBody, Field(discriminator="kind")
]


class LengthsBody(_Part):
    """How long a row may be, in tokens of its texts without a template."""

    tokenizer: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    min_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)


class DecontaminateBody(_Part):
    """Which evaluation sets a row may not repeat."""

    against: list[Short] = Field(min_length=1, max_length=50, examples=[["gsm8k-test@v1"]])
    words: int = Field(13, ge=5, le=100, description="so many in a row that are the same are a repetition")


class FiltersBody(_Part):
    """What keeps a row out, beyond consent, status and form, which always hold."""

    private_data: Literal["project", "mask", "pseudonyms", "exclude"] = "project"
    lengths: LengthsBody | None = None
    finish_reasons: list[Short] | None = Field(None, min_length=1, max_length=50)
    licence: Literal["not_refused", "allowed"] = "not_refused"
    near_duplicates: float | None = Field(None, ge=0.5, le=0.95)
    decontaminate: DecontaminateBody | None = None


class CapBody(_Part):
    """How many rows a value of a slice may have."""

    by: Short
    most: int | None = Field(None, ge=1)
    share: Share = Field(None, description="of all rows of the version")


class WeightBody(_Part):
    """The share of rows that stays, by value of a slice; of values that are not named all stay."""

    by: Short
    keep: dict[Short, Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1, max_length=1_000)


class RecipeBody(_Part):
    """What a draft is made of."""

    ingredients: list[IngredientBody] = Field(max_length=100)
    shape: Shape = "chat"
    filters: FiltersBody = Field(default_factory=lambda: FiltersBody.model_validate({}))
    caps: list[CapBody] = Field([], max_length=20)
    weights: list[WeightBody] = Field([], max_length=20)
    slices: list[Short] = Field(["language", "app", "topic", "length"], max_length=20)
    groups: list[Short] = Field([], max_length=20, description="keys of metadata that name a subject's group")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    test_share: float = Field(0.1, ge=0, le=0.9, description="share of the conversations, about")


class RowChanges(_Part):
    """What people did to rows of a draft, by row_key."""

    edit: dict[LogId, "RowText"] = {}
    delete: list[LogId] = []


class RowChangesIn(RowChanges):
    """What a client wants to become of rows."""

    edit: dict[LogId, "RowText"] = Field({}, max_length=10_000)
    delete: list[LogId] = Field([], max_length=100_000)


class RowText(_Part):
    """The messages in place of a row's own, the answer last; of a pair, with the worse answer."""

    messages: list[Object] = Field(min_length=1, max_length=1_000)
    rejected: list[Object] = Field([], max_length=1_000)


def _tree(recipe: Any) -> Any:
    """A recipe as the tree that a `RecipeBody` is read from; anything else as it is."""
    return msgspec.to_builtins(recipe) if isinstance(recipe, Recipe) else recipe


RecipeOut = Annotated[RecipeBody, BeforeValidator(_tree)]


class DraftIn(RecipeBody):
    """A recipe; `query` and `limit` are short for one search, with whatever is imported."""

    ingredients: list[IngredientBody] = Field([], max_length=100)
    query: SearchText | None = None
    limit: Limit = None
    rows: RowChangesIn = Field(default_factory=lambda: RowChangesIn.model_validate({}))
    name: Annotated[str | None, Field(max_length=1_000)] = Field(
        None, description="of the dataset, if it is said again"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.query is None) != bool(self.ingredients):
            raise ValueError("give ingredients, or a query for one search")
        if self.limit is not None and self.query is None:
            raise ValueError("limit belongs to query; an ingredient has its own")
        return self


class DatasetIn(DraftIn):
    """A dataset to start."""

    name: Annotated[str, Field(max_length=1_000), Storable]


class DraftOut(RecipeBody):
    """A draft's recipe, and what people did to its rows."""

    name: str
    rows: RowChanges


def recipe_of(given: DraftIn) -> Recipe:
    """The recipe that a client sent."""
    tree = given.model_dump(exclude={"name", "query", "limit", "rows"})
    if given.query is not None:
        search = {"kind": "search", "query": given.query, "limit": given.limit}
        tree["ingredients"] = [search, {"kind": "imported"}]
    return msgspec.convert(tree, Recipe)


def body_of(recipe: Recipe) -> RecipeBody:
    """The recipe as a client reads it, with every default written out."""
    return RecipeBody.model_validate(_tree(recipe))


class RecipeRoute(APIRoute):
    """A route on which what is wrong with a body is an `invalid-recipe` that names its place."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of such a request."""
        handle = super().get_route_handler()

        async def handle_recipe(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                found = error.errors()
                if any(item["loc"][:1] != ("body",) or item["type"] == "json_invalid" for item in found):
                    raise
                raise invalid(found) from error

        return handle_recipe


def invalid(errors: Sequence[Mapping[str, Any]]) -> InvalidRecipe:
    """The answer to a recipe that has these errors of pydantic: places and what is allowed, never what was sent."""
    found = [{"place": _place(item["loc"]), "reason": _reason(item)} for item in errors[:20]]
    first = found[0]
    return InvalidRecipe(f"{first['place']}: {first['reason']}".removeprefix(": "), place=first["place"], errors=found)


def _place(steps: Sequence[str | int]) -> str:
    """`ingredients[1].take` for ("body", "ingredients", 1, "search", "take")."""
    named = [step for step in steps if step != "body"]
    if named[:1] == ["ingredients"] and len(named) > 2:
        named.pop(2)  # the kind, which pydantic puts there
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in named).removeprefix(".")


def _reason(item: Mapping[str, Any]) -> str:
    if item["type"] == "union_tag_invalid":  # its message repeats what was sent
        return f"the kind must be one of {item['ctx']['expected_tags']}"
    return str(item["msg"]).removeprefix("Value error, ")
