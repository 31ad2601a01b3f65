"""One call of a model that is under way, as `wrap` sees it: what was asked, and what becomes of it."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec

from tunemill.schemas.chunks import StreamedAnswer
from tunemill.schemas.ids import new_id
from tunemill.sdk.context import Context, current
from tunemill.sdk.entry import as_sent
from tunemill.sdk.plain import snapshot
from tunemill.sdk.producer import Producer

_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Call:
    """No method raises."""

    def __init__(
        self, producer: Producer, request: dict[str, Any], provider: str | None, tags: tuple[str, ...]
    ) -> None:
        self._producer = producer
        self._provider = provider
        self._tags = tags
        self._context: Context = current()
        self._log_id = new_id()
        self._began = time.perf_counter()
        self._ts_ms = int(time.time() * 1000)
        self._request: msgspec.Raw | None = None
        self._is_done = False
        self._quietly(lambda: self._ask(request))

    def answered(self, result: Any) -> Any:
        """Log the answer, or, of a stream, see to it that its end is logged. The result itself is returned."""
        self._quietly(lambda: self._read(result))
        return result

    def failed(self, error: BaseException) -> None:
        """Log that the call failed, by the error's type."""
        self._log(None, error=type(error).__name__)

    def _ask(self, request: dict[str, Any]) -> None:
        """Encoded at once: the application may go on with its list of messages before the answer is there."""
        self._request = msgspec.Raw(snapshot(as_sent(request)))

    def _read(self, result: Any) -> None:
        if hasattr(result, "choices") or hasattr(result, "output"):
            self._log(result)
        elif hasattr(result, "_iterator"):
            self._watch(result)
        elif hasattr(result, "http_response") and callable(getattr(result, "parse", None)):
            self._read_raw(result)
        else:
            self._drop(f"an answer of type {type(result).__name__} cannot be read")

    def _read_raw(self, raw: Any) -> None:
        """Of `with_raw_response`: a whole answer lies in memory as it came; a stream begins when the application parses it."""
        if not getattr(raw, "_stream", False):
            self._log(msgspec.Raw(msgspec.json.encode(msgspec.json.decode(raw.http_response.content))))
            return
        parse = raw.parse

        def parsed(*args: Any, **kwargs: Any) -> Any:
            stream = parse(*args, **kwargs)
            if hasattr(stream, "_iterator") and not self._is_done:
                raw.parse = parse
                self._quietly(lambda: self._watch(stream))
            return stream

        raw.parse = parsed

    def _watch(self, stream: Any) -> None:
        """Look on while the application reads its stream; openai's stream classes read from `_iterator`."""
        watch = self._watched_async if hasattr(stream, "__aiter__") else self._watched
        answer = _Pieces()
        stream._iterator = watch(stream._iterator, answer)
        _before(stream, "close", lambda: self._ended(answer, early=True))

    def _watched(self, inner: Iterator[Any], answer: "_Pieces") -> Iterator[Any]:
        try:
            for piece in inner:
                self._quietly(lambda piece=piece: answer.add(piece))  # type: ignore[misc]
                yield piece
        except GeneratorExit:
            self._ended(answer, early=True)
            raise
        except BaseException as error:
            self._ended(answer, error=error)
            raise
        self._ended(answer)

    async def _watched_async(self, inner: AsyncIterator[Any], answer: "_Pieces") -> AsyncIterator[Any]:
        try:
            async for piece in inner:
                self._quietly(lambda piece=piece: answer.add(piece))  # type: ignore[misc]
                yield piece
        except GeneratorExit:
            self._ended(answer, early=True)
            raise
        except BaseException as error:
            self._ended(answer, error=error)
            raise
        self._ended(answer)

    def _ended(self, answer: "_Pieces", *, error: BaseException | None = None, early: bool = False) -> None:
        """Log what came of a stream; one that the application left early says so in its metadata."""
        fields: dict[str, Any] = {"error": type(error).__name__} if error is not None else {}
        if early:
            fields["metadata"] = {"stream": "left early"}
        self._quietly(lambda: self._log(answer.whole(), **fields))

    def _log(self, response: Any, **fields: Any) -> None:
        """Once: a stream can end in more than one way."""
        if self._is_done:
            return
        self._is_done = True
        told = {
            "request": self._request,
            "response": response,
            "log_id": self._log_id,
            "ts_ms": self._ts_ms,
            "provider": self._provider,
            "latency_ms": round((time.perf_counter() - self._began) * 1000, 3),
            "tags": self._tags,
            **fields,
        }
        self._quietly(lambda: self._producer.log_from(self._context, told))

    def _drop(self, reason: str) -> None:
        self._is_done = True
        self._producer.note_dropped(self._log_id, reason)

    def _quietly(self, step: Callable[[], object]) -> None:
        """Do it; a fault of ours is counted and named, and never the application's trouble."""
        try:
            step()
        except Exception as error:
            if not self._is_done:
                self._drop(f"it could not be observed ({type(error).__name__})")


class _Pieces:
    """A streamed answer: of chat completions put together piece by piece, of the Responses API its events."""

    def __init__(self) -> None:
        self._answer = StreamedAnswer()
        self._events: list[Any] = []
        self._response: Any = None

    def add(self, piece: Any) -> None:
        if hasattr(piece, "choices"):
            self._answer.add(piece)
        elif getattr(piece, "type", None) in _LAST_EVENTS:
            self._response = piece.response
        else:
            self._events.append(piece)

    def whole(self) -> Any:
        """The answer; of a stream that ended before its last event, which tells all, the events."""
        return self._response or self._events or self._answer.whole()


def _before(target: Any, name: str, first: Callable[[], None]) -> None:
    """Do something before a method of this one object."""
    original = getattr(target, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        first()
        return original(*args, **kwargs)

    setattr(target, name, method)
