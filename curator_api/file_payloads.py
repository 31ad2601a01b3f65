"""What the API says about rows that come from files and go to files."""

from typing import Literal

from pydantic import Field

from tunemill.curator_api.payloads import Given

FormatName = Literal["openai", "sharegpt", "alpaca", "prompt_completion", "preference"]


class LineError(Given):
    """A line that was not imported."""

    line: int = Field(
        description="of the file, counted from 1: a line of JSON lines, an item of an array, a row of Parquet"
    )
    reason: str = Field(description="never what the line holds")


class ImportOut(Given):
    """What became of each line: `lines` = `imported` + `known` + `failed`."""

    lines: int
    imported: int
    known: int = Field(description="rows that the draft had already")
    failed: int
    errors: list[LineError] = Field(description="the first 100")
    formats: dict[str, int] = Field(description="rows by the format that they came in")
    unread: dict[str, int] = Field(description="rows by the members that no row has a place for; the 50 most frequent")
    stopped: bool = Field(description="whether a line that cannot be imported ended it, as `on_error=stop` asks")


class LossesOut(Given):
    """What a version's rows would lose in a format: `rows` = `written` + those that are left out."""

    rows: int
    written: int
    losses: dict[str, int] = Field(description="rows by what they lose, in the words of the documentation")
