"""The pages about sources: every example is read as the stream reads it, and the table of all sources is what comes out."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tunemill.schemas.records import Feedback, LogRecord, Message
from tunemill.schemas.trace import TraceNote
from tunemill.streams.decode import decode
from tunemill.streams.formats.registry import SHAPES
from tunemill.streams.formats.shape import NotACall, Piece
from tunemill.streams.merge import begun, merge, with_note
from tunemill.streams.unpack import unpack

FOLDER = Path(__file__).parents[2] / "docs" / "sources"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
SECTIONS = ("## What you change", "## Example", "## What maps where", "## What does not arrive")
ANY_SHAPE = {"http"}  # a way to send, whatever the shape
APPLICATION_SIDE = {"openai-sdk"}  # no wire of its own: the SDK sends the pair as it was
NOW_MS = 4_000_000_000_000  # after every example: a time of its own is an earlier one
FIELDS = (
    *("ts_ms", "app", "messages", "output", "tools", "params", "usage", "model", "provider", "cost_usd", "latency_ms"),
    *("finish_reason", "error", "response_id", "trace_id", "session_id", "user_id", "tags", "metadata", "consent"),
)
OF_MESSAGES = ("tool_calls", "tool_call_id", "parts", "reasoning", "refusal")
COLUMNS = (*FIELDS, *OF_MESSAGES, "feedback")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_sections_in_order(page: Path) -> None:
    found = [line for line in page.read_text(encoding="utf-8").splitlines() if line in SECTIONS]
    assert found == [section for section in SECTIONS if page.stem not in APPLICATION_SIDE or section != "## Example"]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in APPLICATION_SIDE], ids=lambda page: page.stem
)
def test_each_example_is_one_call(page: Path) -> None:
    blocks = examples(page)
    assert blocks
    for block in blocks:
        logs, _ = calls(block)
        assert len(logs) == 1, f"{len(logs)} logs in an example of {page.name}"
        assert logs[0].messages


def test_every_shape_has_a_page() -> None:
    read = {log.source for page in PAGES for block in examples(page) for log in calls(block)[0]}
    assert {shape.name for shape in SHAPES} - {"tunemill_record"} <= read | {"otlp"}


def test_the_table_of_all_sources_is_what_the_examples_say() -> None:
    stated = (FOLDER / "README.md").read_text(encoding="utf-8")
    wanted = "\n".join(table())
    assert wanted in stated, f"docs/sources/README.md should hold:\n{wanted}"


def table() -> Iterator[str]:
    """A row a field, a column a source."""
    pages = [page for page in PAGES if page.stem not in APPLICATION_SIDE | ANY_SHAPE]
    told = {page: {name for block in examples(page) for name in fields(block)} for page in pages}
    yield "| | " + " | ".join(f"[{page.stem}]({page.name})" for page in pages) + " |"
    yield "|---|" + ":-:|" * len(pages)
    for name in COLUMNS:
        yield f"| `{name}` | " + " | ".join("x" if name in told[page] else " " for page in pages) + " |"


def examples(page: Path) -> list[bytes]:
    """The payloads under "Example"."""
    section = page.read_text(encoding="utf-8").partition("## Example\n")[2].partition("\n## ")[0]
    return [block.encode() for block in re.findall(r"```jsonl?\n(.*?)```", section, re.DOTALL)]


def calls(payload: bytes) -> tuple[list[LogRecord], list[Feedback]]:
    """The calls in a payload, their parts joined, and the feedback."""
    logs: dict[str, LogRecord] = {}
    notes: list[TraceNote] = []
    feedback: list[Feedback] = []
    for item in unpack(payload):
        reading = decode(item, ts_ms=NOW_MS)
        if isinstance(reading, Piece):
            known = logs.get(reading.log.log_id)
            logs[reading.log.log_id] = begun(reading) if known is None else merge(known, reading)
            notes += [reading.note] if reading.note is not None else []
        elif isinstance(reading, LogRecord):
            logs[reading.log_id] = reading
        elif isinstance(reading, TraceNote):
            notes.append(reading)
        elif isinstance(reading, Feedback):
            feedback.append(reading)
        else:
            assert isinstance(reading, NotACall)
    return [_noted(log, notes) for log in logs.values()], feedback


def fields(payload: bytes) -> set[str]:
    """What an example says something about."""
    logs, feedback = calls(payload)
    found = {"feedback"} if feedback else set()
    for log in logs:
        empty = LogRecord(log_id="", ts_ms=NOW_MS, messages=())
        found |= {name for name in FIELDS if getattr(log, name) != getattr(empty, name)}
        found |= {name for name in OF_MESSAGES if _in_a_message(name, (*log.messages, *log.output))}
    return found


def _in_a_message(name: str, messages: Sequence[Message]) -> bool:
    return any(getattr(message, name) for message in messages)


def _noted(log: LogRecord, notes: Sequence[TraceNote]) -> LogRecord:
    for note in notes:
        if note.trace_id == log.trace_id:
            log = with_note(log, note)
    return log
