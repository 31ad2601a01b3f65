"""The producer over HTTP, against a real small server."""

import contextvars
import json
import logging
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fakes.http_server import Answer, Asked, json_answer, serving
from fakes.log_server import LogServer, log_server

from tunemill.schemas.ids import PROJECT, new_id
from tunemill.schemas.packing import pack, split
from tunemill.schemas.records import LogRecord, Message, ToolCall, Usage
from tunemill.sdk import BadKey, Producer, Stats, UnknownUrl, log_context
from tunemill.sdk.backlog import Backlog
from tunemill.sdk.buffer import Buffer
from tunemill.sdk.context import NO_CONTEXT
from tunemill.sdk.counts import Counts
from tunemill.sdk.delivery import Delivery
from tunemill.sdk.entry import Entry, Origin, entry_of_fields
from tunemill.sdk.errors import SendError, Unavailable
from tunemill.sdk.http import HttpSender
from tunemill.sdk.pack import Pack

HI = [{"role": "user", "content": "hi"}]
KIB = 1024


def accept(asked: Asked) -> Answer:
    return json_answer({"accepted": len(split(asked.body))}, 202)


@pytest.fixture
def server() -> Iterator[LogServer]:
    with log_server() as running:
        yield running


def test_logs_arrive_packed_with_ids_made_before_sending(server: LogServer) -> None:
    with Producer(server.url, app="shop", project="eu", api_key="sesame") as producer:
        ids = [producer.log(messages=HI, output=f"yo {n}", model="m") for n in range(200)]
        assert producer.flush(10)
        assert producer.stats().sent == producer.stats().logged == 200
    arrived = server.logs
    assert [log.log_id for log in arrived] == ids
    assert len(set(ids)) == 200
    assert (arrived[0].app, arrived[0].project) == ("shop", "eu")
    assert len(server.asked) < 20
    assert all(len(split(asked.body)) <= 64 for asked in server.asked)
    assert {asked.path for asked in server.asked} == {"/v1/logs"}
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer sesame"}
    assert {asked.headers["content-type"] for asked in server.asked} == {"application/x-ndjson"}


def test_a_message_is_what_pack_makes_and_stays_within_its_bytes(server: LogServer) -> None:
    logs = [
        LogRecord(log_id=f"l{n}", ts_ms=n, messages=(Message(role="user", content="x" * 100_000),)) for n in range(12)
    ]
    with Producer(server.url) as producer:
        for log in logs:
            producer.log(log)
    assert server.logs == logs
    assert b"\n".join(asked.body for asked in server.asked) == pack(logs)
    assert all(len(asked.body) <= 512 * 1024 for asked in server.asked)
    assert len(server.asked) >= 3


def test_fields_are_read_in_openai_shape(server: LogServer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    picture = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "this"},
    ]
    with Producer(server.url) as producer:
        producer.log(
            messages=[{"role": "user", "content": picture}, {"role": "assistant", "tool_calls": [call], "weight": 0}],
            output={"role": "assistant", "content": "a cat", "reasoning_content": "paws"},
            usage={"prompt_tokens": 7, "completion_tokens": 2},
            tags=["team:blue"],
            metadata={"build": 12},
            colour="red",
        )
    (log,) = server.logs
    assert log.messages[0] == Message(role="user", content="what is\nthis", parts=picture)
    assert log.messages[1].tool_calls == (ToolCall(name="add", arguments='{"a":1}', id="c1"),)
    assert log.output == (Message(role="assistant", content="a cat", reasoning="paws"),)
    assert log.usage == Usage(input_tokens=7, output_tokens=2)
    assert (log.tags, log.metadata) == (("team:blue",), {"build": "12"})
    assert log.extra == {"record": {"colour": "red"}, "messages": {"1": {"weight": 0}}}


def test_a_request_and_its_response_become_one_log(server: LogServer) -> None:
    request = {"model": "gpt", "messages": HI, "temperature": 0, "user": "u1", "extra_headers": {"X-Secret": "s3cret"}}
    answer = {
        "id": "r1",
        "model": "gpt-1",
        "choices": [{"message": {"role": "assistant", "content": "yo"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
        "service_tier": "default",
    }
    with Producer(server.url) as producer:
        producer.log(request=request, response=answer, latency_ms=3.5)
    (log,) = server.logs
    assert (log.model, log.response_id, log.finish_reason, log.user_id) == ("gpt-1", "r1", "stop", "u1")
    assert (log.params, log.latency_ms) == ({"temperature": 0}, 3.5)
    assert log.extra == {
        "request": {"model": "gpt"},
        "response": {"service_tier": "default"},
        "usage": {"prompt_tokens_details": {"cached_tokens": 1}},
    }
    assert b"s3cret" not in server.asked[0].body


def test_the_context_fills_in_and_nests(server: LogServer) -> None:
    with Producer(server.url) as producer, log_context(session_id="s1", consent="train", tags=["a:1"]):
        with log_context(user_id="u1", tags=["b:2"], metadata={"step": "2"}):
            producer.log(messages=HI, tags=["c:3"], session_id="mine")
        producer.log(messages=HI)
    inner, outer = server.logs
    assert (inner.session_id, inner.user_id, inner.consent) == ("mine", "u1", "train")
    assert (inner.tags, inner.metadata) == (("a:1", "b:2", "c:3"), {"step": "2"})
    assert (outer.session_id, outer.user_id, outer.tags) == ("s1", None, ("a:1",))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": 3},
        {"messages": [{"content": "no role"}]},
        {"request": {"model": "m"}, "response": {"choices": 3}},
    ],
)
def test_what_is_no_log_is_dropped_counted_and_named_without_its_text(
    server: LogServer, caplog: pytest.LogCaptureFixture, fields: dict[str, Any]
) -> None:
    with Producer(server.url) as producer:
        log_id = producer.log(**fields, output="very private")
        assert not producer.flush(5)
        assert producer.stats().dropped + producer.stats().failed == producer.stats().logged == 1
    assert log_id in caplog.text
    assert "private" not in caplog.text


def test_a_log_over_the_limit_is_dropped_and_the_next_one_is_sent(
    server: LogServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Producer(server.url) as producer:
        giant = producer.log(messages="x" * 5_000_000)
        fine = producer.log(messages=HI)
    assert [log.log_id for log in server.logs] == [fine]
    assert giant in caplog.text
    assert (producer.stats().sent, producer.stats().dropped) == (1, 1)


def test_logs_wait_for_a_server_that_is_away_and_arrive_in_order() -> None:
    with log_server(away=[503, 401, 500]) as server, Producer(server.url) as producer:
        ids = [producer.log(messages=HI) for _ in range(100)]
        assert producer.flush(20)
        assert len(server.asked) == 3 + 2
        assert [log.log_id for log in server.logs] == ids
        assert producer.stats().sent == 100


def test_of_a_message_that_is_taken_in_part_the_refused_logs_are_counted(
    server: LogServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Producer(server.url) as producer:
        ids = [producer.log(messages=HI if number != 3 else [{"content": "private"}]) for number in range(6)]
        assert not producer.flush(10)
        assert producer.stats() == Stats(logged=6, sent=5, failed=1)
    assert [log.log_id for log in server.logs] == ids[:3] + ids[4:]
    assert ids[3] in caplog.text
    assert "private" not in caplog.text


def test_what_the_server_refuses_is_counted_as_failed(caplog: pytest.LogCaptureFixture) -> None:
    with serving(lambda asked: Answer(422)) as server, Producer(server.url) as producer:
        log_id = producer.log(messages=HI)
        assert not producer.flush(10)
        assert producer.flush(1), "the loss was reported by the flush before"
        assert producer.stats().failed == 1
    assert log_id in caplog.text


def test_a_message_that_is_too_large_is_sent_log_by_log() -> None:
    def one_at_a_time(asked: Asked) -> Answer:
        return accept(asked) if len(split(asked.body)) == 1 else Answer(413)

    with serving(one_at_a_time) as server, Producer(server.url) as producer:
        for _ in range(3):
            producer.log(messages=HI)
        assert producer.flush(10)
        assert producer.stats().sent == 3


def test_a_full_buffer_drops_counts_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    producer = Producer("http://127.0.0.1:9", buffer_bytes=20_000, block_s=0.05)
    for _ in range(100):
        producer.log(messages="x" * 1000)
    producer.close(0.2)
    stats = producer.stats()
    assert stats.sent == 0
    assert stats.dropped >= 60
    assert stats.failed + stats.dropped == stats.logged == 100
    assert stats.waiting == 0
    assert sum("no room in memory" in record.message for record in caplog.records) == 1
    assert any("still unsent" in record.message for record in caplog.records)


def test_after_close_logs_are_dropped_and_nothing_raises(server: LogServer) -> None:
    producer = Producer(server.url)
    producer.log(messages=HI)
    producer.close()
    producer.close()
    assert producer.log(messages=HI)
    assert (producer.stats().sent, producer.stats().dropped) == (1, 1)


def test_many_threads_lose_nothing(server: LogServer) -> None:
    with Producer(server.url) as producer:
        threads = [threading.Thread(target=lambda: [producer.log(messages=HI) for _ in range(100)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert producer.flush(20)
    assert len({log.log_id for log in server.logs}) == 800


@pytest.mark.parametrize("url", ["", "localhost:9092", "kafka://", "https://", "ftp://host/x", "https//u:sesame@h"])
def test_a_url_of_no_engine_is_refused_at_once(url: str) -> None:
    with pytest.raises(UnknownUrl, match="kafka://") as caught:
        Producer(url)
    assert "sesame" not in str(caught.value)


def test_a_key_with_the_line_break_of_its_file_is_sent_without_it(server: LogServer) -> None:
    with Producer(server.url, api_key="sesame\n") as producer:
        producer.log(messages=HI)
        assert producer.flush(10)
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer sesame"]


@pytest.mark.parametrize("key", ["ses\name", "s\u00e9same"])
def test_a_key_that_no_header_can_carry_is_refused_at_once_and_not_repeated(server: LogServer, key: str) -> None:
    with pytest.raises(BadKey) as caught:
        Producer(server.url, api_key=key)
    assert "same" not in str(caught.value)


def test_a_flush_waits_for_its_own_logs_and_not_for_as_many_later_ones() -> None:
    """One partition takes its logs while another's still wait."""
    comes_back, later_is_sent = threading.Event(), threading.Event()

    class TwoLanes:
        def connect(self) -> None: ...

        def lane(self, key: str) -> int:
            return int(key)

        def send(self, packs: Sequence[Pack]) -> Sequence[SendError | None]:
            if not any(pack.lane for pack in packs):
                later_is_sent.set()
            is_away = not comes_back.is_set()
            return [Unavailable("away") if pack.lane == 0 and is_away else None for pack in packs]

        def abandon(self) -> None: ...

        def close(self) -> None: ...

    counts = Counts()
    memory = Buffer(1000, counts, wake_logs=10, wake_bytes=1000)
    delivery = Delivery(Backlog(memory, None, counts), TwoLanes())
    memory.put(Entry("first", "0", b"{}"), wait_s=0.0)
    entered = memory.entered
    memory.put(Entry("later", "1", b"{}"), wait_s=0.0)
    delivery.start()
    assert later_is_sent.wait(10)
    assert not counts.wait_settled(entered, 0.0)
    comes_back.set()
    assert counts.wait_settled(entered, 10)
    assert counts.read().sent == 2
    delivery.finish(10)


def test_a_fault_of_the_sending_thread_is_named_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty:
        def connect(self) -> None:
            raise KeyError("private text")

        def lane(self, key: str) -> int:
            return len(key)

        def send(self, packs: Sequence[Pack]) -> Sequence[SendError | None]:
            return [None for _ in packs]

        def abandon(self) -> None: ...

        def close(self) -> None: ...

    counts = Counts()
    memory = Buffer(1000, counts, wake_logs=10, wake_bytes=1000)
    delivery = Delivery(Backlog(memory, None, counts), Faulty())
    memory.put(Entry("a", None, b"{}"), wait_s=0.0)
    delivery.start()
    delivery.finish(0.2)
    assert "KeyError in connect" in caplog.text
    assert "private" not in caplog.text


def test_what_is_left_is_sent_when_the_interpreter_exits(server: LogServer) -> None:
    run_script(f"from tunemill.sdk import Producer; Producer({server.url!r}).log(messages='bye')")
    assert [log.messages[0].content for log in server.logs] == ["bye"]


def test_a_forked_child_sends_its_own_logs_and_the_parent_its_own(server: LogServer) -> None:
    run_script(f"""
import os
from tunemill.sdk import Producer
producer = Producer({server.url!r})
producer.log(messages="before")
child = os.fork()
producer.log(messages="child" if child == 0 else "parent")
assert producer.flush(10), producer.stats()
assert producer.stats().sent == (1 if child == 0 else 2), producer.stats()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""")
    assert sorted(str(log.messages[0].content) for log in server.logs) == ["before", "child", "parent"]


def test_importing_the_sdk_pulls_in_nothing_heavy() -> None:
    heavy = ("torch", "faust", "fastapi", "fastavro", "pyarrow", "openai", "sqlalchemy", "structlog", "typer", "httpx")
    found = run_script(f"import tunemill.sdk, sys, json; print(json.dumps([m for m in {heavy} if m in sys.modules]))")
    assert json.loads(found) == []


def run_script(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="tunemill.sdk")


def test_a_broker_that_is_away_does_not_hold_the_application_up() -> None:
    producer = Producer("kafka://127.0.0.1:9")
    producer.log(messages=HI)
    assert not producer.flush(0.3)
    assert producer.stats().waiting == 1
    producer.close(0.2)
    assert producer.stats().failed == 1


def test_a_context_may_end_elsewhere_than_it_began(server: LogServer) -> None:
    """As in a web framework that begins a generator in one thread and ends it in another."""
    begun = log_context(session_id="s1")
    contextvars.copy_context().run(begun.__enter__)
    begun.__exit__(None, None, None)
    with Producer(server.url) as producer:
        producer.log(messages=HI)
    assert server.logs[0].session_id is None


def test_a_connection_that_the_server_closed_meanwhile_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    with serving(accept, idle_s=0.2) as server, Producer(server.url) as producer:
        for _ in range(2):
            producer.log(messages=HI)
            assert producer.flush(10)
            time.sleep(0.6)
        assert len(server.asked) == 2
    assert caplog.text == ""


@pytest.mark.parametrize(
    "url", ["http://h:port", "http://u:pa/ss@h", "http://[::1", "kafka://h:port", "kafka://u:pa@h,"]
)
def test_a_url_whose_port_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UnknownUrl) as caught:
        Producer(url)
    assert "pa" not in str(caught.value).replace("a producer's URL", "")
    assert (caught.value.__cause__ is None and caught.value.__suppress_context__) or caught.value.__context__ is None


def test_logs_are_counted_once_though_threads_wait_for_room_at_close() -> None:
    for _ in range(20):
        producer = Producer("http://127.0.0.1:9", when_full="block", buffer_bytes=1)
        threads = [threading.Thread(target=producer.log, kwargs={"messages": HI}) for _ in range(30)]
        for thread in threads:
            thread.start()
        producer.close(0.0)
        for thread in threads:
            thread.join(20)
        stats = producer.stats()
        assert (stats.logged, stats.waiting) == (30, 0), stats


def test_a_fault_that_passes_ends_nothing(server: LogServer, caplog: pytest.LogCaptureFixture) -> None:
    class FaultyAtFirst(HttpSender):
        faults = 2

        def send(self, packs: Sequence[Pack]) -> Sequence[SendError | None]:
            if self.faults:
                self.faults -= 1
                raise KeyError("private text")
            return super().send(packs)

    counts = Counts()
    memory = Buffer(1000, counts, wake_logs=10, wake_bytes=1000)
    delivery = Delivery(Backlog(memory, None, counts), FaultyAtFirst(server.url, None))
    memory.put(Entry("a", None, b'{"messages":[]}'), wait_s=0.0)
    delivery.start()
    assert counts.wait_settled(1, 10)
    delivery.finish(10)
    assert len(server.asked) == 1
    assert caplog.text.count("KeyError in send") == 1
    assert "private" not in caplog.text


def test_a_handler_of_the_application_that_raises_ends_nothing(server: LogServer) -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the application's own")

    server.away = iter([503])
    sdk = logging.getLogger("tunemill.sdk")
    handler = Raises()
    sdk.addHandler(handler)
    try:
        with Producer(server.url) as producer:
            producer.log(messages=HI)
            producer.log(messages=None)
            producer.log(messages="x" * 5_000_000)
            producer.flush(10)
            assert producer.stats() == Stats(logged=3, sent=1, dropped=2)
    finally:
        sdk.removeHandler(handler)


def test_a_signal_handler_may_log_and_close_while_its_thread_does() -> None:
    done = run_script("""
import signal, threading
from tunemill.sdk import Producer
import tunemill.sdk.producer as module
producer = Producer("http://127.0.0.1:9")
class Interrupted(module.Delivery):
    def start(self):
        signal.raise_signal(signal.SIGUSR1)
        super().start()
        signal.raise_signal(signal.SIGUSR2)
module.Delivery = Interrupted
signal.signal(signal.SIGUSR1, lambda *_: producer.log(messages="from a handler"))
signal.signal(signal.SIGUSR2, lambda *_: producer.close(0.1))
producer.log(messages="x")
stats = producer.stats()
assert stats.logged == 2 == stats.failed + stats.dropped, stats
print("fine", threading.active_count())
""")
    assert done.startswith("fine")


def test_a_log_that_is_taken_while_another_is_keeps_the_bound() -> None:
    """As when the garbage collector ends a stream that the application left, on whatever thread it runs."""
    counts = Counts()
    memory = Buffer(10 * KIB, counts, wake_logs=100, wake_bytes=KIB)

    class Nesting(Entry):
        nested = False

        @property
        def size(self) -> int:
            if not Nesting.nested:
                Nesting.nested = True
                memory.put(Entry("nested", None, b"1"), wait_s=0.0)
            return 3 * KIB

    memory.put(Entry("first", None, b"1"), wait_s=0.0)
    memory.put(Nesting("outer", None, b"1"), wait_s=0.0)
    Nesting.nested = False
    assert len(memory.first(100, 100 * KIB)) >= 3
    memory.drop(len(memory))
    memory.drop(len(memory))
    assert memory.put(Entry("a", None, b"1" * 5 * KIB), wait_s=0.0)
    assert memory.put(Entry("b", None, b"1" * 4 * KIB), wait_s=0.0)
    assert not memory.put(Entry("c", None, b"1" * KIB), wait_s=0.0)


@pytest.mark.parametrize("length", [0, 2000])
def test_what_waits_holds_no_more_memory_than_it_may(length: int) -> None:
    counts = Counts()
    memory = Buffer(2**22, counts, wake_logs=10**9, wake_bytes=10**9)
    text, origin = "x" * length, Origin(None, PROJECT)
    tracemalloc.start()
    try:
        while memory.put(
            entry_of_fields(new_id(), {"messages": text, "session_id": new_id()}, NO_CONTEXT, origin), wait_s=0.0
        ):
            pass
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 * 2**22 < held < 1.2 * 2**22


def test_a_child_is_forked_while_threads_make_ids() -> None:
    run_script("""
import os, signal, threading
from tunemill.schemas.ids import new_id
def make():
    while True:
        new_id()
for _ in range(4):
    threading.Thread(target=make, daemon=True).start()
for _ in range(50):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        new_id()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
""")
