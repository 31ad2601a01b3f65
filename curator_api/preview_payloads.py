"""What a draft would be as a version, as it goes over HTTP."""

from pydantic import Field, JsonValue

from tunemill.curator_api.payloads import Given, RowMessageOut
from tunemill.curator_api.recipe_payloads import IngredientBody, RecipeBody
from tunemill.curator_api.version_payloads import ReportOut


class IngredientOut(Given):
    """One ingredient of a draft, and how much it finds."""

    ingredient: IngredientBody
    matched: int = Field(description="logs and rows, before any is left out")


class PreviewOut(Given):
    """A draft, and the report of the version that it would be."""

    recipe: RecipeBody = Field(description="as it would be published: queries and aliases spelled out")
    ingredients: list[IngredientOut]
    report: ReportOut


class RowOut(Given):
    """One row of a draft."""

    row_key: str = Field(description="the log_id, or the key of an imported row")
    row_id: str
    split: str
    messages: list[RowMessageOut]
    rejected: list[RowMessageOut] = Field(description="of a pair: the worse answer")
    tools: JsonValue
    tags: list[str]
    edited: bool
    corrected: bool = Field(description="a correction from feedback is its answer")
    model: str | None
    slices: dict[str, str]


class RowsOut(Given):
    """One page of a draft's rows, as they would be published now, by row_key."""

    rows: list[RowOut]
    total: int
    matched: int
    excluded: dict[str, int]
    cursor: str | None


class BadRowOut(Given):
    """A log or a row that cannot be trained on as it is."""

    row_key: str
    reason: str
    why: str = Field(description="for a person")


class BadRowsOut(Given):
    """One page of what is no training row, by row_key."""

    rows: list[BadRowOut]
    counts: dict[str, int] = Field(description="all of them by reason")
    cursor: str | None
