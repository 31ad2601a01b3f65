"""Writes the sample logs: `python -m tunemill.examples.generate [FOLDER]`. The same seed gives the same bytes on every machine."""

import json
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from random import Random

from tunemill.examples.calls import SPREAD_MS, START_MS, Call, Json
from tunemill.examples.chats import chats
from tunemill.examples.maths import problems
from tunemill.examples.programming import code_calls
from tunemill.examples.quiz import quiz, verdict
from tunemill.examples.shapes import pair, record, workload
from tunemill.examples.tickets import tickets
from tunemill.examples.translations import translations

SEED = 20260501
TURN_MS = 45_000  # between two calls of one conversation
REPEATED = (3, 77, 205, 390, 512, 700)  # places of the logs that are sent a second time

Shape = Callable[[Call, int, Random], Json]


def logs() -> list[str]:
    """The sample: about 900 lines of JSON of mixed shapes, in the order in which they were made."""
    rng = Random(SEED)  # noqa: S311  a sample, not a secret
    sessions = _sessions(tickets(rng), problems(rng), code_calls(rng), translations(rng), chats(rng))
    rng.shuffle(sessions)
    timed = [
        (START_MS + place * SPREAD_MS // len(sessions) + turn * TURN_MS, call)
        for place, session in enumerate(sessions)
        for turn, call in enumerate(session)
    ]
    timed.sort(key=lambda item: item[0])  # stable: equal times keep their order
    return [_line(_shape(call)(call, ts_ms, rng)) for ts_ms, call in timed]


def repeats(sample: list[str]) -> list[str]:
    """Six lines of the sample once more, byte for byte: what a producer sends again after a lost acknowledgement."""
    return [sample[place] for place in REPEATED]


def bad() -> list[str]:
    """Eight lines that are no log. None may stop the service, and none may be lost in silence."""
    message = {"role": "user", "content": "hello"}
    return [
        '{"log_id": "bad-1", "ts_ms": 1777622400000, "messages": [{"role": "user", "content": "the line ends h',
        "this is no JSON at all",
        "42",
        '"a string"',
        _line({"event": "page_view", "page": "/pricing", "ms": 31}),
        _line({"log_id": "bad-6", "ts_ms": START_MS, "app": "support-router", "model": "atlas-mini-1"}),
        _line({"log_id": "bad-7", "ts_ms": "yesterday", "messages": [message]}),
        _line(
            {
                "timestamp": START_MS // 1000,
                "workload_id": "assistant",
                "client_id": "user-001",
                "request": {},
                "response": {},
            }
        ),
    ]


def quiz_logs() -> tuple[list[str], list[str]]:
    """The calls of the quiz, and its verdict on each, made a minute later."""
    rng = Random(SEED)  # noqa: S311  a sample, not a secret
    calls, verdicts = [], []
    for place, (call, better) in enumerate(quiz(rng)):
        ts_ms, log_id = START_MS + SPREAD_MS + place * TURN_MS, f"quiz-{place:02d}"
        calls.append(_line({**record(call, ts_ms, rng), "log_id": log_id}))
        verdicts.append(_line(verdict(place, log_id, ts_ms + 60_000, better)))
    return calls, verdicts


def _sessions(*applications: list[Call]) -> list[list[Call]]:
    """The calls of each conversation together, in order."""
    return [
        list(calls) for application in applications for _, calls in groupby(application, key=lambda call: call.session)
    ]


def _shape(call: Call) -> Shape:
    """How an application sends its logs. What failed has no response to pair, and is always a record."""
    if call.app == "support-router" or call.error is not None:
        return record
    by_app: dict[str, tuple[Shape, ...]] = {
        "maths-tutor": (workload, record),
        "code-helper": (pair,),
        "translator": (workload, pair),
        "assistant": (record, pair),
    }
    shapes = by_app[call.app]
    # By the conversation, not by the call: an application does not change its shape between two turns.
    return shapes[sum(call.session.encode()) % len(shapes)]


def _line(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def main(folder: Path) -> None:
    """Write every file of the sample into a folder."""
    sample = logs()
    _write(folder / "logs.jsonl", sample)
    _write(folder / "repeats.jsonl", repeats(sample))
    _write(folder / "bad.jsonl", bad())
    calls, verdicts = quiz_logs()
    _write(folder / "quiz.jsonl", calls)
    _write(folder / "feedback.jsonl", verdicts)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
