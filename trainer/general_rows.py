"""General chat rows: `retention` stands for what the model could do before, `replay` is trained on against forgetting.

They are packaged, lie in a file, or are the test or training rows of a dataset version.
"""

import codecs
import hashlib
import json
from importlib.resources import files
from typing import Any, Literal

from tunemill.trainer.accepted import accepted_answers
from tunemill.trainer.dataset import chat_message, open_dataset
from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.named_files import named_sha256, read_named
from tunemill.trainer.recipe import PACKAGED, VersionRows

Kind = Literal["retention", "replay"]
_TOPIC_CHARACTERS = 63  # it stands in sentences and tables
_REMEDY = "set {} to a JSONL file or to packaged"
_PACKAGED_FILES = {"retention": "general.jsonl", "replay": "replay.jsonl"}


def general_rows(kind: Kind, source: str | VersionRows) -> list[dict[str, Any]]:
    """OpenAI chat rows (`{"messages": [...]}`, and `topic` and `accepted_answers` where a line has them).

    Raises:
        InvalidRun: the file cannot be read, or a line is not such a row (the message names the line); or the version cannot be read.
    """
    if isinstance(source, VersionRows):
        dataset = open_dataset(source.manifest_url, source.digest)
        return dataset.train if kind == "replay" else dataset.test
    lines = _content(kind, source).removeprefix(codecs.BOM_UTF8).split(b"\n")
    return [
        _row(line, place=f"{kind} file {source}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def general_rows_digest(kind: Kind, source: str | VersionRows) -> str:
    """SHA-256 of the file or of the version's manifest: part of a run's identity.

    Raises:
        InvalidRun: the file cannot be read.
    """
    if isinstance(source, VersionRows):
        return source.digest
    if source == PACKAGED:
        return hashlib.sha256(_packaged(kind)).hexdigest()
    return named_sha256(source, what=f"{kind} file", remedy=_REMEDY.format(kind))


def _content(kind: Kind, source: str) -> bytes:
    if source == PACKAGED:
        return _packaged(kind)
    return read_named(source, what=f"{kind} file", remedy=_REMEDY.format(kind))


def _packaged(kind: Kind) -> bytes:
    return (files("tunemill.trainer") / "retention" / _PACKAGED_FILES[kind]).read_bytes()


def _row(line: bytes, *, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        topic = {"topic": " ".join(str(row["topic"]).split())[:_TOPIC_CHARACTERS]} if row.get("topic") else {}
        chat = {"messages": [chat_message(message) for message in row["messages"]], "tools": row.get("tools"), **topic}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRun(
            f"{place}: not an OpenAI chat row", 'each line is {"messages": [{"role": …, "content": …}]}'
        ) from error
    if row.get("accepted_answers") is None:
        return chat
    try:
        return {**chat, "accepted_answers": accepted_answers(row["accepted_answers"])}
    except ValueError as error:
        raise InvalidRun(
            f"{place}: {error}",
            'accepted_answers is ["Paris"]; [["red"], ["amber", "yellow"]] where all are needed; [] of an open question',
        ) from error
