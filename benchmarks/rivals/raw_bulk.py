"""As fast as documents can be given to Elasticsearch: `_bulk` requests whose bytes lie ready in a file, several in flight.

    python raw_bulk.py ELASTICSEARCH_URL INDEX

Each line on stdin names a file. In it each body follows its length in 8 bytes.
"""

import asyncio
import sys
from pathlib import Path

import aiohttp

IN_FLIGHT = 3  # more brought nothing
_HEADERS = {"Content-Type": "application/x-ndjson"}


async def main(url: str, index: str) -> None:
    """Send every body of every file."""
    async with aiohttp.ClientSession() as session:
        while name := sys.stdin.readline().strip():  # nothing else is to be done meanwhile
            await _send(session, f"{url}/{index}/_bulk", Path(name))


async def _send(session: aiohttp.ClientSession, url: str, bodies: Path) -> None:
    with bodies.open("rb") as file:

        async def send() -> None:
            while length := int.from_bytes(file.read(8)):
                async with session.post(url, data=file.read(length), headers=_HEADERS) as reply:
                    if (await reply.json())["errors"]:
                        raise ValueError("Elasticsearch refused some of the documents")

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(send())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
