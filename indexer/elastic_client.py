"""The connection to Elasticsearch, and what its exceptions mean to us."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import msgspec
from elastic_transport import ApiError, Serializer, TransportError
from elastic_transport import SerializationError as TransportSerializationError
from elasticsearch import AsyncElasticsearch

from tunemill.indexer.errors import IndexRefused, IndexUnavailable, SearchIndexError
from tunemill.indexer.outcome import Verdict, verdict_on

REQUEST_TIMEOUT_S = 30.0  # with the longest wait before it is asked again, less than the worker takes for a stall
MIMETYPE = "application/vnd.elasticsearch+json"
LINES_MIMETYPE = "application/vnd.elasticsearch+x-ndjson"

_decoder: ContextVar[msgspec.json.Decoder[Any] | None] = ContextVar("answers_as", default=None)


class MsgspecSerializer(Serializer):
    """JSON by msgspec, several times faster than the client's own."""

    mimetype = MIMETYPE

    def dumps(self, data: Any) -> bytes:
        """A request's body."""
        return data if isinstance(data, bytes) else msgspec.json.encode(data)

    def loads(self, data: bytes) -> Any:
        """An answer's body, as `answers_as` wants it; one of another shape, such as an error, as plain values."""
        try:
            if (decoder := _decoder.get()) is not None:
                with suppress(msgspec.ValidationError):
                    return decoder.decode(data)
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TransportSerializationError(message="the answer is not JSON", errors=(error,)) from error


class LinesSerializer(Serializer):
    """The lines of a `_bulk` request, which are bytes already: the client's own takes them apart and joins them again."""

    mimetype = LINES_MIMETYPE

    def dumps(self, data: bytes) -> bytes:
        """A request's body."""
        return data


def connect(url: str) -> AsyncElasticsearch:
    """A client that asks once: retries are ours, because a half-done bulk request must be looked at item by item.

    No compression: on a local network it costs the client far more than it saves.
    """
    return AsyncElasticsearch(
        url,
        request_timeout=REQUEST_TIMEOUT_S,
        max_retries=0,
        retry_on_timeout=False,
        http_compress=False,
        serializers={
            MIMETYPE: MsgspecSerializer(),
            "application/json": MsgspecSerializer(),  # as proxies name it
            LINES_MIMETYPE: LinesSerializer(),
        },
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for the client's.

    Raises:
        IndexRefused: 401 or 403.
        IndexUnavailable: no answer, 429, 5xx, or there is no index yet.
        SearchIndexError: anything else; a mistake of ours.
    """
    try:
        yield
    except ApiError as error:
        raise _for_answer(error) from error
    except (TransportError, TransportSerializationError) as error:
        raise IndexUnavailable(f"Elasticsearch does not answer ({type(error).__name__})") from error


@contextmanager
def answers_as(decoder: msgspec.json.Decoder[Any]) -> Iterator[None]:
    """Within this block and task, the body of an answer is decoded to a type, without a tree of dicts in between."""
    before = _decoder.set(decoder)
    try:
        yield
    finally:
        _decoder.reset(before)


def error_type(error: ApiError) -> str:
    """The kind of error that an answer names, or nothing."""
    body = error.body
    details = body.get("error") if isinstance(body, dict) else None
    return str(details.get("type", "")) if isinstance(details, dict) else ""


def _for_answer(error: ApiError) -> SearchIndexError:
    status, kind = error.meta.status, error_type(error)
    match verdict_on(status, kind):
        case Verdict.REFUSED:
            return IndexRefused(f"Elasticsearch answered {status}: check the user and password in the index URL")
        case Verdict.RETRY:
            return IndexUnavailable(f"Elasticsearch answered {status} {kind}")
        case Verdict.NO_INDEX:
            return IndexUnavailable("the index does not exist yet: it is made when a service starts")
        case _:
            return SearchIndexError(f"Elasticsearch answered {status} {kind}")
