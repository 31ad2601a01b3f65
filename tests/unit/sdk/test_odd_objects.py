"""Whatever an application holds: nothing raises into it, and each log is sent or counted."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.log_server import LogServer, log_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunemill.schemas.records import LogRecord, Message
from tunemill.sdk import Producer, TunemillHandler, log_context, wrap
from tunemill.sdk.errors import Unavailable
from tunemill.sdk.http import HttpSender
from tunemill.sdk.pack import packs
from tunemill.sdk.plain import plain, snapshot
from tunemill.sdk.segment import read_segment

HI = [{"role": "user", "content": "hi"}]


class Hostile:
    """Every way to look at it fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"private {name}")

    def __repr__(self) -> str:
        raise RuntimeError("private repr")

    __str__ = __repr__

    def __bool__(self) -> bool:
        raise RuntimeError("private truth")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("private equality")

    def __hash__(self) -> int:
        raise RuntimeError("private hash")


class Dumps:
    """A model whose dump fails."""

    def model_dump(self, **how: Any) -> Any:
        raise ValueError("private dump")


class Serializes:
    """A pydantic model whose serializer fails."""

    __pydantic_serializer__ = Hostile()


class Maps(Mapping[str, Any]):
    """A mapping that promises what it does not hold."""

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["role", "content"])

    def __len__(self) -> int:
        return 2


class Text(str):
    """Text of an application's own kind."""


def recursive() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


ODD: dict[str, Callable[[], Any]] = {
    "hostile": Hostile,
    "hostile class": lambda: Hostile,
    "dump fails": Dumps,
    "serializer fails": Serializes,
    "mapping lies": Maps,
    "recursive": recursive,
    "deep": deep,
    "huge int": lambda: 10**5000,
    "long int": lambda: 2**100,
    "not a number": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "half a pair": lambda: "a\ud800b",
    "null byte": lambda: "\0",
    "own text": lambda: Text("text"),
    "odd keys": lambda: {(1, 2): 3, None: 4, 1.5: 5, Text("k"): 6, "\ud800": 7},
    "generator": lambda: (item for item in HI),
    "bytes": lambda: b"\xff",
    "function": lambda: print,
    "set": lambda: {1, "a"},
    "namespace": lambda: SimpleNamespace(a=1),
}


@pytest.fixture
def server() -> Iterator[LogServer]:
    with log_server() as running:
        yield running


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest) -> Any:
    return ODD[request.param]()


@pytest.fixture(autouse=True)
def _no_text_in_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.WARNING, logger="tunemill.sdk")
    yield
    assert "private" not in caplog.text


def assert_honest(producer: Producer, logged: int) -> None:
    producer.close()
    stats = producer.stats()
    assert stats.waiting == 0
    assert stats.logged == logged == stats.sent + stats.failed + stats.dropped


def test_log_takes_anything_anywhere(server: LogServer, odd: Any) -> None:
    producer = Producer(server.url)
    calls: list[dict[str, Any]] = [
        {"messages": odd},
        {"messages": [odd]},
        {"messages": [{"role": "user", "content": odd}]},
        {"messages": [{"role": odd, "content": "hi"}]},
        {"messages": HI, "output": odd},
        {"messages": HI, "usage": odd, "tags": odd, "metadata": odd},
        {"messages": HI, "log_id": odd},
        {"messages": HI, "session_id": odd, "user_id": odd},
        {"messages": HI, "ts_ms": odd},
        {"messages": HI, "context": odd, "fields": odd, "self_": odd},
        {"request": odd},
        {"request": {"messages": odd, "extra_body": odd}, "response": odd},
        {"request": {"messages": HI}, "response": {"choices": odd}},
    ]
    assert all(isinstance(producer.log(**call), str) for call in calls)
    assert isinstance(producer.log(odd), str)
    assert isinstance(producer.log(LogRecord(log_id="r", ts_ms=1, messages=(odd,), extra=odd)), str)
    producer.log_as_is({"odd": odd}, log_id="r")
    assert_honest(producer, len(calls) + 3)


def test_what_surrounds_an_odd_value_is_kept(server: LogServer, odd: Any) -> None:
    with Producer(server.url) as producer:
        producer.log(messages=HI, output="yo", colour=odd)
    if not producer.stats().failed:  # as of what is deeper than the server takes
        (log,) = server.logs
        assert log.output == (Message(role="assistant", content="yo"),)


def test_a_context_may_hold_anything(server: LogServer, odd: Any) -> None:
    producer = Producer(server.url)
    try:
        context = log_context(session_id=odd, metadata={"odd": odd})
        with context:
            producer.log(messages=HI)
            producer.log(LogRecord(log_id="r", ts_ms=1, messages=(Message(role="user", content="hi"),)))
    finally:
        assert_honest(producer, 2)


def test_odd_ids_find_their_way_to_disk_and_to_a_partition(tmp_path: Path, odd: Any) -> None:
    class AsKafka(HttpSender):
        def lane(self, key: str) -> int:
            return len(key.encode())

    options: dict[str, Any] = {"when_full": "spool", "spool_dir": tmp_path}
    with Producer("http://127.0.0.1:9", **options) as producer, log_context(session_id=odd):
        producer.log(messages=HI, log_id=odd)
        producer.log(messages=HI, session_id=odd)
        producer.log(LogRecord(log_id=odd, ts_ms=1, messages=(Message(role="user", content="hi"),), session_id=odd))
        producer.log_as_is({"messages": HI}, log_id=odd, session_id=odd)
    assert producer.stats().spooled + producer.stats().dropped == 4
    with log_server() as server:
        sender = AsKafka(server.url, None)
        entries = [entry for path in tmp_path.rglob("*.ndjson") for entry in read_segment(path).entries]
        assert len(entries) == producer.stats().spooled
        assert not any(isinstance(error, Unavailable) for error in sender.send(packs(entries, sender.lane)))
        sender.close()


def test_a_wrapped_client_answers_whatever_it_answers(server: LogServer, odd: Any) -> None:
    class Completions:
        def create(self, **request: Any) -> Any:
            return request["answer"]

    producer = Producer(server.url)
    client = SimpleNamespace(chat=SimpleNamespace(completions=Completions()))
    wrap(client, producer)
    assert client.chat.completions.create(messages=odd, answer=odd, model=odd) is odd
    stream = SimpleNamespace(_iterator=iter([odd, odd]), close=lambda: None)
    assert client.chat.completions.create(messages=HI, answer=stream) is stream
    assert len(list(stream._iterator)) == 2
    assert_honest(producer, 2)


def test_a_handler_takes_whatever_a_record_carries(server: LogServer, odd: Any) -> None:
    producer = Producer(server.url)
    logger = logging.Logger("odd")
    logger.addHandler(TunemillHandler(producer))
    logger.info("x", extra={"llm": odd})
    logger.info("x", extra={"llm": {"messages": odd}})
    assert_honest(producer, 2)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_any_value_becomes_one_line_of_json(value: Any) -> None:
    line = snapshot({"value": value})
    assert b"\n" not in line
    assert line.decode().startswith('{"value":')
    plain(value)


@given(st.dictionaries(st.sampled_from(["messages", "output", "usage", "tags", "metadata", "session_id"]), JSON))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_fields_raise(fields: dict[str, Any]) -> None:
    producer = Producer("http://127.0.0.1:9")
    assert isinstance(producer.log(**fields), str)
    assert producer.stats().logged == 1
    producer.close(0.0)
