"""Lines of a file -> a draft, in requests of a bounded size. It goes on where it was interrupted; sent twice is known."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunemill.cli.batches import batches
from tunemill.cli.client import Api, Refusal, at
from tunemill.cli.import_file import Line
from tunemill.cli.ingest_resume import Place

_REQUEST_BYTES = 4 * 2**20
_REQUEST_LINES = 5_000
_LISTED_ERRORS = 1_000


@dataclass
class Tally:
    """What became of the lines that this call sent."""

    lines: int = 0
    imported: int = 0
    known: int = 0
    failed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)  # file, line, reason: the first of them
    formats: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    def fail(self, file: str, failed: int, errors: Iterable[Mapping[str, Any]]) -> None:
        """Count lines that were not imported."""
        self.lines += failed
        self.failed += failed
        named = [{"file": file, "line": error["line"], "reason": error["reason"]} for error in errors]
        self.errors += named[: _LISTED_ERRORS - len(self.errors)]

    def add(self, file: str, answer: Mapping[str, Any]) -> None:
        """Count what the server says of a request."""
        self.lines += answer["imported"] + answer["known"]
        self.imported += answer["imported"]
        self.known += answer["known"]
        self.formats.update(answer["formats"])
        self.unread.update(answer["unread"])
        self.fail(file, answer["failed"], answer["errors"])

    def told(self) -> dict[str, Any]:
        """The tally as JSON."""
        return {**vars(self), "formats": dict(self.formats), "unread": dict(self.unread)}


@dataclass(frozen=True)
class Sending:
    """One file on its way into one draft."""

    api: Api
    dataset: str
    file: str
    source: str
    licence: str | None
    held_out: bool  # by the set
    columns: str | None  # what members are called there
    stops: bool  # at the first line that cannot be imported

    def run(self, lines: Iterable[Line], place: Place, tally: Tally, *, after: int) -> None:
        """Send what comes after the line of this number; what stops it leaves the place to go on from."""
        left = (line for line in lines if line.number > after)
        for request in batches(left, numbers=_REQUEST_LINES, size_bytes=_REQUEST_BYTES):
            self._send(request, tally)
            if tally.stopped:
                place.write(tally.errors[-1]["line"] - 1)
                return
            place.write(request[-1].number)
        place.forget()

    def _send(self, request: list[Line], tally: Tally) -> None:
        bad = next((place for place, line in enumerate(request) if line.fault), None) if self.stops else None
        sent = [line for line in request[:bad] if not line.fault]
        if sent:
            self._post(sent, tally)
        if not tally.stopped:
            faults = [line for line in request if line.fault][: 1 if self.stops else None]
            tally.fail(self.file, len(faults), ({"line": line.number, "reason": line.fault} for line in faults))
            tally.stopped = bool(faults) and self.stops

    def _post(self, lines: list[Line], tally: Tally) -> None:
        params = {
            "source": self.source,
            "licence": self.licence,
            "held_out": self.held_out or None,
            "map": self.columns,
            "on_error": "stop" if self.stops else "skip",
        }
        try:
            answer = self.api.post_lines(
                at("datasets", self.dataset, "import"), _body(lines), first_line=lines[0].number, **params
            )
            tally.add(self.file, answer)
            tally.stopped = answer["stopped"]
        except Refusal as refusal:
            if "lines" not in refusal.problem:
                raise
            tally.fail(self.file, refusal.problem["lines"], refusal.problem["errors"])  # not one could be imported
            tally.stopped = self.stops


def _body(lines: list[Line]) -> bytes:
    """The lines where they stand, so that the server counts as the file does."""
    first = lines[0].number
    rows = [b""] * (lines[-1].number - first + 1)
    for line in lines:
        rows[line.number - first] = line.value
    return b"\n".join(rows)
