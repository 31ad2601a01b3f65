"""`wrap(OpenAI(), producer)`: every chat completion is logged, and the application notices nothing.

The client is known by its shape alone, so one wrapper serves OpenAI, AsyncOpenAI, their Azure kin and whatever imitates them.
"""

import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tunemill.schemas.chunks import assemble
from tunemill.schemas.ids import new_id
from tunemill.sdk.context import Context, current, union
from tunemill.sdk.plain import plain
from tunemill.sdk.producer import Producer

LOGGER = logging.getLogger("tunemill.sdk")

_Client = TypeVar("_Client")


def wrap(client: _Client, producer: Producer, *, tags: Sequence[str] = ()) -> _Client:
    """Log every `client.chat.completions.create`, streamed or not, and return the same client.

    What the application gets is what OpenAI returned or raised. Calls made through `with_raw_response` and
    `with_streaming_response` can't be read and are counted as dropped. Clients made by `with_options` have to be wrapped
    themselves. Wrapping again replaces the producer and the tags.

    Args:
        tags: added to each log, `namespace:value`. For conversation, user and consent see `log_context`.

    Raises:
        AttributeError: the client has no `chat.completions.create`.
    """
    completions = client.chat.completions  # type: ignore[attr-defined]
    original = getattr(completions.create, "tunemill_original", completions.create)
    provider = _provider(client)

    def create(*args: Any, **request: Any) -> Any:
        call = Call(producer, request, provider, tags)
        try:
            result = original(*args, **request)
        except BaseException as error:
            call.failed(error)
            raise
        return _awaited(result, call) if inspect.isawaitable(result) else call.answered(result)

    create.tunemill_original = original  # type: ignore[attr-defined]
    completions.create = create
    return client


class Call:
    """One call that is under way. No method raises."""

    def __init__(self, producer: Producer, request: dict[str, Any], provider: str | None, tags: Sequence[str]) -> None:
        self._producer = producer
        self._provider = provider
        self._tags = tags
        self._context: Context = current()
        self._log_id = new_id()
        self._began = time.monotonic()
        self._ts_ms = int(time.time() * 1000)
        self._request: Any = None
        self._done = False
        self._given_up = False
        # A copy, because the application may go on with its list of messages before the answer is there.
        self._quietly(lambda: setattr(self, "_request", plain(request)))

    def answered(self, result: Any) -> Any:
        """Log the answer, or, of a stream, see to it that its end is logged. The result itself is returned."""
        self._quietly(lambda: self._read(result))
        return result

    def failed(self, error: BaseException) -> None:
        """Log that the call failed, by the error's type."""
        self._log(None, status="error", error=type(error).__name__)

    def _read(self, result: Any) -> None:
        if hasattr(result, "choices"):
            self._log(result)
        elif hasattr(result, "_iterator"):
            self._watch(result)
        else:
            self._producer.note_dropped(self._log_id, f"an answer of type {type(result).__name__} cannot be read")

    def _watch(self, stream: Any) -> None:
        """Look on while the application reads its stream; openai's stream classes read from `_iterator`."""
        chunks: list[Any] = []
        watch = self._watched_async if hasattr(stream, "__aiter__") else self._watched
        stream._iterator = watch(stream._iterator, chunks)
        _before(stream, "close", lambda: self._ended(chunks, early=True))

    def _watched(self, inner: Iterator[Any], chunks: list[Any]) -> Iterator[Any]:
        try:
            for chunk in inner:
                chunks.append(chunk)
                yield chunk
        except GeneratorExit:
            self._ended(chunks, early=True)
            raise
        except BaseException as error:
            self._ended(chunks, error=error)
            raise
        self._ended(chunks)

    async def _watched_async(self, inner: AsyncIterator[Any], chunks: list[Any]) -> AsyncIterator[Any]:
        try:
            async for chunk in inner:
                chunks.append(chunk)
                yield chunk
        except GeneratorExit:
            self._ended(chunks, early=True)
            raise
        except BaseException as error:
            self._ended(chunks, error=error)
            raise
        self._ended(chunks)

    def _ended(self, chunks: list[Any], *, error: BaseException | None = None, early: bool = False) -> None:
        """Log what came of a stream; one that the application left early says so in its metadata."""
        fields: dict[str, Any] = {"status": "error", "error": type(error).__name__} if error is not None else {}
        if early:
            fields["metadata"] = {"stream": "left early"}
        self._quietly(lambda: self._log(assemble(chunks), **fields))

    def _log(self, response: Any, **fields: Any) -> None:
        """Once: a stream can end in more than one way."""
        if self._done:
            return
        self._done = True
        self._quietly(
            lambda: self._producer.log_from(
                self._context,
                request=self._request,
                response=response,
                log_id=self._log_id,
                ts_ms=self._ts_ms,
                provider=self._provider,
                latency_ms=round((time.monotonic() - self._began) * 1000, 3),
                tags=union(self._tags, ()),
                **fields,
            )
        )

    def _quietly(self, step: Callable[[], object]) -> None:
        """Do it; a fault of ours is counted and named, and never the application's trouble."""
        try:
            step()
        except Exception as error:
            if self._given_up:
                return
            self._done = self._given_up = True
            self._producer.note_dropped(self._log_id, f"it could not be observed ({type(error).__name__})")


async def _awaited(result: Awaitable[Any], call: Call) -> Any:
    try:
        answer = await result
    except BaseException as error:
        call.failed(error)
        raise
    return call.answered(answer)


def _before(target: Any, name: str, first: Callable[[], None]) -> None:
    """Do something before a method of this one object."""
    original = getattr(target, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        first()
        return original(*args, **kwargs)

    setattr(target, name, method)


def _provider(client: Any) -> str | None:
    """Who answers: `openai`, or the host of another server that speaks its API."""
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname
    return "openai" if host == "api.openai.com" else host
