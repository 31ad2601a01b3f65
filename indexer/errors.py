"""What can go wrong with the index.

SearchIndexError
├── QueryError         the client's fault: the search text is not in the query language
├── CursorInvalid      the client's fault: not a cursor of this search, or one whose point in time is over
├── SearchTooSlow      the client's fault: the search takes longer than any may
├── IndexUnavailable   the engine does not answer: try again
├── IndexRefused       the operator's fault: the engine does not let us in, or the folder is in use
└── UnknownIndexUrl    the operator's fault: no engine speaks this URL
"""


class SearchIndexError(Exception):
    """Something went wrong with the index."""


class QueryError(SearchIndexError):
    """A search text that is not in the query language.

    Attributes:
        column: where, counted in characters from 1.
        found: what stands there.
        expected: what could stand there.
    """

    def __init__(self, column: int, found: str, expected: str) -> None:
        super().__init__(f"column {column}: found {found}, expected {expected}")
        self.column = column
        self.found = found
        self.expected = expected


class CursorInvalid(SearchIndexError):
    """A cursor that this search did not give, or whose point in time is over: search again without it."""


class SearchTooSlow(SearchIndexError):
    """A search that was given up because it took too long."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"the search took longer than {limit_s} s and was given up: make it narrower, "
            "with fewer words or beginnings (`word*`), or with a field or a time beside them"
        )


class IndexUnavailable(SearchIndexError):
    """The engine does not answer; the same call may succeed later."""


class IndexRefused(SearchIndexError):
    """The engine does not let us in; asking again cannot help until a person acts."""


class UnknownIndexUrl(SearchIndexError):
    """No engine speaks this URL."""
