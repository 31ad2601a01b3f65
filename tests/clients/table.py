"""The table of clients and cases in docs/sources/README.md, made from what the tests send and from the known gaps.

`PYTHONPATH=tests python -m clients.table` prints it.
"""

import re

from clients.cases import TABLE, Case
from clients.environments import HERE
from clients.gaps import GAPS
from clients.roster import CLIENTS, KAFKA_CLIENTS, Client


def table() -> str:
    """The rows, and below them what does not arrive."""
    clients = list(dict.fromkeys(client.name for client in (*CLIENTS, *KAFKA_CLIENTS)))
    by_name = {client.name: client for client in (*CLIENTS, *KAFKA_CLIENTS)}
    notes = list(dict.fromkeys(f"{field}: {why}" for (_, _, field), why in GAPS.items()))
    lines = [f"| client | {' | '.join(case.name for case in TABLE)} |", f"|---|{'---|' * len(TABLE)}"]
    for name in clients:
        cells = [_cell(by_name[name], case, notes) for case in TABLE]
        lines.append(f"| {_title(by_name[name])} | {' | '.join(cells)} |")
    return "\n".join(
        [*lines, "", *(f"{number}. `{note.replace(':', '`:', 1)}" for number, note in enumerate(notes, 1))]
    )


def _title(client: Client) -> str:
    lock = (HERE / f"{client.environment}.txt").read_text(encoding="utf-8")
    version = re.search(rf"^{re.escape(client.package)}==(\S+)", lock, re.MULTILINE)
    assert version, f"{client.package} is not pinned in {client.environment}.txt"
    return f"{client.package} {version[1]}: {client.about}"


def _cell(client: Client, case: Case, notes: list[str]) -> str:
    """`H` where the case is sent over HTTP and `K` over Kafka, with the numbers of what does not arrive."""
    ways = [way for way, clients in (("H", CLIENTS), ("K", KAFKA_CLIENTS)) if _sends(client, case, clients)]
    gaps = [f"{field}: {why}" for (one, other, field), why in GAPS.items() if (one, other) == (client.name, case.name)]
    numbers = ", ".join(str(notes.index(gap) + 1) for gap in gaps)
    return (" ".join(ways) or "-") + (f" ({numbers})" if numbers else "")


def _sends(client: Client, case: Case, clients: tuple[Client, ...]) -> bool:
    return any(one.name == client.name and case in one.cases for one in clients)


if __name__ == "__main__":
    print(table())
