"""What goes over HTTP of searches: what is asked for, hits, counts, and logs that are alike or near one another."""

from typing import Annotated, Literal

from pydantic import Field

from tunemill.curator_api.payloads import Given, SearchText, Storable, Taken
from tunemill.indexer.cursor import LONGEST
from tunemill.indexer.search import Sort

Match = Literal["all", "any"]

MOST_HITS = 200
MOST_FIELDS = 50

Cursor = Annotated[str, Field(max_length=LONGEST), Storable]


class SearchIn(Taken):
    """A page of a search."""

    q: SearchText = Field("", examples=['"long division" tag:topic:math -lang:de'])
    limit: int = Field(20, ge=0, le=MOST_HITS)
    cursor: Cursor | None = None
    sort: Sort = "relevance"
    match: Match = Field(
        "any", description="by relevance: `any`: after the logs with all words those with some; `all`: only the former"
    )
    fields: list[str] | None = Field(
        None,
        max_length=MOST_FIELDS,
        description="members of a hit, or of a log, that each hit is to have and no others",
    )
    counts: bool = Field(True, description="with facets and a histogram")


class HitOut(Given):
    """A log that matches; `prompt` and `answer` are cut to 2,000 characters."""

    log_id: str
    ts_ms: int
    app: str | None
    model: str | None
    language: str | None
    status: str
    tags: list[str]
    prompt: str | None = Field(description="what the user said last")
    answer: str | None
    score: float | None
    highlights: list[list[tuple[str, bool]]] = Field(description="pieces of plain text, and whether each matched")


class FoundOut(HitOut):
    """A log that a search found."""

    match: Match = Field(description="whether it has all words of the search, or some")


class FacetOut(Given):
    """How many matching logs have this value."""

    value: str
    count: int


class HistogramOut(Given):
    """How many matching logs were made when; buckets that hold none are left out."""

    bucket_ms: int
    buckets: list[tuple[int, int]] = Field(
        description="where each begins, in milliseconds since the epoch, and its logs"
    )


class WiderOut(Given):
    """A search for one of the words, where it finds more."""

    q: str
    total: int = Field(description="how many logs more")


class SearchOut(Given):
    """One page of a search."""

    total: int = Field(description="logs with all words; facets and histogram count these, too")
    hits: list[FoundOut] = Field(description="with `fields`: objects of these members")
    facets: dict[str, list[FacetOut]]
    histogram: HistogramOut | None
    cursor: str | None = Field(description="gets the next page, of the same point in time; null: this is the last one")
    unmarked: int = Field(
        description="hits without highlights because there was no time to look for them: search for fewer words"
    )
    wider: WiderOut | None = Field(
        description="logs that have some of the words and not all: known from the page on that ends those with all"
    )


class NearDuplicateOut(Given):
    """A log that says nearly the same."""

    log_id: str
    similarity: float = Field(description="about the share of pairs of words that both have: 0.8 to 1")


class SimilarOut(Given):
    """Logs that are alike, the most alike first."""

    similar: list[HitOut]
    near_duplicates: list[NearDuplicateOut] = Field(description="of a log; of a text there are none")
