"""The table of clients and cases in docs/sources/README.md, made from what the tests send and from the known gaps.

`PYTHONPATH=tests python -m clients.table` prints it.
"""

import re

from clients.chat_cases import TABLE
from clients.environments import HERE
from clients.gaps import GAPS
from clients.roster import CLIENTS, KAFKA_CLIENTS, Client

_COLUMNS = tuple(case.name for case in TABLE)
_NOTES = list(dict.fromkeys(f"`{field}`: {why}" for (_, _, field), why in GAPS.items()))


def table() -> str:
    """The rows, and below them what does not arrive."""
    clients = {client.name: client for client in (*CLIENTS, *KAFKA_CLIENTS)}
    lines = [_line(["client", *_COLUMNS, "caller", "score", "more"]), "|---" * (len(_COLUMNS) + 4) + "|"]
    lines += [_line(_row(client)) for client in clients.values()]
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(_NOTES, 1))])


def _row(client: Client) -> list[str]:
    sent = [case.name for case in client.cases]
    cells = [f"{_ways(client)}{_gaps(client, name)}" if name in sent else "-" for name in _COLUMNS]
    more = [f"{name}{_gaps(client, name)}" for name in sent if name not in _COLUMNS]
    caller, score = _ways(client) if client.tells_caller else "-", "H" if client.scores else "-"
    return [_title(client), *cells, caller, score, ", ".join(more)]


def _title(client: Client) -> str:
    lock = (HERE / f"{client.environment}.txt").read_text(encoding="utf-8")
    version = re.search(rf"^{re.escape(client.package)}==(\S+)", lock, re.MULTILINE)
    assert version, f"{client.package} is not pinned in {client.environment}.txt"
    return f"{client.package} {version[1]}: {client.about}"


def _ways(client: Client) -> str:
    """`H` for HTTP and `K` for Kafka."""
    return " ".join(way for way, clients in (("H", CLIENTS), ("K", KAFKA_CLIENTS)) if client in clients)


def _gaps(client: Client, name: str) -> str:
    """The numbers of what does not arrive."""
    gaps = [f"`{field}`: {why}" for (one, other, field), why in GAPS.items() if (one, other) == (client.name, name)]
    return f" ({', '.join(str(_NOTES.index(gap) + 1) for gap in gaps)})" if gaps else ""


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())
