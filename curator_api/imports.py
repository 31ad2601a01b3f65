"""Rows from elsewhere into a draft, over HTTP."""

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request

from tunemill.curator_api import draft_store
from tunemill.curator_api.access import Person
from tunemill.curator_api.curator import Curator, Here
from tunemill.curator_api.datasets import ThisDataset
from tunemill.curator_api.errors import InvalidRow, Unprocessable
from tunemill.curator_api.gather import policy
from tunemill.curator_api.openai_chat import from_line
from tunemill.curator_api.payloads import ImportOut, LineError
from tunemill.curator_api.private import let_in, refuse_private
from tunemill.curator_api.problems import responses
from tunemill.curator_api.rows import Row

router = APIRouter(prefix="/v1/datasets/{name}", tags=["draft rows"])

ERRORS_SHOWN = 100

_JSONL_BODY = {
    "requestBody": {"required": True, "content": {"application/jsonl": {"schema": {"type": "string"}}}},
}


@router.post("/import", responses=responses(400, 404, 422), openapi_extra=_JSONL_BODY)
async def import_rows(name: ThisDataset, request: Request, here: Here, _person: Person) -> ImportOut:
    """Add rows from OpenAI's chat format, one JSON object a line. Lines that cannot be imported are named; the others are.

    422 `invalid-row` where no line could be imported; `errors` names the first 100.
    """
    return await asyncio.to_thread(_import, here, name, await request.body())


def _checked_line(line: bytes, allowed: frozenset[str]) -> Row:
    row = from_line(line)
    refuse_private(row.messages, row.tools, known=allowed)
    return row


def _import(curator: Curator, name: str, body: bytes) -> ImportOut:
    registry, project = curator.registry, curator.settings.project
    draft_store.find(registry, project, name)
    allowed = let_in(policy(curator))
    rows: list[tuple[int, Row]] = []
    errors: list[LineError] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append((number, _checked_line(line, allowed)))
        except InvalidRow as error:
            errors.append(LineError(line=number, reason=error.detail))
    if not rows and not errors:
        raise Unprocessable("the body has no lines: send OpenAI's chat format, one JSON object a line")
    if not rows:
        raise _no_row(errors)
    fresh = draft_store.add_imported(registry, project, name, rows)
    return ImportOut(
        lines=len(rows) + len(errors),
        imported=fresh,
        known=len(rows) - fresh,
        failed=len(errors),
        errors=errors[:ERRORS_SHOWN],
    )


def _no_row(errors: Sequence[LineError]) -> InvalidRow:
    first = errors[0]
    detail = f"none of {len(errors)} lines could be imported; line {first.line}: {first.reason}"
    return InvalidRow(detail, errors=[error.model_dump() for error in errors[:ERRORS_SHOWN]])
