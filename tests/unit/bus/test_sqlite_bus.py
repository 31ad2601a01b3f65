"""What the file engine promises beyond the contract: crashes, and several topics read in turn."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tunemill.bus.errors import BusUnavailable, UnknownBusUrl
from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.schemas.topics import LOGS, REJECTED

ENDLESS_PUBLISHER = """
import asyncio, sys
from tunemill.bus.open import open_bus
from tunemill.bus.port import Outgoing
from tunemill.schemas.topics import LOGS

async def main(url):
    bus = open_bus(url)
    number = 0
    while True:
        await bus.publish(LOGS, [Outgoing(str(number + i).encode()) for i in range(3)])
        number += 3
        print(number, flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def test_nothing_acknowledged_is_lost_when_the_publisher_is_killed(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/bus.sqlite"
    for _ in range(3):
        acknowledged = killed_after(url, batches=20)
        bus = open_bus(url)
        async with bus.subscribe([LOGS], group=None) as subscription:
            found = await subscription.poll(max_messages=1000, timeout_s=0)
        await bus.close()
        assert acknowledged >= 60
        assert len(found) >= acknowledged
        assert len(found) % 3 == 0, "a batch is there as a whole or not at all"
        assert [message.offset for message in found] == list(range(len(found)))
        assert found[0].value == b"0"
        (tmp_path / "bus.sqlite").unlink()
        for rest in tmp_path.glob("bus.sqlite-*"):
            rest.unlink()


def killed_after(url: str, *, batches: int) -> int:
    """How many messages a publishing process had an answer for when it was killed with SIGKILL."""
    process = subprocess.Popen([sys.executable, "-c", ENDLESS_PUBLISHER, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in range(batches):
        process.stdout.readline()
    process.kill()
    rest = process.stdout.read()
    process.stdout.close()
    process.wait()
    complete = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return int(complete[-1]) if complete else 3 * batches


async def test_a_file_from_before_there_were_headers_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "bus.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript("""
        CREATE TABLE messages (topic TEXT NOT NULL, offset INTEGER NOT NULL, key TEXT, value BLOB NOT NULL,
            ts_ms INTEGER NOT NULL, PRIMARY KEY (topic, offset));
        INSERT INTO messages VALUES ('llm.logs', 0, 'k', x'61', 5);
        """)
    buses = [open_bus(f"sqlite:{path}") for _ in range(3)]
    await asyncio.gather(*(bus.ping() for bus in buses))  # all at once: each finds the column or adds it
    await buses[0].publish(LOGS, [Outgoing(b"b", headers={"a": "1"})])
    found = await buses[1].tail(LOGS, limit=9)
    for bus in buses:
        await bus.close()
    assert [(message.offset, message.key, message.value, message.headers) for message in found] == [
        (1, None, b"b", {"a": "1"}),
        (0, "k", b"a", {}),
    ]


async def test_a_full_topic_does_not_starve_another(tmp_path: Path) -> None:
    bus = open_bus(f"sqlite:{tmp_path}/bus.sqlite")
    await bus.publish(LOGS, [Outgoing(b"x") for _ in range(100)])
    await bus.publish(REJECTED, [Outgoing(b"y")])
    async with bus.subscribe([LOGS, REJECTED], group=None) as subscription:
        polls = [await subscription.poll(max_messages=10, timeout_s=0) for _ in range(2)]
    await bus.close()
    assert {message.topic for poll in polls for message in poll} == {LOGS.name, REJECTED.name}


async def test_a_poll_of_large_messages_stops_early_and_goes_on_later(tmp_path: Path) -> None:
    bus = open_bus(f"sqlite:{tmp_path}/bus.sqlite")
    for _ in range(12):
        await bus.publish(LOGS, [Outgoing(b"x" * LOGS.max_message_bytes)])
    async with bus.subscribe([LOGS], group=None) as subscription:
        sizes = [len(await subscription.poll(max_messages=100, timeout_s=0)) for _ in range(3)]
    await bus.close()
    assert sizes == [8, 4, 0]


async def test_a_file_that_is_no_bus_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "bus.sqlite").write_text("this is a letter, not a database, and long enough to be looked at" * 20)
    bus = open_bus(f"sqlite:{tmp_path}/bus.sqlite")
    with pytest.raises(BusUnavailable, match=r"bus\.sqlite cannot be used .*check its folder"):
        await bus.ping()
    await bus.close()


@pytest.mark.parametrize(
    "url", ["", "sqlite:", "redis://127.0.0.1", "kafka:127.0.0.1:9092", "/var/lib/bus.sqlite", "kafka:u:sesame@h:9"]
)
def test_a_url_that_names_no_engine_is_refused(url: str) -> None:
    with pytest.raises(UnknownBusUrl, match="sqlite:<file> or kafka://") as caught:
        open_bus(url)
    assert "sesame" not in str(caught.value)
