"""What became of one item of a `_bulk` request: done, again, stop, or dead letter. Pure."""

import re
from enum import Enum
from typing import Any

import msgspec

from tunemill.schemas.outcome import Outcome

# Error types of Elasticsearch that a document can cause; anything else is counted as `other`.
_CODES = {
    "mapper_parsing_exception": "mapping",
    "document_parsing_exception": "mapping",
    "strict_dynamic_mapping_exception": "mapping",
    "illegal_argument_exception": "illegal_value",
    "x_content_parse_exception": "not_json",
    "parsing_exception": "not_json",
    "action_request_validation_exception": "illegal_value",
}
_FIELD = re.compile(r"field \[([\w.]{1,100})\]")


class Verdict(Enum):
    """What to do about an item."""

    INDEXED = "indexed"  # or deleted
    DUPLICATE = "duplicate"
    RETRY = "retry"
    NO_INDEX = "no_index"  # make the index, then again
    REFUSED = "refused"
    REJECTED = "rejected"


# What a document's verdict is to whoever wrote it.
OUTCOMES = {
    Verdict.INDEXED: Outcome.INDEXED,
    Verdict.DUPLICATE: Outcome.DUPLICATE,
    Verdict.REJECTED: Outcome.REJECTED,
}


class ItemOutcome(msgspec.Struct, frozen=True, gc=False):
    """The verdict on one item; `code` and `reason` are set when it was rejected. The reason holds no value of the document."""

    verdict: Verdict
    status: int
    code: str | None = None
    reason: str | None = None


DONE = ItemOutcome(Verdict.INDEXED, 201)


def classify(item: dict[str, Any]) -> ItemOutcome:
    """Judge one entry of a `_bulk` answer's `items`, such as `{"create": {"status": 201}}`."""
    (result,) = item.values()
    error = result.get("error") or {}
    if result["status"] == 201 and not error:  # nearly always
        return DONE
    status = int(result["status"])
    if status == 404 and not error:  # deleted what was not there
        return ItemOutcome(Verdict.INDEXED, status)
    verdict = verdict_on(status, str(error.get("type", "")))
    if verdict is not Verdict.REJECTED:
        return ItemOutcome(verdict, status)
    return ItemOutcome(verdict, status, _CODES.get(error.get("type", ""), "other"), _reason(status, error))


def verdict_on(status: int, error_type: str) -> Verdict:
    """Judge an HTTP status, of one item or of a whole request."""
    if status in {200, 201}:
        return Verdict.INDEXED
    if status == 409:
        return Verdict.DUPLICATE
    if status == 404:
        return Verdict.NO_INDEX
    if status == 429 or status >= 500 or error_type == "cluster_block_exception":  # a full disk comes as 403
        return Verdict.RETRY
    return Verdict.REFUSED if status in {401, 403} else Verdict.REJECTED


def _reason(status: int, error: dict[str, Any]) -> str:
    """Elasticsearch's own reason quotes the value, so only the kind and the field's name are taken from it."""
    kind = re.sub(r"\W", "", str(error.get("type", "unknown")))[:100]
    field = _FIELD.search(str(error.get("reason", "")))
    return f"Elasticsearch answered {status} {kind}" + (f" at the field {field[1]}" if field else "")
