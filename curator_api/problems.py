"""Errors as problem documents (RFC 9457): one shape for every failure, whatever raised it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tunemill.bus.errors import BusUnavailable, MessageTooLarge
from tunemill.curator_api import otlp_answer
from tunemill.curator_api.draft import bad_query
from tunemill.curator_api.errors import BadRequest, CuratorError, TooLarge, TooSlow, Unavailable, Unprocessable
from tunemill.indexer.errors import CursorInvalid, IndexRefused, IndexUnavailable, QueryError, SearchTooSlow

MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger()


class Problem(BaseModel):
    """A problem document (RFC 9457); some problems have further members, such as `column` of a query that cannot be read."""

    model_config = {"extra": "allow"}

    type: str = Field(description="urn:tunemill:problem:<code>", examples=["urn:tunemill:problem:not-found"])
    title: str
    status: int
    detail: str = Field(description="For a person: what is wrong, where, and what to do.")


PROBLEM: Mapping[str, Any] = {"model": Problem, "content": {MEDIA_TYPE: {}}}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that an endpoint may answer with besides those of every endpoint, for OpenAPI."""
    return {status: {**PROBLEM, "description": _TITLES[status]} for status in statuses}


EVERYWHERE = (400, 401, 403, 413, 415, 500, 503)  # what any request may be answered with: see `guard`
RETRY_AFTER_S = 5

_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},  # a challenge for Basic would make browsers ask for a name and a password
    415: {"Accept-Encoding": "gzip, zstd, deflate"},
    503: {"Retry-After": str(RETRY_AFTER_S)},
}

_TITLES = {
    400: "The request cannot be read",
    401: "No key, or not one of ours",
    403: "Not from here",
    404: "Not found",
    405: "Not a method of this address",
    409: "It conflicts with what is there",
    413: "Too large",
    415: "Compressed in a way that is not known here",
    422: "It cannot be done",
    500: "An error of ours",
    503: "Something does not answer; try again",
    504: "It took too long",
}

_TRANSLATED: Mapping[type[Exception], Callable[[Any], CuratorError]] = {
    QueryError: bad_query,
    CursorInvalid: lambda _error: BadRequest(
        "the cursor is not one of this search, or too old: search again without it"
    ),
    SearchTooSlow: lambda error: TooSlow(str(error)),
    IndexUnavailable: lambda _error: Unavailable("the search index does not answer: try again"),
    IndexRefused: lambda _error: Unavailable("the search index refuses us: its operator must look"),
    BusUnavailable: lambda _error: Unavailable("the message bus does not answer: nothing was accepted, send it again"),
    MessageTooLarge: lambda _error: TooLarge("one record is larger than the bus takes; nothing was accepted"),
    OperationalError: lambda _error: Unavailable("the registry's database does not answer: try again"),
    PoolTimeout: lambda _error: Unavailable("too many requests wait for the registry's database: try again"),
    DataError: lambda _error: Unprocessable("a value that was sent cannot be stored: a NUL character, or too long"),
    InterfaceError: lambda _error: Unavailable("the registry's database does not answer: try again"),
}


def translated(error: Exception) -> CuratorError | None:
    """The client's answer to an error of something that we depend on; None if it is not one that we know."""
    kind = next((kind for kind in type(error).__mro__ if kind in _TRANSLATED), None)
    return None if kind is None else _TRANSLATED[kind](error)


def install(app: FastAPI) -> None:
    """Answer every error of this application with a problem document."""
    app.add_exception_handler(CuratorError, _answered)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    for kind in _TRANSLATED:
        app.add_exception_handler(kind, _answered)


def answer_to(error: Exception, scope: Scope) -> Response:
    """The answer to any error, as the client of this request reads it."""
    known = error if isinstance(error, CuratorError) else translated(error)
    problem = unexpected(error) if known is None else known
    encoding = otlp_answer.encoding_of(scope)
    if encoding is not None:
        return otlp_answer.refused(problem.status, problem.detail, _HEADERS.get(problem.status, {}), encoding)
    return _response(problem)


def _response(error: CuratorError) -> Response:
    """The problem document of an error."""
    return _document(error.status, error.code, error.detail, error.more, _HEADERS.get(error.status, {}))


def unexpected(error: Exception) -> CuratorError:
    """What a client is told of an error of ours. The log line names its kind and place; its message might hold log text."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_globals.get('__name__')}:{place.tb_lineno}" if place else None
    _log.error("request_failed", error=type(error).__name__, where=where)
    return CuratorError("an error of ours; the server's log names it")


async def _answered(request: Request, error: Exception) -> Response:
    return answer_to(error, request.scope)


async def _validation_error(_request: Request, error: Exception) -> Response:
    """What is wrong and where; never the values that were sent."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [{"where": _where(item), "reason": _reason(item)} for item in found[:20]]
    if any(item["type"] == "json_invalid" for item in found):
        return _response(BadRequest("the body is not JSON"))
    return _response(Unprocessable(explained(found), errors=errors))


def explained(found: Sequence[Mapping[str, Any]]) -> str:
    """The first errors of a validation as one sentence."""
    return "; ".join(": ".join(filter(None, (_where(item), _reason(item)))) for item in found[:3])


def _where(item: Mapping[str, Any]) -> str:
    return ".".join(str(step) for step in item["loc"])


def _reason(item: Mapping[str, Any]) -> str:
    return str(item["msg"]).removeprefix("Value error, ")


async def _http_error(_request: Request, error: Exception) -> Response:
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    title = _TITLES.get(status, "Error")
    return _document(status, title.lower().replace(" ", "-").replace(",", ""), title, {}, headers or {})


def _document(status: int, code: str, detail: str, more: Mapping[str, object], headers: Mapping[str, str]) -> Response:
    title = _TITLES.get(status, "Error")
    problem = {"type": f"urn:tunemill:problem:{code}", "title": title, "status": status, "detail": detail}
    return Response(msgspec.json.encode({**more, **problem}), status, dict(headers), MEDIA_TYPE)
