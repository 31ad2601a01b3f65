"""Logs that wait on disk: the receiver away, the process killed, the disk full, two processes in one folder."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from engines.process import free_port
from fakes.http_server import Answer, Asked, Server, json_answer, serving

from tunemill.schemas.packing import split
from tunemill.schemas.records import LogRecord
from tunemill.sdk import BadPolicy, Producer, Stats
from tunemill.sdk.backlog import Backlog
from tunemill.sdk.buffer import Buffer
from tunemill.sdk.counts import Counts
from tunemill.sdk.entry import Entry
from tunemill.sdk.errors import SpoolError
from tunemill.sdk.limits import ROUND_BYTES
from tunemill.sdk.segment import framed, read_segment, write_segment
from tunemill.sdk.spool import Spool

AWAY = "http://127.0.0.1:9"
LOG_BYTES = 550  # roughly, that one log with this text takes in memory
TEXT = "x" * 200


def accept(asked: Asked) -> Answer:
    return json_answer({"accepted": len(split(asked.body))}, 202)


def logs_of(server: Server) -> list[LogRecord]:
    return [msgspec.json.decode(line, type=LogRecord) for asked in server.asked for line in split(asked.body)]


def until(happens: Callable[[], bool]) -> None:
    for _ in range(2000):
        if happens():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 20 seconds")


def is_honest(stats: Stats) -> bool:
    return stats.waiting == 0 and stats.logged == stats.sent + stats.failed + stats.dropped + stats.spooled


def spooling(url: str, folder: Path, **options: int) -> Producer:
    return Producer(url, when_full="spool", spool_dir=folder, **options)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("spool-*/*.ndjson"))


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="tunemill.sdk")


def test_ten_thousand_logs_of_an_outage_arrive_once_and_in_order(tmp_path: Path) -> None:
    port = free_port()
    with spooling(f"http://127.0.0.1:{port}", tmp_path, buffer_bytes=1000 * LOG_BYTES) as producer:
        ids = []
        for number in range(10_000):
            ids.append(producer.log(messages=TEXT, session_id=f"s{number % 7}"))
            if number % 500 == 499:  # memory holds a tenth of them
                until(lambda: producer.stats().waiting < 300)
        assert producer.stats().spooled > 9_000
        with serving(accept, port=port) as server:
            after = [producer.log(messages=TEXT, session_id=f"s{number % 7}") for number in range(10)]
            assert producer.flush(60), producer.stats()
            arrived = logs_of(server)
        assert producer.stats() == Stats(logged=10_010, sent=10_010)
    assert [log.log_id for log in arrived] == ids + after
    assert list(tmp_path.iterdir()) == [], "nothing is left on disk"


def test_what_is_unsent_at_close_is_sent_by_the_next_one(tmp_path: Path) -> None:
    with spooling(AWAY, tmp_path) as first:
        ids = [first.log(messages=TEXT) for _ in range(100)]
    assert first.stats() == Stats(logged=100, spooled=100)
    with serving(accept) as server:
        with spooling(server.url, tmp_path) as second:
            until(lambda: second.stats().logged == 100)
            ids.append(second.log(messages=TEXT))
            assert second.flush(20)
            assert second.stats() == Stats(logged=101, sent=101)
        assert [log.log_id for log in logs_of(server)] == ids
    assert list(tmp_path.iterdir()) == []


def test_what_is_on_disk_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with spooling(AWAY, folder) as producer:
        producer.log(messages=TEXT)
    (segment,) = files(folder)
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, segment.parent, segment)] == [
        "0o700",
        "0o700",
        "0o600",
    ]


LOGS_UNTIL_KILLED = """
import sys, time
from tunemill.sdk import Producer
producer = Producer("http://127.0.0.1:9", when_full="spool", spool_dir=sys.argv[1])
number = 0
while number < 5000:
    for _ in range(20):
        producer.log(messages="x" * 200, log_id=f"{sys.argv[2]}-{number:06}", session_id="s")
        number += 1
    print(producer.stats().spooled, flush=True)
    time.sleep(0.002)
while True:
    print(producer.stats().spooled, flush=True)
    time.sleep(0.05)
"""


def logging_until_killed(folder: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LOGS_UNTIL_KILLED, folder, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def on_disk_at_least(process: "subprocess.Popen[str]", spooled: int) -> int:
    """Wait until a process says to have so many logs on disk; how many it said."""
    assert process.stdout is not None
    return next(int(line) for line in process.stdout if int(line) >= spooled)


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.mark.parametrize("spooled", [1, 300, 2000])
def test_after_a_kill_the_next_process_sends_what_was_on_disk(tmp_path: Path, spooled: int) -> None:
    process = logging_until_killed(tmp_path, "a")
    on_disk = on_disk_at_least(process, spooled)
    kill(process)
    with serving(accept) as server, spooling(server.url, tmp_path) as producer:
        until(lambda: producer.stats().logged >= on_disk and producer.stats().spooled == 0)
        assert producer.close() is None
        assert is_honest(producer.stats())
        ids = [log.log_id for log in logs_of(server)]
    assert len(ids) >= on_disk
    assert ids == [f"a-{number:06}" for number in range(len(ids))], "none is missing, doubled or garbage"


def test_a_kill_while_the_disk_is_emptied_loses_nothing(tmp_path: Path) -> None:
    with spooling(AWAY, tmp_path) as producer:
        ids = [producer.log(messages="x" * 20_000) for _ in range(500)]
    script = f"""
import sys, time
from tunemill.sdk import Producer
Producer(sys.argv[1], when_full="spool", spool_dir={str(tmp_path)!r})
time.sleep(60)
"""
    with serving(accept) as server:
        process = subprocess.Popen([sys.executable, "-c", script, server.url], text=True)
        until(lambda: len(server.asked) > 5)
        kill(process)
        by_first = [log.log_id for log in logs_of(server)]
        assert len(by_first) < 500, "it was killed too late"
        with spooling(server.url, tmp_path) as producer:
            until(lambda: producer.stats().logged > 0 and producer.stats().spooled == 0)
        arrived = [log.log_id for log in logs_of(server)]
    assert list(dict.fromkeys(arrived)) == ids
    assert len(arrived) < len(ids) + ROUND_BYTES / 20_000 + 1, "what was sent twice is one round at most"


def test_two_processes_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    both = [logging_until_killed(tmp_path, name) for name in "ab"]
    with serving(accept) as server, spooling(server.url, tmp_path) as living:
        mine = living.log(messages=TEXT)
        assert living.flush(20)
        assert [log.log_id for log in logs_of(server)] == [mine], "what belongs to the living is theirs"
    on_disk = {name: on_disk_at_least(process, 100) for name, process in zip("ab", both, strict=True)}
    for process in both:
        kill(process)
    with serving(accept) as server:
        two = [spooling(server.url, tmp_path) for _ in range(2)]  # of which each abandoned folder goes to one
        until(lambda: sum(one.stats().sent for one in two) >= sum(on_disk.values()))
        until(lambda: sum(one.stats().spooled for one in two) == 0)
        for one in two:
            one.close()
        ids = [log.log_id for log in logs_of(server)]
    for name, least in on_disk.items():
        of_one = [log_id for log_id in ids if log_id.startswith(name)]
        assert len(of_one) >= least
        assert of_one == [f"{name}-{number:06}" for number in range(len(of_one))]
    assert list(tmp_path.iterdir()) == []


def test_a_torn_tail_and_a_damaged_line_are_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with spooling(AWAY, tmp_path) as producer:
        ids = [producer.log(messages=TEXT) for _ in range(10)]
    segment, *others = files(tmp_path)
    lines = b"".join(path.read_bytes() for path in (segment, *others)).splitlines(keepends=True)
    for path in others:
        path.unlink()
    damaged = lines[3].replace(b"xxx", b"xyx", 1)
    segment.write_bytes(b"".join([*lines[:3], damaged, *lines[4:9], lines[9][:-7]]))
    with serving(accept) as server, spooling(server.url, tmp_path) as producer:
        until(lambda: producer.stats().sent == 8)
        assert producer.stats() == Stats(logged=10, sent=8, failed=2)
        assert [log.log_id for log in logs_of(server)] == [*ids[:3], *ids[4:9]]
    assert "2 logs in the spool were unreadable" in caplog.text


def test_a_file_cut_at_any_byte_holds_only_what_was_written(tmp_path: Path) -> None:
    entries = [
        Entry(f"l{number}", "s" if number else None, b'{"n":%d,"t":"\xc3\xa9\\n"}' % number) for number in range(3)
    ]
    whole = b"".join(map(framed, entries))
    for length in range(len(whole) + 1):
        (tmp_path / "f").write_bytes(whole[:length])
        found = read_segment(tmp_path / "f")
        assert list(found.entries) == entries[: len(found.entries)]
        assert found.broken <= 1
    write_segment(tmp_path / "g", entries)
    assert (tmp_path / "g").read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_said_and_logs_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    producer = spooling(AWAY, tmp_path / "file", buffer_bytes=20 * LOG_BYTES, block_s=0.01)
    for _ in range(100):
        producer.log(messages=TEXT)
    until(lambda: "cannot be written" in caplog.text)
    producer.close(0.5)
    stats = producer.stats()
    assert is_honest(stats)
    assert stats.dropped > 50
    assert stats.failed > 10
    assert stats.spooled == 0


def test_a_full_disk_keeps_what_fits_and_no_half_of_a_log(tmp_path: Path) -> None:
    script = f"""
import resource, logging
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # bytes that any one file may have
from tunemill.sdk import Producer
producer = Producer({AWAY!r}, when_full="spool", spool_dir={str(tmp_path)!r}, buffer_bytes=20_000)
for number in range(1000):
    producer.log(messages="x" * 200, log_id=f"{{number:04}}")
    if number % 10 == 0 and number < 120:
        import time; time.sleep(0.05)
producer.close(0.5)
stats = producer.stats()
assert stats.waiting == 0 and stats.logged == stats.failed + stats.dropped + stats.spooled == 1000, stats
print(stats.spooled, stats.dropped)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    spooled, dropped = map(int, done.stdout.split())
    assert dropped > 0
    held = [read_segment(path) for path in files(tmp_path)]
    assert sum(contents.broken for contents in held) == 0
    ids = [entry.log_id for contents in held for entry in contents.entries]
    assert len(ids) == spooled > 50
    assert ids == sorted(set(ids))


def test_a_full_spool_drops_and_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with spooling(AWAY, tmp_path, buffer_bytes=10_000, spool_bytes=30_000, block_s=0.01) as producer:
        until(lambda: bool(producer.log(messages=TEXT)) and "the spool is full" in caplog.text)
        for _ in range(100):
            producer.log(messages=TEXT)
    stats = producer.stats()
    assert is_honest(stats)
    assert 50 < stats.spooled < 30_000 / len(TEXT)
    assert stats.dropped > 50
    assert "no room in memory" in caplog.text


def test_part_of_a_batch_that_fails_stays_ahead_of_what_comes_after(tmp_path: Path) -> None:
    statuses = iter([202, 503, 503])
    taken: list[str] = []

    def later_packs_fail_at_first(asked: Asked) -> Answer:
        status = next(statuses, 202)
        if status == 202:
            taken.extend(msgspec.json.decode(line, type=LogRecord).log_id for line in split(asked.body))
        return accept(asked) if status == 202 else Answer(status)

    with serving(later_packs_fail_at_first) as server, spooling(server.url, tmp_path) as producer:
        ids = [producer.log(messages=TEXT) for _ in range(200)]
        until(lambda: len(server.asked) >= 2)
        ids += [producer.log(messages=TEXT) for _ in range(50)]
        assert producer.flush(20)
        assert producer.stats() == Stats(logged=250, sent=250)
    assert taken == ids


def test_a_forked_child_leaves_the_parents_spool_alone(tmp_path: Path) -> None:
    script = f"""
import os, time
from tunemill.sdk import Producer
producer = Producer({AWAY!r}, when_full="spool", spool_dir={str(tmp_path)!r})
producer.log(messages="before", log_id="before")
while not producer.stats().spooled:
    time.sleep(0.01)
child = os.fork()
if child != 0:
    assert os.waitpid(child, 0)[1] == 0
producer.log(messages="x", log_id="child" if child == 0 else "parent")
producer.close()
assert producer.stats().spooled == (1 if child == 0 else 2), producer.stats()
if child == 0:
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    with serving(accept) as server, spooling(server.url, tmp_path) as producer:
        until(lambda: producer.stats().sent == 3)
        assert sorted(log.log_id for log in logs_of(server)) == ["before", "child", "parent"]


def test_a_child_that_lives_on_does_not_hold_its_dead_parents_spool(tmp_path: Path) -> None:
    script = f"""
import os, time
from tunemill.sdk import Producer
producer = Producer({AWAY!r}, when_full="spool", spool_dir={str(tmp_path)!r})
producer.log(messages="x", log_id="parent")
while not producer.stats().spooled:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    os.close(1)  # else whoever waits for the parent's output waits for ours
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stdout=subprocess.PIPE, text=True)
    child = int(done.stdout)
    try:
        with serving(accept) as server, spooling(server.url, tmp_path) as producer:
            until(lambda: producer.stats().sent == 1)
            assert [log.log_id for log in logs_of(server)] == ["parent"]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_log_that_fills_memory_alone_goes_by_way_of_the_disk(tmp_path: Path) -> None:
    with serving(accept) as server, spooling(server.url, tmp_path, buffer_bytes=1000) as producer:
        for number in range(1, 30):
            producer.log(messages="x" * 5000)
            until(lambda number=number: producer.stats().sent == number)  # type: ignore[misc]
    assert len(logs_of(server)) == 29


def test_what_a_silent_receiver_was_sent_is_on_disk_until_it_answers(tmp_path: Path) -> None:
    speaks = threading.Event()

    def silent_at_first(asked: Asked) -> Answer:
        assert speaks.wait(60)
        return accept(asked)

    with serving(silent_at_first) as server, spooling(server.url, tmp_path) as producer:
        ids = [producer.log(messages=TEXT)]
        until(lambda: len(server.asked) == 1)
        ids += [producer.log(messages=TEXT) for _ in range(9)]
        until(lambda: producer.stats().spooled == 10)
        on_disk = [entry.log_id for path in files(tmp_path) for entry in read_segment(path).entries]
        assert on_disk == ids
        speaks.set()
        assert producer.flush(20)
        assert producer.stats() == Stats(logged=10, sent=10)
        assert [log.log_id for log in logs_of(server)] == ids


def test_what_was_taken_first_goes_ahead_of_what_went_to_disk_meanwhile(tmp_path: Path) -> None:
    speaks = threading.Event()

    def refuses_the_first(asked: Asked) -> Answer:
        assert speaks.wait(60)
        return Answer(503) if len(server.asked) == 1 else accept(asked)

    with serving(refuses_the_first) as server, spooling(server.url, tmp_path, buffer_bytes=20 * LOG_BYTES) as producer:
        ids = [producer.log(messages=TEXT)]
        until(lambda: len(server.asked) == 1)
        for _ in range(50):
            ids.append(producer.log(messages=TEXT))
            until(lambda: producer.stats().waiting < 15)
        speaks.set()
        assert producer.flush(20)
        assert producer.stats() == Stats(logged=51, sent=51)
        assert [log.log_id for log in logs_of(server)] == [ids[0], *ids]


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "lock").write_text("")
    (tmp_path / "mine" / "1.ndjson").write_text("not a log\n")
    (tmp_path / "spool-notes.txt").write_text("")
    with serving(accept) as server, spooling(server.url, tmp_path) as producer:
        producer.log(messages=TEXT)
        assert producer.flush(20)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["1.ndjson", "lock", "mine", "spool-notes.txt"]


def test_block_waits_for_room_and_drops_nothing() -> None:
    port = free_port()
    with Producer(f"http://127.0.0.1:{port}", when_full="block", buffer_bytes=20 * LOG_BYTES) as producer:
        for _ in range(10):
            producer.log(messages=TEXT)
        with serving(accept, port=port) as server:
            for _ in range(200):
                producer.log(messages=TEXT)
            assert producer.flush(20)
            assert len(logs_of(server)) == 210
    assert producer.stats() == Stats(logged=210, sent=210)


async def test_block_never_stops_an_event_loop() -> None:
    producer = Producer(AWAY, when_full="block", buffer_bytes=5 * LOG_BYTES)
    for _ in range(100):
        producer.log(messages=TEXT)
    assert producer.stats().dropped > 50
    producer.close(0.0)


def test_a_log_that_waits_for_room_ends_with_the_producer() -> None:
    producer = Producer(AWAY, when_full="block", buffer_bytes=1)
    producer.log(messages=TEXT)
    thread = threading.Thread(target=lambda: [producer.log(messages=TEXT) for _ in range(5)])
    thread.start()
    producer.close(0.1)
    thread.join(20)
    assert not thread.is_alive()
    assert is_honest(producer.stats())


@pytest.mark.parametrize(
    "options", [{"when_full": "wait"}, {"when_full": "spool"}, {"when_full": "drop", "spool_dir": "/tmp/x"}]
)
def test_a_policy_that_is_none_is_refused_at_once(options: dict[str, str]) -> None:
    with pytest.raises(BadPolicy):
        Producer(AWAY, **options)  # type: ignore[arg-type]


def test_a_disk_without_locks_costs_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with spooling(AWAY, tmp_path) as producer:
        producer.log(messages=TEXT)
    held = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr(fcntl, "flock", no_locks)
    spool = Spool(tmp_path, 10**6)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        assert spool.take_over().logs == 0
        with pytest.raises(SpoolError, match="No locks"):
            spool.append([Entry("a", None, b"{}")], 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == held


def test_a_file_that_cannot_be_read_now_is_left_for_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read_bytes = Path.read_bytes

    def too_many_files(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with serving(accept) as server:
        with spooling(AWAY, tmp_path) as first:
            ids = [first.log(messages=TEXT) for _ in range(3)]
        spool = Spool(tmp_path, 10**6)
        assert spool.take_over().logs == 3
        counts = Counts()
        counts.add(logged=3, spooled=3)
        memory = Buffer(1000, counts, wake_logs=10, wake_bytes=1000)
        backlog = Backlog(memory, spool, counts)
        backlog.end()
        monkeypatch.setattr(Path, "read_bytes", too_many_files)
        assert backlog.take() is None
        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        backlog.close()
        assert counts.read() == Stats(logged=3, failed=3)
        assert "stays where it is" in caplog.text
        with spooling(server.url, tmp_path) as next_one:
            until(lambda: next_one.stats().sent == 3)
        assert [log.log_id for log in logs_of(server)] == ids


def test_a_disk_that_takes_no_byte_is_not_filled_with_empty_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = Spool(tmp_path, 10**6)
    monkeypatch.setattr("tunemill.sdk.spool.write_all", no_space)
    for _ in range(5):
        with pytest.raises(SpoolError, match="No space"):
            spool.append([Entry("a", None, b"{}")], 1)
    assert (len(spool), files(tmp_path)) == (0, [])
    monkeypatch.undo()
    spool.append([Entry("a", None, b"{}")], 1)
    assert len(spool) == len(files(tmp_path)) == 1
    spool.close()
