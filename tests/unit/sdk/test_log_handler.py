"""Calls that an application writes to Python's own `logging`."""

import logging
import threading
from collections.abc import Iterator

import pytest
from fakes.log_server import LogServer, log_server

from tunemill.sdk import Producer, Stats, TunemillHandler, log_context

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server() -> Iterator[LogServer]:
    with log_server() as running:
        yield running


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("shop")
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


def test_a_record_with_a_call_is_published_and_others_pass(server: LogServer, logger: logging.Logger) -> None:
    with Producer(server.url) as producer, log_context(session_id="s1"):
        logger.addHandler(TunemillHandler(producer))
        logger.info("answered", extra={"llm": {"messages": HI, "output": "yo", "model": "m", "latency_ms": 3.5}})
        logger.info("nothing to do with it", extra={"user": 3})
        logger.debug("below the level", extra={"llm": {"messages": HI}})
    (log,) = server.logs
    assert [message.content for message in (*log.messages, *log.output)] == ["hi", "yo"]
    assert (log.model, log.latency_ms, log.session_id) == ("m", 3.5, "s1")
    assert producer.stats() == Stats(logged=1, sent=1)


def test_a_pair_is_published(server: LogServer, logger: logging.Logger) -> None:
    answer = {"id": "r1", "choices": [{"message": {"role": "assistant", "content": "yo"}, "finish_reason": "stop"}]}
    with Producer(server.url) as producer:
        logger.addHandler(TunemillHandler(producer))
        logger.info("answered", extra={"llm": {"request": {"model": "m", "messages": HI}, "response": answer}})
    assert (server.logs[0].response_id, server.logs[0].model) == ("r1", "m")


@pytest.mark.parametrize("fields", ["text", 3, {"messages": None}, {3: 4}, [("messages", HI)]])
def test_what_is_no_call_is_counted_and_nothing_raises(
    server: LogServer, logger: logging.Logger, fields: object, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    with Producer(server.url) as producer:
        handler = TunemillHandler(producer)
        root.addHandler(handler)  # where our own warnings come by, too
        try:
            logger.info("odd", extra={"llm": fields})
        finally:
            root.removeHandler(handler)
        assert producer.stats() == Stats(logged=1, dropped=1)
    assert "Traceback" not in capsys.readouterr().err


def test_a_record_that_waits_for_room_holds_up_no_other(logger: logging.Logger) -> None:
    root = logging.getLogger()
    producer = Producer("http://127.0.0.1:9", when_full="block", buffer_bytes=1)
    handler = TunemillHandler(producer)
    root.addHandler(handler)  # where the warnings of the sending thread come by, too
    waiting = threading.Thread(
        target=lambda: [logger.info("x", extra={"llm": {"messages": HI}}) for _ in range(3)], daemon=True
    )
    passing = threading.Thread(target=lambda: logger.warning("no call"), daemon=True)
    try:
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        passing.start()
        passing.join(10)
        assert not passing.is_alive()
    finally:
        root.removeHandler(handler)
        producer.close(0.1)
    waiting.join(10)
    assert not waiting.is_alive()
