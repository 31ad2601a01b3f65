"""A way to an engine that can be cut and mended, so that one process sees an outage of an engine that others share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Wire:
    """A port of this machine that leads to the engine."""

    def __init__(self, engine_url: str) -> None:
        address = urlsplit(engine_url)
        self._engine = (address.hostname, address.port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection(*self._engine)
            self._open |= {writer, back}
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
            self._open -= {writer, back}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def wire_to(engine_url: str) -> AsyncIterator[Wire]:
    """A wire that is whole at first."""
    wire = Wire(engine_url)
    await wire.mend()
    try:
        yield wire
    finally:
        await wire.cut()
