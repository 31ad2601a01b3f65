"""`wrap(OpenAI(), producer)`: every call of a model is logged, and the application notices nothing.

The client is known by its shape alone, so one wrapper serves OpenAI, AsyncOpenAI, their Azure kin and whatever imitates them.
"""

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tunemill.sdk.call import Call
from tunemill.sdk.producer import Producer

_Client = TypeVar("_Client")


def wrap(client: _Client, producer: Producer, *, tags: str | Sequence[str] = ()) -> _Client:
    """Log every `chat.completions` and `responses` call of a client, streamed or not, and return the same client.

    What the application gets is what OpenAI returned or raised. Copies that `with_options` makes are wrapped, too. Of
    `with_streaming_response` nothing can be read: such calls are counted as dropped. Wrapping again replaces the
    producer and the tags.

    Args:
        tags: added to each log, `namespace:value`, one or several. For conversation, user and consent see `log_context`.

    Raises:
        AttributeError: the client has no `chat.completions.create`.
    """
    logged = _Logged(producer, _provider(client), (tags,) if isinstance(tags, str) else tuple(tags))
    logged.replace(client.chat.completions, "create", "parse")  # type: ignore[attr-defined]
    older = getattr(getattr(getattr(client, "beta", None), "chat", None), "completions", None)
    if hasattr(older, "parse"):
        logged.replace(older, "create", "parse")
    responses = getattr(client, "responses", None)  # not every imitation has them
    if hasattr(responses, "create"):
        logged.replace(responses, "create", "parse")
    _wrap_copies(client, producer, tags)
    return client


class _Logged:
    """What all calls of one client share."""

    def __init__(self, producer: Producer, provider: str | None, tags: tuple[str, ...]) -> None:
        self._producer = producer
        self._provider = provider
        self._tags = tags

    def replace(self, resource: Any, *names: str) -> None:
        """Put logging around these methods of a resource, where it has them."""
        # `stream` calls `create`; `with_raw_response` keeps the methods that it found, so it has to look again.
        with contextlib.suppress(AttributeError):
            vars(resource).pop("with_raw_response", None)
            vars(resource).pop("with_streaming_response", None)
        for name in names:
            method = getattr(resource, name, None)
            if method is not None:
                setattr(resource, name, self._around(getattr(method, "tunemill_original", method)))

    def _around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)  # some programs look at what they call
        def method(*args: Any, **request: Any) -> Any:
            call = Call(self._producer, request, self._provider, self._tags)
            try:
                result = original(*args, **request)
            except BaseException as error:
                call.failed(error)
                raise
            return _awaited(result, call) if inspect.isawaitable(result) else call.answered(result)

        @functools.wraps(original)  # some programs ask what kind of function it is
        async def async_method(*args: Any, **request: Any) -> Any:
            return await method(*args, **request)

        same_kind: Callable[..., Any] = async_method if inspect.iscoroutinefunction(original) else method
        same_kind.tunemill_original = original  # type: ignore[attr-defined]
        return same_kind


async def _awaited(result: Awaitable[Any], call: Call) -> Any:
    try:
        answer = await result
    except BaseException as error:
        call.failed(error)
        raise
    return call.answered(answer)


def _wrap_copies(client: Any, producer: Producer, tags: str | Sequence[str]) -> None:
    for name in ("copy", "with_options"):
        method = getattr(client, name, None)
        if method is not None:
            setattr(client, name, _wrapping(getattr(method, "tunemill_original", method), producer, tags))


def _wrapping(copy: Callable[..., Any], producer: Producer, tags: str | Sequence[str]) -> Callable[..., Any]:
    @functools.wraps(copy)
    def method(*args: Any, **kwargs: Any) -> Any:
        return wrap(copy(*args, **kwargs), producer, tags=tags)

    method.tunemill_original = copy  # type: ignore[attr-defined]
    return method


def _provider(client: Any) -> str | None:
    """Who answers: `openai`, or the host of another server that speaks its API."""
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname
    return "openai" if host == "api.openai.com" else host
