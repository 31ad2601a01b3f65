"""What the SDK costs an application: per call on its own thread, and until all logs are at the receiver.

    python -m benchmarks.sdk --json

Calls come in a burst, as fast as one thread can make them, so that the SDK's other threads compete for the interpreter all
the time; an application that waits for its model pays less. Beside it, what people do instead: `json.dumps` of request and
response into Python's `logging`, whose queue handler writes the lines to a file from a thread of its own. The receiver is a
process of its own that reads and answers.
"""

import asyncio
import json as json_module
import logging
import logging.handlers
import multiprocessing
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from benchmarks import sdk_install
from benchmarks.batches import SAMPLE
from benchmarks.harness import Figure, ratio, report, take_turns
from tunemill.sdk import Producer, wrap

CHUNKS = 100  # of one streamed answer
Measured = tuple[float, float]  # µs per call on the caller's thread, logs per second until all have arrived


def main(
    input: Annotated[Path, typer.Option(help="OpenAI request and response pairs, JSON lines.")] = SAMPLE,
    calls: Annotated[int, typer.Option(help="Calls per round.")] = 5_000,
    rounds: Annotated[int, typer.Option(help="Rounds that count.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Measure microseconds per call and logs per second."""
    pairs = _pairs(input)
    with receiver() as url:
        bursts: dict[str, list[Measured]] = {"log": [], "queue_handler": []}
        by_hand: dict[str, Callable[[], Measured]] = {
            "log": lambda: _log(url, pairs, calls),
            "queue_handler": lambda: _queue_handler(pairs, calls),
        }
        take_turns({name: _kept(bursts[name], one) for name, one in by_hand.items()}, unit="us/call", rounds=rounds)
        wrapped = take_turns(
            {name: lambda one=one: one(url, pairs, calls) for name, one in _WRAPPED.items()}, unit="us", rounds=rounds
        )
    figures = {
        **{f"{name}, caller": Figure("us/call", _last(kept, rounds, 0)) for name, kept in bursts.items()},
        **{f"{name}, arrived": Figure("logs/s", _last(kept, rounds, 1)) for name, kept in bursts.items()},
        **wrapped,
    }
    ratios = {
        "caller, log / queue_handler": ratio(figures["log, caller"], figures["queue_handler, caller"]),
        "arrived, log / queue_handler": ratio(figures["log, arrived"], figures["queue_handler, arrived"]),
    }
    settings = {
        "input": input.name,
        "input_logs": len(pairs),
        "calls_per_round": calls,
        "mean_log_bytes": round(statistics.mean(len(_line(*pair)) for pair in pairs)),
    }
    also = {
        "caller_us_per_call": round(figures["log, caller"].median, 2),
        "logs_per_s": round(figures["log, arrived"].median),
        "install": _install(),
    }
    report("sdk", figures, ratios, settings, as_json=json, also=also)


def _pairs(path: Path) -> list[tuple[dict[str, Any], ChatCompletion]]:
    values = [json_module.loads(line) for line in path.read_bytes().splitlines()]
    return [
        (value["request"], ChatCompletion.model_validate(value["response"]))
        for value in values
        if "messages" in value.get("request", {}) and (value.get("response") or {}).get("choices")
    ]


def _kept(kept: list[Measured], one: Callable[[], Measured]) -> Callable[[], float]:
    def run() -> float:
        kept.append(one())
        return kept[-1][0]

    return run


def _last(kept: list[Measured], rounds: int, which: int) -> tuple[float, ...]:
    return tuple(measured[which] for measured in kept[-rounds:])


def _log(url: str, pairs: list[tuple[dict[str, Any], ChatCompletion]], calls: int) -> Measured:
    with Producer(url, app="benchmark") as producer:
        begun = time.perf_counter()
        for number in range(calls):
            request, response = pairs[number % len(pairs)]
            producer.log(request=request, response=response, latency_ms=1.0)
        called_s = time.perf_counter() - begun
        if not producer.flush(60):
            raise RuntimeError(f"not all logs arrived: {producer.stats()}")
        return called_s / calls * 1e6, calls / (time.perf_counter() - begun)


def _queue_handler(pairs: list[tuple[dict[str, Any], ChatCompletion]], calls: int) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        to_file = logging.FileHandler(Path(folder) / "calls.jsonl")
        waiting: queue.Queue[Any] = queue.Queue()
        listener = logging.handlers.QueueListener(waiting, to_file)
        listener.start()
        logger = logging.Logger("calls")
        logger.addHandler(logging.handlers.QueueHandler(waiting))
        begun = time.perf_counter()
        for number in range(calls):
            logger.info(_line(*pairs[number % len(pairs)]))
        called_s = time.perf_counter() - begun
        listener.stop()
        arrived_s = time.perf_counter() - begun
        to_file.close()
    return called_s / calls * 1e6, calls / arrived_s


def _line(request: Mapping[str, Any], response: ChatCompletion) -> str:
    return json_module.dumps(
        {"request": request, "response": response.model_dump(exclude_unset=True), "latency_ms": 1.0}
    )


class _Client:
    """A client whose model answers at once: what is left is what `wrap` adds."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=answer))
        self.base_url = "https://api.openai.com/v1"


def _wrap_sync(url: str, pairs: list[tuple[dict[str, Any], ChatCompletion]], calls: int) -> float:
    """Microseconds that `wrap` adds to one call."""

    def measure(create: Callable[..., Any]) -> float:
        begun = time.perf_counter()
        for number in range(calls):
            request, response = pairs[number % len(pairs)]
            create(answer=response, **request)
        return time.perf_counter() - begun

    client = _Client(lambda answer, **request: answer)
    bare_s = measure(client.chat.completions.create)
    with Producer(url) as producer:
        wrapped_s = measure(wrap(client, producer).chat.completions.create)
    return (wrapped_s - bare_s) / calls * 1e6


def _wrap_async(url: str, pairs: list[tuple[dict[str, Any], ChatCompletion]], calls: int) -> float:
    """The same, of an asynchronous client."""

    async def answer_at_once(answer: Any, **request: Any) -> Any:
        return answer

    async def measure(create: Callable[..., Any]) -> float:
        begun = time.perf_counter()
        for number in range(calls):
            request, response = pairs[number % len(pairs)]
            await create(answer=response, **request)
        return time.perf_counter() - begun

    client = _Client(answer_at_once)
    bare_s = asyncio.run(measure(client.chat.completions.create))
    with Producer(url) as producer:
        wrapped_s = asyncio.run(measure(wrap(client, producer).chat.completions.create))
    return (wrapped_s - bare_s) / calls * 1e6


def _wrap_chunk(url: str, pairs: list[tuple[dict[str, Any], ChatCompletion]], calls: int) -> float:
    """Microseconds that `wrap` adds to one chunk of a streamed answer, the end of the stream included."""
    chunks = [_chunk(number) for number in range(CHUNKS)]
    streams = max(1, calls // CHUNKS)

    def measure(create: Callable[..., Any]) -> float:
        begun = time.perf_counter()
        for number in range(streams):
            for _ in create(stream=True, **pairs[number % len(pairs)][0])._iterator:
                pass
        return time.perf_counter() - begun

    client = _Client(lambda **request: SimpleNamespace(_iterator=iter(chunks), close=lambda: None))
    bare_s = measure(client.chat.completions.create)
    with Producer(url) as producer:
        wrapped_s = measure(wrap(client, producer).chat.completions.create)
    return (wrapped_s - bare_s) / (streams * CHUNKS) * 1e6


def _chunk(number: int) -> ChatCompletionChunk:
    delta = {"content": f"word{number} "}
    choices = [{"index": 0, "delta": delta, "finish_reason": "stop" if number == CHUNKS - 1 else None}]
    head = {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return ChatCompletionChunk.model_validate({**head, "choices": choices})


_WRAPPED = {"wrap adds, sync": _wrap_sync, "wrap adds, async": _wrap_async, "wrap adds, per chunk": _wrap_chunk}


@contextmanager
def receiver() -> Iterator[str]:
    """The URL of a process that takes whatever is posted."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_receive, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _receive(told: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.send(server.server_port)
    server.serve_forever()


def _install() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return sdk_install.install(Path(folder) / "environment")


if __name__ == "__main__":
    typer.run(main)
