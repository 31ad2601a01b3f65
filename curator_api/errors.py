"""What can go wrong at the API, and what a client is told.

CuratorError
├── ClientError          the caller's fault: 4xx
│   ├── BadRequest       400  the request cannot be read
│   │   └── TooDeep           arrays and objects inside one another, further than anybody needs
│   ├── BadQuery         400  a search text that is not in the query language; `column` says where
│   ├── Unauthorised     401  no key, or not one of ours
│   ├── Forbidden        403  a page of another site tries to act here
│   ├── NotFound         404  no such log, dataset, version, row or run
│   ├── Exists           409  a dataset of this name is there already
│   ├── InUse            409  a draft or another saved search names this one
│   ├── Unchanged        409  publishing would repeat the latest version
│   ├── PublishedMeanwhile 409  somebody else published a version of this dataset while this one was made
│   ├── VersionRedacted  409  the version is not what it was: erased rows were taken out of it
│   ├── Finished         409  the run, or the job, is over
│   ├── UnderWay         409  the run, or the job, is still running
│   ├── GateNotPassed    409  the run's result was rejected, and nobody said why it should be used all the same
│   ├── NoModel          409  the run left nothing that could be used
│   ├── CannotBeUndone   409  what the job did is done for good
│   ├── TotalChanged     409  another number of logs matches than when they were counted
│   ├── RulesChanged     409  other rules are in force than those that yours were made from
│   ├── EditedMeanwhile  409  somebody else edited the log since it was looked at
│   ├── TooLarge         413  the body, one record in it, or the number of its records
│   ├── UnknownEncoding  415  the body is compressed in a way that is not known here
│   └── Unprocessable    422  readable, but it cannot be done
│       ├── InvalidRecipe    a dataset's recipe that cannot be followed; `place` says where
│       ├── InvalidRow       a row that cannot be trained on as it is
│       ├── InvalidEdit      messages that cannot stand in place of a log's own
│       ├── InvalidRules     rules that cannot be put in force; `errors` says what is wrong, by line and column
│       └── EmptyDataset     nothing is left after the exclusions
├── TooSlow              504  a search that was given up because it took too long
├── Unavailable          503  something we depend on does not answer: try again
└── DamagedFile          500  a version's file is gone, or not what its name promises

The class decides the status. `detail` is for a person: it names the place and the remedy, and never holds log text.
"""

from collections.abc import Mapping


class CuratorError(Exception):
    """Something went wrong at the API. `more` are further members of the problem document (RFC 9457 section 3.2)."""

    status = 500
    code = "internal"

    def __init__(self, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.more: Mapping[str, object] = more


class ClientError(CuratorError):
    """The caller's fault; the same request fails again."""

    status = 400
    code = "bad-request"


class BadRequest(ClientError):
    """The request cannot be read."""


class TooDeep(BadRequest):
    """Arrays and objects lie inside one another, further than anybody needs."""

    code = "too-deep"


class BadQuery(ClientError):
    """A search text that is not in the query language."""

    code = "bad-query"


class Unauthorised(ClientError):
    """No key came with the request, or not one of ours."""

    status = 401
    code = "unauthorised"


class Forbidden(ClientError):
    """A page of another site tries to act here."""

    status = 403
    code = "forbidden"


class NotFound(ClientError):
    """No such log, dataset, version, row, run, revision of the rules or job."""

    status = 404
    code = "not-found"


class Exists(ClientError):
    """A dataset of this name is there already."""

    status = 409
    code = "exists"


class InUse(ClientError):
    """A draft or another saved search names this saved search; `datasets` and `searches` say which."""

    status = 409
    code = "in-use"


class Unchanged(ClientError):
    """The draft holds exactly what the latest version holds."""

    status = 409
    code = "unchanged"


class PublishedMeanwhile(ClientError):
    """Somebody else published a version of this dataset while this one was made."""

    status = 409
    code = "published-meanwhile"


class VersionRedacted(ClientError):
    """The version is not what it was when this was begun: erased rows were taken out of it."""

    status = 409
    code = "version-redacted"


class Finished(ClientError):
    """The run, or the job, is over."""

    status = 409
    code = "finished"


class UnderWay(ClientError):
    """The run, or the job, is still running."""

    status = 409
    code = "under-way"


class GateNotPassed(ClientError):
    """A gate rejected the run's result, and no reason was given why it should be used all the same."""

    status = 409
    code = "gate-not-passed"


class NoModel(ClientError):
    """The run left nothing that could be used; `status_of_run` says how it is."""

    status = 409
    code = "no-model"


class CannotBeUndone(ClientError):
    """What the job did is done for good: nothing is left of an erased log that could be put back."""

    status = 409
    code = "cannot-be-undone"


class TotalChanged(ClientError):
    """Another number of logs matches than was expected; `total` says how many do."""

    status = 409
    code = "total-changed"


class RulesChanged(ClientError):
    """Other rules are in force than those that were expected; `revision` says which."""

    status = 409
    code = "rules-changed"


class EditedMeanwhile(ClientError):
    """Somebody edited the log since the revision that was expected; `revision` is the last one."""

    status = 409
    code = "edited-meanwhile"


class TooLarge(ClientError):
    """The body, or one record in it, is larger than the server takes, or it has too many records."""

    status = 413
    code = "too-large"


class UnknownEncoding(ClientError):
    """The body is compressed in a way that is not known here."""

    status = 415
    code = "unknown-encoding"


class Unprocessable(ClientError):
    """Readable, but it cannot be done."""

    status = 422
    code = "unprocessable"


class InvalidRecipe(Unprocessable):
    """A dataset's recipe that cannot be followed; `place` says where in it."""

    code = "invalid-recipe"


class InvalidRow(Unprocessable):
    """A row that cannot be trained on as it is."""

    code = "invalid-row"


class InvalidEdit(Unprocessable):
    """Messages that cannot stand in place of a log's own."""

    code = "invalid-edit"


class InvalidRules(Unprocessable):
    """Rules that cannot be put in force; `errors` holds everything that is wrong: line, column, rule, reason."""

    code = "invalid-rules"


class EmptyDataset(Unprocessable):
    """Nothing is left after the exclusions; `matched` and `excluded` say why."""

    code = "empty-dataset"


class TooSlow(CuratorError):
    """A search that was given up because it took too long: a narrower one may be answered."""

    status = 504
    code = "search-too-slow"


class Unavailable(CuratorError):
    """Something we depend on does not answer; the same request may succeed later."""

    status = 503
    code = "unavailable"


class DamagedFile(CuratorError):
    """A file of a published version is not there, or its bytes are not those that its name promises."""

    code = "damaged-file"
