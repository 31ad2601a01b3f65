"""Each kind of answer to a bulk item leads to one decision."""

from typing import Any

import pytest

from tunemill.indexer.outcome import Verdict, classify


def item(status: int, kind: str | None = None, reason: str = "") -> dict[str, Any]:
    error = {} if kind is None else {"error": {"type": kind, "reason": reason}}
    return {"create": {"status": status, **error}}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (item(201), Verdict.INDEXED),
        (item(200), Verdict.INDEXED),
        ({"delete": {"status": 404}}, Verdict.INDEXED),
        (item(409, "version_conflict_engine_exception"), Verdict.DUPLICATE),
        (item(429, "es_rejected_execution_exception"), Verdict.RETRY),
        (item(503, "unavailable_shards_exception"), Verdict.RETRY),
        (item(500, "exception"), Verdict.RETRY),
        (item(403, "cluster_block_exception"), Verdict.RETRY),
        (item(404, "index_not_found_exception"), Verdict.NO_INDEX),
        (item(401, "security_exception"), Verdict.REFUSED),
        (item(403, "security_exception"), Verdict.REFUSED),
        (item(400, "document_parsing_exception"), Verdict.REJECTED),
        (item(413, "whatever"), Verdict.REJECTED),
    ],
)
def test_verdict(answer: dict[str, Any], verdict: Verdict) -> None:
    assert classify(answer).verdict is verdict


def test_a_rejection_names_the_field_and_not_the_value() -> None:
    reason = "failed to parse field [ts] of type [date] in document. Preview of field's value: 'my secret'"
    outcome = classify(item(400, "document_parsing_exception", reason))
    assert outcome.code == "mapping"
    assert outcome.reason == "Elasticsearch answered 400 document_parsing_exception at the field ts"


def test_codes_come_from_a_bounded_list() -> None:
    assert classify(item(400, "something_new_exception", "x")).code == "other"
