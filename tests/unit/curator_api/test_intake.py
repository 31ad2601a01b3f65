"""Logs that come over HTTP: how a body is cut, what its sender hears of each item, and what lies on the bus."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import zstandard
from fakes.curator_api import running_api
from fakes.stream_worker import StreamWorker
from hypothesis import given
from hypothesis import strategies as st

from tunemill.bus.errors import BusUnavailable
from tunemill.bus.port import Outgoing
from tunemill.bus.sqlite import SqliteBus
from tunemill.curator_api.body_work import LARGE_BYTES
from tunemill.curator_api.errors import BadRequest, ClientError, TooDeep
from tunemill.curator_api.intake import (
    MAX_DEPTH,
    MAX_ITEM_BYTES,
    MAX_ITEMS,
    MESSAGE_ITEMS,
    Rejection,
    receive,
    refuse_deep,
)
from tunemill.schemas import wire
from tunemill.schemas.packing import split
from tunemill.schemas.records import LogBatch, LogRecord, Message
from tunemill.schemas.topics import LOGS, Topic

LINE = b'{"log_id":"a","ts_ms":1,"messages":[{"role":"user","content":"hi"}]}'
GIANT = b'{"text":"' + b"x" * MAX_ITEM_BYTES + b'"}'


def nothing(_item: bytes) -> None:
    return None


def only_lines(item: bytes) -> tuple[str, str] | None:
    return None if item == LINE else ("unknown_shape", "the fields are those of no known shape")


def on_the_bus(messages: Sequence[Outgoing]) -> list[bytes]:
    """What the stream cuts these messages into."""
    return [item for message in messages for item in split(message.value)]


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/litellm"])
async def test_logs_that_were_sent_lie_on_the_bus_as_they_came(tmp_path: Path, path: str) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post(path, content=LINE)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": []})
        assert [message.value for message in await api.bus.tail(LOGS, limit=9)] == [LINE]


PRETTY = b'{\n "pretty": 1\n}'


@pytest.mark.parametrize(
    ("body", "items"),
    [
        (b"[" + LINE + b"," + LINE + b"]", [LINE, LINE]),
        (LINE + b"\n\n" + LINE + b"\n", [LINE, LINE]),
        (b" \n[" + LINE + b"]", [LINE]),
        (b"[" + PRETTY + b" ,\n" + LINE + b"]", [PRETTY, LINE]),
        (b"[1,\n" + LINE + b"]", [b"1", LINE]),
        (PRETTY, [PRETTY]),
        (b"\xef\xbb\xbf" + LINE, [LINE]),
        (b"[]", []),
    ],
)
def test_many_items_in_one_body_are_cut_at_their_ends(body: bytes, items: list[bytes]) -> None:
    received = receive(body, examine=nothing)
    assert (received.items, received.rejected) == (len(items), [])
    assert on_the_bus(received.messages) == items


@pytest.mark.parametrize("wrap", [(b"", b"\n", b""), (b"[", b",\n", b"]")])
@pytest.mark.parametrize("size", [100_000, 1])
def test_a_large_body_becomes_messages_that_hold_every_item_once(wrap: tuple[bytes, bytes, bytes], size: int) -> None:
    begin, between, end = wrap
    items = [msgspec.json.encode({"n": n, "text": "x" * size}) for n in range(3_000_000 // (size + 1000))]
    received = receive(begin + between.join(items) + end, examine=nothing)
    assert len(received.messages) > 1
    assert max(len(split(message.value)) for message in received.messages) <= MESSAGE_ITEMS
    assert max(len(message.value) for message in received.messages) < 2 * 2**20
    assert on_the_bus(received.messages) == items


@pytest.mark.parametrize(
    "media_type", ["application/x-ndjson; charset=utf-8", "application/jsonl", "APPLICATION/NDJSON"]
)
async def test_each_item_that_will_be_rejected_is_named_and_travels_with_the_others(
    tmp_path: Path, media_type: str
) -> None:
    lines = [LINE, b"no JSON at all", b"42", LINE, b'{"torn":']
    async with running_api(tmp_path, examine=only_lines) as api:
        answer = await api.client.post("/v1/logs", content=b"\n".join(lines), headers={"content-type": media_type})
        assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
        assert [(one["item"], one["code"]) for one in answer.json()["rejected"]] == [
            (place, "unknown_shape") for place in (1, 2, 4)
        ]
        messages = await api.bus.tail(LOGS, limit=9)
    assert on_the_bus([Outgoing(message.value) for message in reversed(messages)]) == lines


async def test_an_item_that_no_message_can_hold_is_rejected_alone(tmp_path: Path) -> None:
    async with running_api(tmp_path, examine=only_lines) as api:
        mixed = await api.client.post("/v1/logs", content=LINE + b'\n{"a":1}\n' + GIANT + b'\n{"a":1}')
        alone = await api.client.post("/v1/logs", content=GIANT)
        kept = [item for message in await api.bus.tail(LOGS, limit=9) for item in split(message.value)]
        metrics = (await api.client.get("/metrics")).text
    assert (mixed.status_code, mixed.json()["accepted"]) == (202, 1)
    assert [(one["item"], one["code"]) for one in mixed.json()["rejected"]] == [
        (1, "unknown_shape"),
        (2, "too_large"),
        (3, "unknown_shape"),
    ]
    assert str(MAX_ITEM_BYTES) in mixed.json()["rejected"][1]["reason"]
    assert (alone.status_code, alone.json()["limit"]) == (413, MAX_ITEM_BYTES)
    assert kept == [LINE, b'{"a":1}', b'{"a":1}']
    assert 'tunemill_rejected_total{code="too_large",stage="receive"}' in metrics


@pytest.mark.parametrize(
    "body",
    [b"", b"  \n", b"hello", b"3", b"[1, 2", b'{"torn": ', b"\xff\xfe{}", b'{"a":' + b"1" * 5000 + b"}", b'"{}"'],
)
async def test_what_is_no_json_of_logs_is_refused_clearly(tmp_path: Path, body: bytes) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/logs", content=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:tunemill:problem:bad-request"
        assert await api.bus.tail(LOGS, limit=9) == []


async def test_json_that_is_broken_says_where(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/logs", content=b'{"secret": tru}')
    assert "(byte 15)" in answer.json()["detail"]
    assert "secret" not in answer.text


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "gzip"), (zstandard.compress, "zstd")])
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_a_body_that_does_not_say_that_it_is_compressed_is_told_to(
    tmp_path: Path, pack: Callable[[bytes], bytes], name: str, media_type: str
) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/logs", content=pack(LINE), headers={"content-type": media_type})
        assert await api.bus.tail(LOGS, limit=9) == []
    assert (answer.status_code, answer.json()["detail"].rpartition(": send it with ")[2]) == (
        400,
        f"Content-Encoding: {name}",
    )


MANY = MAX_ITEMS + 1


@pytest.mark.parametrize(
    ("path", "body", "media_type"),
    [
        ("/v1/logs", b"[" + b",".join([b"1"] * MANY) + b"]", "application/json"),
        ("/v1/logs", b"{}\n" * MANY, "application/json"),
        ("/v1/logs", b"1\n" * MANY, "application/x-ndjson"),
        ("/v1/feedback", b"{}\n" * MANY, "application/x-ndjson"),
        ("/api/public/ingestion", b'{"batch":[' + b",".join([b"1"] * MANY) + b"]}", "application/json"),
        ("/api/public/scores", b"[" + b",".join([b"{}"] * MANY) + b"]", "application/json"),
    ],
)
async def test_a_body_of_too_many_items_is_refused_with_the_limit(
    tmp_path: Path, path: str, body: bytes, media_type: str
) -> None:
    """A small body of a million broken items would need an answer and dead letters of a hundred megabytes."""
    async with running_api(tmp_path) as api:
        answer = await api.client.post(path, content=body, headers={"content-type": media_type})
        assert await api.bus.tail(LOGS, limit=9) == []
    assert (answer.status_code, answer.json()["limit"]) == (413, MAX_ITEMS)
    assert "several requests" in answer.json()["detail"]


async def test_large_bodies_leave_threads_to_whoever_wants_to_be_let_in(tmp_path: Path) -> None:
    go_on = threading.Event()

    def waits(_item: bytes) -> None:
        go_on.wait()

    async with running_api(tmp_path, examine=waits) as api:
        body = b'{"text":"' + b"x" * LARGE_BYTES + b'"}'
        large = [asyncio.create_task(api.client.post("/v1/logs", content=body)) for _ in range(40)]
        try:
            await asyncio.sleep(0.5)  # for them to take what they can get
            async with asyncio.timeout(10):
                assert (await api.client.get("/api/public/health")).status_code == 200
        finally:
            go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*large)} == {202}


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        nested(MAX_DEPTH + 1),
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        LINE + b"\n" + nested(500),
        b"[" + LINE + b"," + nested(MAX_DEPTH + 1) + b"]",
    ],
)
async def test_a_body_that_is_nested_too_deep_is_refused_with_the_limit(tmp_path: Path, body: bytes) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/logs", content=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:tunemill:problem:too-deep")
        assert answer.json()["limit"] == MAX_DEPTH


def test_only_real_brackets_count_as_depth() -> None:
    deep_text = msgspec.json.encode({"text": '[{"' * 1000 + "\\", "more": ["]" * 500, {"a": '\\"{'}]})
    flat = b"[" + b",".join([b"[]"] * 1000) + b"]"
    for fine in (nested(MAX_DEPTH), deep_text, flat, b'{"torn": "' + b"[" * 50, b"]" * 1000):
        refuse_deep(fine)
    for deep in (nested(MAX_DEPTH + 1), b'{"a":"]]]]","b":' + nested(MAX_DEPTH) + b"}"):
        with pytest.raises(TooDeep):
            refuse_deep(deep)


values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\a\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"', max_size=3), inner, max_size=3),
    max_leaves=30,
)


@given(value=values, extra=st.integers(0, 3))
def test_depth_is_that_of_the_json_whatever_its_strings_hold(value: object, extra: int) -> None:
    def depth(inside: object) -> int:
        children = inside.values() if isinstance(inside, dict) else inside if isinstance(inside, list) else None
        return 0 if children is None else 1 + max(map(depth, children), default=0)

    around = MAX_DEPTH - depth(value) + extra - 1
    body = b"[" * around + json.dumps([value] * 20).encode() + b"]" * around
    if extra:
        with pytest.raises(TooDeep):
            refuse_deep(body)
    else:
        refuse_deep(body)


def test_depth_is_counted_through_a_body_of_many_brackets() -> None:
    begin = b"[" * (MAX_DEPTH - 1) + b"[]" * 2**17
    refuse_deep(begin)
    with pytest.raises(TooDeep):
        refuse_deep(begin + b"[[")


async def test_what_is_too_large_is_not_read_for_its_values(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.client.post("/v1/logs", content=GIANT[:-1] + b',"n":' + b"1" * 5000 + b"}")
    assert (answer.status_code, answer.json()["limit"]) == (413, MAX_ITEM_BYTES)


def test_a_deep_line_among_lines_spoils_nothing_but_itself() -> None:
    received = receive(LINE + b"\n" + nested(5000), is_lines=True, examine=only_lines)
    assert [rejection.item for rejection in received.rejected] == [1]


@pytest.mark.parametrize(
    ("sessions", "key"),
    [
        ([b'"s"'], "s"),
        ([b'"s"', b'"s"'], "s"),
        ([b'"s"', b'"t"'], None),
        ([b'"s"', b"null"], None),
        ([b"null"], "of-trace"),
        ([b"7"], None),
        ([b'"' + b"s" * 129 + b'"'], None),
        ([b'"\\ud800"'], None),
    ],
)
def test_a_message_has_the_key_that_its_items_have_between_them(sessions: list[bytes], key: str | None) -> None:
    items = [b'{"messages":[],"session_id":' + session + b',"trace_id":"of-trace"}' for session in sessions]
    (message,) = receive(b"\n".join(items), is_lines=True, examine=nothing).messages
    assert message.key == key


LOG = LogRecord(log_id="a", ts_ms=1, messages=(Message(role="user", content="hi"),))


def test_avro_is_taken_as_it_is() -> None:
    batch = wire.encode(LogBatch((LOG, LOG)))
    assert receive(wire.encode(LOG), examine=nothing) == (1, [], 0, [Outgoing(wire.encode(LOG))])
    seen: list[bytes] = []
    received = receive(
        batch, examine=lambda item: seen.append(item) or ("invalid", "why") if seen else seen.append(item)
    )
    assert (received.items, received.messages) == (2, [Outgoing(batch)])
    assert received.rejected == [Rejection(1, "invalid", "why")]
    assert seen == [wire.encode(LOG)] * 2
    with pytest.raises(BadRequest, match="torn"):
        receive(batch[:-1], examine=nothing)


@given(
    body=st.binary(max_size=60) | st.text(alphabet='[]{}",:1\n \\a', max_size=60).map(str.encode),
    is_lines=st.booleans(),
)
def test_no_body_raises_anything_but_the_clients_fault(body: bytes, is_lines: bool) -> None:
    try:
        received = receive(body, is_lines=is_lines, examine=lambda _item: ("x", "y"))
    except ClientError:
        return
    assert received.items == len(received.rejected)


async def test_without_the_bus_nothing_is_accepted_and_the_client_is_told_when_to_come_again(tmp_path: Path) -> None:
    class Away(SqliteBus):
        async def publish(self, topic: Topic, messages: Sequence[Outgoing]) -> None:
            raise BusUnavailable("away")

    async with running_api(tmp_path, bus=Away(tmp_path / "bus.db")) as api:
        answer = await api.client.post("/v1/logs", content=LINE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "nothing was accepted" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["single", "json_array", "ndjson"])
async def test_litellms_webhook_is_taken_in_each_of_its_formats(tmp_path: Path, text: str) -> None:
    payloads = [{"id": f"{n}", "call_type": "acompletion", "messages": [], "response": None} for n in range(3)]
    bodies: dict[str, Callable[[], list[bytes]]] = {
        "single": lambda: [msgspec.json.encode(payload) for payload in payloads],
        "json_array": lambda: [msgspec.json.encode(payloads)],
        "ndjson": lambda: [b"\n".join(map(msgspec.json.encode, payloads))],
    }
    async with running_api(tmp_path) as api:
        accepted = 0
        for body in bodies[text]():
            answer = await api.client.post("/v1/litellm", content=body, headers={"content-type": "application/json"})
            accepted += answer.json()["accepted"]
        messages = await api.bus.tail(LOGS, limit=9)
    assert accepted == 3
    found = [msgspec.json.decode(item) for message in reversed(messages) for item in split(message.value)]
    assert found == payloads


async def test_a_secret_is_on_no_bus_and_in_no_letter_of_what_is_sent_and_the_log_is_tagged(tmp_path: Path):
    secret = "sk-proj-" + "a1B2" * 8
    log = {"log_id": "a", "ts_ms": 1, "messages": [{"role": "user", "content": f"my key {secret}"}]}
    said = {"log_id": "a", "name": "good", "comment": f"it said {secret}"}
    async with running_api(tmp_path) as api:
        await api.client.post("/v1/logs", json=[log, {"unknown": secret}])
        await api.client.post("/v1/feedback", json=said)
        await api.client.post("/v1/traces", json={"resourceSpans": [{"scopeSpans": [{"spans": [{"name": secret}]}]}]})
        assert await StreamWorker(api.bus, api.index).work()
        stored = await api.index.get("a")
    assert stored is not None
    assert "secret:api-key" in {entry.tag for entry in stored.tags}
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"[SECRET:api-key]" in one for one in kept)
    assert not any(secret.encode() in one for one in kept)
