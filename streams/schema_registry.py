"""A Confluent schema registry as the stream asks it: schemas by their ids, which never change."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec
import structlog

from tunemill.schemas import wire
from tunemill.streams.confluent import Schemas, WriterSchema
from tunemill.streams.errors import RegistryAway, RegistryUnavailable

_TIMEOUT_S = 10.0
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # between tries: about a dozen seconds in all
_DEEPEST = 8  # references that refer to others
_UNKNOWN = "the schema registry does not know it"
_NO_URL = "the address of the schema registry is no URL of http or https"

log = structlog.get_logger()

T = TypeVar("T")


class _Reference(msgspec.Struct):
    subject: str
    version: int


class _Answer(msgspec.Struct, rename={"schema_type": "schemaType"}):
    schema: str
    schema_type: str = "AVRO"
    references: list[_Reference] | None = None


def checked_url(url: str) -> httpx.URL:
    """The address of a schema registry.

    Raises:
        RegistryUnavailable: it is no URL of http or https.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise RegistryUnavailable(_NO_URL) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise RegistryUnavailable(_NO_URL)
    return parsed


class SchemaRegistry:
    """Each schema is asked for once; one that the registry does not know is asked for again with the next batch."""

    def __init__(self, url: str, *, waits_s: Sequence[float] = _WAITS_S) -> None:
        """Ask nothing yet.

        Args:
            url: `http(s)://[user:password@]host:port`.
            waits_s: how long to wait before each further try during an outage.

        Raises:
            RegistryUnavailable: it is no such URL.
        """
        self._client = httpx.AsyncClient(base_url=checked_url(url), timeout=_TIMEOUT_S)
        self._waits_s = waits_s
        self._known: dict[int, WriterSchema | str] = {}

    async def look_up(self, ids: Iterable[int]) -> Schemas:
        """What the registry holds under these ids.

        Raises:
            RegistryUnavailable: it does not answer, or does not let us in.
        """
        found: dict[int, WriterSchema | str] = {}
        for number in sorted(ids):
            if number not in self._known:
                answer = await self._get(f"schemas/ids/{number}", _Answer)
                if answer is None:
                    found[number] = _UNKNOWN
                    continue
                self._known[number] = await self._read(answer)
            found[number] = self._known[number]
        return found

    async def ping(self) -> None:
        """Return if the registry answers.

        Raises:
            RegistryUnavailable: it does not.
        """
        await self._ask("subjects")

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()

    async def _read(self, answer: _Answer) -> WriterSchema | str:
        if answer.schema_type == "JSON":
            return WriterSchema(avro=None)
        if answer.schema_type != "AVRO":
            return "it is a schema of a type that is not read; Avro and JSON are"
        try:
            named = await self._referred(answer, _DEEPEST)
            return WriterSchema(avro=wire.parse_schema_text(answer.schema, named))
        except wire.WireError as error:
            return str(error)

    async def _referred(self, answer: _Answer, levels: int) -> Sequence[str]:
        """The texts of the schemas that this one refers to, each after those that it needs itself.

        Raises:
            WireError: one is not there, or they refer to one another without end.
        """
        texts: list[str] = []
        for reference in answer.references or ():
            path = f"subjects/{quote(reference.subject, safe='')}/versions/{reference.version}"
            told = await self._get(path, _Answer) if levels else None
            if told is None:
                raise wire.WireError("unknown_schema", "a schema that it refers to cannot be had")
            texts += [*await self._referred(told, levels - 1), told.schema]
        return list(dict.fromkeys(texts))

    async def _get(self, path: str, kind: type[T]) -> T | None:
        """What is at this path, or None when there is no such thing. What looks like an outage is tried again."""
        for wait_s in (*self._waits_s, None):
            try:
                answer = await self._ask(path)
                return None if answer is None else msgspec.json.decode(answer, type=kind)
            except msgspec.DecodeError as error:
                raise RegistryUnavailable("the schema registry's answer is none that we understand") from error
            except RegistryAway as error:
                log.warning("schema_registry_away", problem=str(error), again_in_s=wait_s)
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  spreads the workers
        raise AssertionError("the last try returns or raises")

    async def _ask(self, path: str) -> bytes | None:
        try:
            answer = await self._client.get(path)
        except httpx.TransportError as error:
            raise RegistryAway(f"the schema registry cannot be reached: {type(error).__name__}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_success:
            return answer.content
        told = f"the schema registry answered with status {answer.status_code}"
        passing = answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS
        raise RegistryAway(told) if passing else RegistryUnavailable(told)


@asynccontextmanager
async def opened_registry(url: str | None) -> AsyncIterator[SchemaRegistry | None]:
    """The registry at this address, or None without one."""
    registry = None if url is None else SchemaRegistry(url)
    try:
        yield registry
    finally:
        if registry is not None:
            await registry.close()
