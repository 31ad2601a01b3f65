"""Search, seen from the services: the one port with two engines behind it, Elasticsearch and an embedded index."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import msgspec

from tunemill.indexer.ast import Query, has_words
from tunemill.indexer.feedback import StoredFeedback
from tunemill.schemas.outcome import Written
from tunemill.schemas.records import Feedback, LogRecord, TaggedLog
from tunemill.schemas.stored import Stored, StoredLog, StoredNote

FACETS = ("tag", "app", "model", "provider", "language", "status", "finish", "feedback")
FACET_VALUES = 20  # of each, the most frequent
SEARCH_TIMEOUT_S = 10  # a search that takes longer is given up
SIMILAR_PARTS = ("prompt", "response")
SIMILAR_CHARACTERS = 20_000  # of a text are compared
SIMILAR_WORDS = 25  # of these, the most telling
SIMILAR_SHARE = 30  # percent of them that a log has, at least

Sort = Literal["relevance", "newest", "oldest", "cost", "latency", "length", "feedback"]
SORTS: tuple[Sort, ...] = get_args(Sort)
Fragment = tuple[tuple[str, bool], ...]  # pieces of plain text, and whether each matched


class Order(NamedTuple):
    """What hits are sorted by: those without a value come last, of equal ones the newest first, then the larger log_id."""

    field: str
    descending: bool


NEWEST = Order("ts", descending=True)
_ORDERS: Mapping[Sort, Order] = {
    "newest": NEWEST,
    "oldest": Order("ts", descending=False),
    "cost": Order("cost_usd", descending=True),
    "latency": Order("latency_ms", descending=True),
    "length": Order("chars", descending=True),
    "feedback": Order("score", descending=False),
}


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One page of a search."""

    query: Query
    limit: int = 20  # 0: counts only
    cursor: str | None = None  # of the page before, same query and sort
    sort: Sort = "relevance"  # without words in the query: newest
    counts: bool = True  # with facets and a histogram
    now_ms: int | None = None  # what `now` meant when the query was read; None: it does not matter

    @property
    def by_score(self) -> bool:
        """Whether hits come in order of relevance, and the newest first among equals."""
        return self.sort == "relevance" and has_words(self.query)

    @property
    def by_time(self) -> bool:
        """Whether hits come in the order of a key that never changes."""
        return not self.by_score and self.order.field == "ts"

    @property
    def order(self) -> Order:
        """The order of hits that are not sorted by relevance."""
        return _ORDERS.get(self.sort, NEWEST)


@dataclass(frozen=True, slots=True)
class Hit:
    """A log that matches."""

    log: TaggedLog
    score: float | None  # None when not sorted by relevance
    highlights: tuple[Fragment, ...]
    is_marked: bool = True  # False: there was no time to look for what matches in it


@dataclass(frozen=True, slots=True)
class FacetCount:
    """How many matching logs have this value."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many matching logs were made when, in buckets of one width; buckets that hold none are left out."""

    bucket_ms: int
    buckets: tuple[
        tuple[int, int], ...
    ]  # where it begins, a multiple of `bucket_ms`, and how many logs; the oldest first


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What a search found. `cursor` gets the next page; None: this is the last one."""

    total: int  # exact
    hits: tuple[Hit, ...]
    facets: Mapping[str, tuple[FacetCount, ...]]  # by name in FACETS: the most frequent values first
    histogram: Histogram | None  # None, and no facets: they were not asked for
    cursor: str | None
    point: str = ""  # the point in time that it is of, for a search that goes on in it


class Dumped(msgspec.Struct, frozen=True, gc=False):
    """A log as the engine keeps it."""

    log_id: str
    record: bytes  # the JSON of a TaggedLog


class Rebuilt(NamedTuple):
    """What became of the logs of an index that was made anew."""

    logs: int = 0  # that it holds
    changed: int = 0  # of them, other than they were
    left_out: int = 0


class Shelf(NamedTuple):
    """One of the indices that an engine spreads a project's logs over."""

    name: str
    logs: int
    bytes: int  # as in IndexSize
    newest_ms: int | None  # ts of its newest log; None: it is empty
    begun_ms: int
    is_filled: bool  # no new log goes into it


class IndexSize(NamedTuple):
    """How much an index holds."""

    logs: int
    bytes: int  # of these logs on the disk; what deleted ones still take is not counted


Change = Callable[
    [Sequence[TaggedLog]], Awaitable[Sequence[TaggedLog]]
]  # what becomes of logs, in order; some may be left out
Forget = Callable[[Sequence[str]], Awaitable[None]]  # is told of logs that are to go
Progress = Callable[[int], Awaitable[None]]  # is told how many logs more are done


class SearchIndex(Protocol):
    """An engine that makes tagged logs searchable. It fits the stream's `LogIndex`.

    Every method raises `IndexUnavailable` when the engine does not answer, and `IndexRefused` when it does not let us in;
    only what the stream needs waits for an engine that is away and goes on when it is back.
    """

    async def setup(self) -> None:
        """Make the index exist. Safe at every start and from several processes at once."""

    async def write(self, logs: Sequence[TaggedLog]) -> Sequence[Written]:
        """Store each log unless it is there, and say what became of each, in order (see `streams.ports.LogIndex`)."""

    async def stored(self, *, log_ids: Sequence[str], trace_ids: Sequence[str]) -> Stored:
        """These logs and the notes of these traces as they were written last (see `streams.ports.LogIndex`)."""

    async def replace(self, changed: Sequence[StoredLog]) -> Sequence[Written | None]:
        """Store another state of each log that still is as it was read; searchable after `refresh`."""

    async def put_notes(self, changed: Sequence[StoredNote]) -> Sequence[bool]:
        """Store another state of each note that still is as it was read."""

    async def add_feedback(self, items: Sequence[Feedback]) -> Sequence[Written]:
        """Store each; of two with one feedback_id the later one holds."""

    async def feedback_of(self, log: LogRecord) -> tuple[Feedback, ...]:
        """What was said about this log by its id, its answer's or its trace's, the oldest first; new ones after `refresh`."""

    async def feedback_of_each(self, logs: Sequence[LogRecord]) -> Sequence[tuple[Feedback, ...]]:
        """`feedback_of` each of these logs, in their order, in few requests."""

    async def due_feedback(self, *, now_ms: int, limit: int) -> Sequence[StoredFeedback]:
        """Feedback that may not have reached its log and is due by now, the longest due first; new ones after `refresh`."""

    async def put_off(self, changed: Sequence[StoredFeedback]) -> None:
        """Keep another time for each feedback that still is as it was read."""

    async def delete(self, log_ids: Sequence[str]) -> None:
        """Make these logs unfindable at once; ids that are not there are no error."""

    async def forget_said(self, about: Sequence[str]) -> None:
        """Forget what was said about these answers and traces (see `streams.ports.LogIndex`)."""

    async def traces_of(self, person: str) -> Sequence[str]:
        """The traces of which it was said that this is their user, session or metadata.subject, whether they have calls or not."""

    async def get(self, log_id: str) -> TaggedLog | None:
        """The log with this id as it was written last, findable by search or not yet."""

    async def search(self, request: SearchRequest) -> SearchPage:
        """One page of the logs that match. All pages that follow from one are of the same point in time.

        Raises:
            CursorInvalid: the cursor is not one of this search, or its point in time is over.
            SearchTooSlow: it took longer than SEARCH_TIMEOUT_S.
        """

    async def similar(self, text: str, *, limit: int) -> Sequence[Hit]:
        """The logs whose prompts and answers share most of the words that are telling in this text, the most alike first."""

    def scan(self, query: Query, *, limit: int | None) -> AsyncIterator[TaggedLog]:
        """All logs that match at one point in time, ordered by (ts_ms, log_id), at most `limit` of them."""

    def dump(self, query: Query) -> AsyncIterator[Sequence[Dumped]]:
        """All logs that match at one point in time, some at once, in no order: the fastest way to all of them."""

    async def refresh(self) -> None:
        """What was written before is findable by search and scan after."""

    async def expunge(self) -> None:
        """Overwrite on the disk what deleted logs and their feedback left there; it may take as long as `rebuild`."""

    async def rebuild(self, change: Change, *, progress: Progress) -> Rebuilt:
        """Make the index anew from its own logs, as today's layout has it, while it is searched and written.

        Args:
            change: what becomes of some logs, in order; those that it leaves out are not in the new index.
        """

    async def is_outdated(self) -> bool:
        """Whether its layout is not today's, so that searches miss what `rebuild` would have them find."""

    async def size(self) -> IndexSize:
        """How much it holds; what was written just now may not be counted."""

    async def shelves(self) -> Sequence[Shelf]:
        """What the logs are spread over, by its newest log, the one that is being filled last; none: all lie in one place."""

    async def roll_over(self) -> bool:
        """New logs go into another shelf from now on; False: they do not, because the engine has none, or no room."""

    async def drop_shelf(self, name: str, *, before: Forget) -> int:
        """Drop a filled shelf whole, with what was said of its logs; how many logs.

        Args:
            before: is told of all ids, some at a time, first.
        """

    async def ping(self) -> None:
        """Return if the engine answers."""

    async def close(self) -> None:
        """Let go of connections and files."""
