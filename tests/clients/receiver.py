"""Where the clients' calls end: tunemill's API, which is asked for the log of each cell of the table."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from engines.absent import skip_or_fail

from clients.case import Case, model_of
from clients.compare import as_log, differences, known
from clients.drive import Told
from clients.environments import EnvironmentAbsent
from clients.roster import Client
from tunemill.schemas.records import LogRecord

SETTLED_S = 20.0  # after which a log is what it will be


@dataclass(frozen=True)
class Sent:
    """What one client sent: what it told, how many logs came of it, and when they have to be there."""

    told: Told
    logs: int
    due: float


class Receiver:
    """The API, and who has sent to it.

    Args:
        send: runs a client with all its cases.
        run: a suffix of the models' names, where others may have sent the same to the same index.
    """

    def __init__(self, api: httpx.Client, send: Callable[[Client], Told], *, run: str = "") -> None:
        self.api = api
        self._send = send
        self.run = run
        self._sent: dict[str, Sent | EnvironmentAbsent] = {}

    def sent(self, client: Client) -> Sent:
        """Run the client, once. Where it can't be had the test is skipped, on CI it fails."""
        if client.name not in self._sent:
            self._sent[client.name] = self._first(client)
        sent = self._sent[client.name]
        if isinstance(sent, EnvironmentAbsent):
            skip_or_fail(str(sent))
        return sent

    def log(self, client: Client, case: Case) -> LogRecord:
        """The log of this call, found by search: once it is as it should be, or when it will not change any more."""
        due = self.sent(client).due
        while True:
            found = self.search(f'model:"{self.model(client, case)}"')
            late = time.monotonic() > due
            if found:
                log = as_log(self.answer(found[0]))
                if late or set(self.differences(client, case, log)) == known(client.name, case):
                    assert len(found) == 1, "the call became several logs"
                    return log
            assert not late, "no log of this call can be found"
            time.sleep(0.2)

    def feedback(self, client: Client, case: Case) -> list[dict[str, Any]]:
        """What was said of this call's answer, once anything was."""
        log_id = self.log(client, case).log_id
        while not (found := self.answer(log_id)["feedback"]) and time.monotonic() < self.sent(client).due:
            time.sleep(0.2)
        return list(found)

    def differences(self, client: Client, case: Case, log: LogRecord) -> dict[str, tuple[Any, Any]]:
        """Where the log is not what the case expects."""
        return differences(case, log, model=self.model(client, case))

    def model(self, client: Client, case: Case) -> str:
        """The model that this cell's call names."""
        return model_of(case.name, client.name + self.run)

    def search(self, query: str) -> list[str]:
        """The ids of the logs that match."""
        found = self.api.get("/v1/search", params={"q": query}).raise_for_status().json()
        return [hit["log_id"] for hit in found["hits"]]

    def answer(self, log_id: str) -> dict[str, Any]:
        """What the API says of a log."""
        value: dict[str, Any] = self.api.get(f"/v1/logs/{log_id}").raise_for_status().json()
        return value

    def _first(self, client: Client) -> Sent | EnvironmentAbsent:
        before = self._total(client)
        try:
            told = self._send(client)
        except EnvironmentAbsent as absent:
            return absent
        due = time.monotonic() + SETTLED_S
        while time.monotonic() < due and self._total(client) - before < len(client.cases):
            time.sleep(0.1)
        time.sleep(1)  # for logs that should not come
        return Sent(told, self._total(client) - before, due)

    def _total(self, client: Client) -> int:
        """How many logs there are; in an index that others write to, too, how many of this client's."""
        models = [f'model:"{self.model(client, case)}"' for case in client.cases] if self.run else []
        query = {"q": " OR ".join(models), "limit": 0}
        return int(self.api.get("/v1/search", params=query).raise_for_status().json()["total"])


def is_ready(url: str) -> bool:
    """Whether the service at this address says that it can be used."""
    try:
        return httpx.get(f"{url}/health/ready").is_success
    except httpx.TransportError:
        return False
