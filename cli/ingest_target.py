"""Where `tunemill ingest` sends records: a server, which judges each of them, or a Kafka cluster, where we judge them ourselves."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import httpx
import typer

from tunemill.bus.errors import BusError
from tunemill.bus.open import open_bus
from tunemill.bus.port import Bus, Outgoing
from tunemill.cli.client import Api, Refusal, connect
from tunemill.cli.ingest_file import Record
from tunemill.cli.output import complain
from tunemill.schemas.topics import LOGS

_NOT_A_RECORD = frozenset({400, 413, 422})
_BUSY = frozenset({429, 503})
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)


class Problem(NamedTuple):
    """What is wrong with one record. Rejected: it lies in the dead letters; refused: it was sent nowhere."""

    number: int
    outcome: str  # rejected | refused
    code: str
    reason: str


class Target(Protocol):
    """Takes batches of records; what it returned for is durable."""

    def send(self, batch: Sequence[Record]) -> Sequence[Problem]:
        """Send the batch; the problems of single records, the others are accepted."""


class Server:
    """A tunemill server's `POST /v1/logs`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def send(self, batch: Sequence[Record]) -> Sequence[Problem]:
        """A batch that is refused whole is sent record by record."""
        try:
            answer = self._post(b"\n".join(record.value for record in batch))
        except Refusal as refusal:
            if refusal.status not in _NOT_A_RECORD:
                raise
            if len(batch) > 1:
                return [problem for record in batch for problem in self.send([record])]
            return [Problem(batch[0].number, "refused", f"http_{refusal.status}", str(refusal))]
        return [_problem(batch[item["item"]], item["code"], item["reason"]) for item in answer.get("rejected", ())]

    def _post(self, body: bytes) -> Any:
        """Send, and again while the server is busy or does not answer."""
        for wait_s in _WAITS_S:
            try:
                return self._api.post_lines("/logs", body)
            except Refusal as refusal:
                if refusal.status not in _BUSY:
                    raise
            except httpx.ReadError:  # a server that restarts; ids keep what it had taken from doubling
                pass
            time.sleep(wait_s)
        return self._api.post_lines("/logs", body)


def _problem(record: Record, code: str, reason: str) -> Problem:
    """What the server says of one record: it keeps each as a dead letter but those that no message can hold."""
    return Problem(record.number, "refused" if code == "too_large" else "rejected", code, reason)


class Broker:
    """The topic of logs on a bus, without a server between."""

    def __init__(self, bus: Bus, runner: asyncio.Runner) -> None:
        self._bus = bus
        self._runner = runner

    def send(self, batch: Sequence[Record]) -> Sequence[Problem]:
        """One message for the batch; a record that is too large for a message is refused."""
        from tunemill.streams.decode import examine
        from tunemill.streams.mask_message import mask_message

        too_large = {record.number for record in batch if len(record.value) > LOGS.max_message_bytes}
        taken = [record for record in batch if record.number not in too_large]
        if taken:
            self._publish(mask_message(b"\n".join(record.value for record in taken)))
        verdicts = [(record.number, examine(record.value)) for record in taken]
        reason = f"larger than {LOGS.max_message_bytes} bytes, which is the most that a message may have"
        return [
            *(Problem(number, "refused", "too_large", reason) for number in sorted(too_large)),
            *(Problem(number, "rejected", *verdict) for number, verdict in verdicts if verdict is not None),
        ]

    def _publish(self, value: bytes) -> None:
        self._runner.run(self._bus.publish(LOGS, [Outgoing(value)]))


@contextmanager
def opened_target(url: str, key: str | None, broker: str | None) -> Iterator[Target]:
    """The broker if one is named, else the server. What neither can do ends the command with one sentence and exit code 1."""
    if broker is None:
        with connect(url, key) as api:
            yield Server(api)
        return
    try:
        with asyncio.Runner() as runner:
            bus = open_bus(broker)
            try:
                yield Broker(bus, runner)
            finally:
                runner.run(bus.close())
    except BusError as error:
        complain(str(error))
        raise typer.Exit(1) from error
