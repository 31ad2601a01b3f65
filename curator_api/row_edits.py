"""What people do to rows of a draft: whether it may be done, and where it is kept."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tunemill.curator_api import draft_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import NotFound
from tunemill.curator_api.gather import policy
from tunemill.curator_api.logs import find_log
from tunemill.curator_api.openai_chat import checked_messages
from tunemill.curator_api.private import let_in, private_in, refuse_private
from tunemill.curator_api.recipe import FromVersion, Recipe
from tunemill.curator_api.rows import Messages, RowEdit, is_imported, own_messages


async def change_row(curator: Curator, name: str, row_key: str, edit: RowEdit | None, *, by: str) -> None:
    """Change a row of a draft; None takes it out.

    Raises:
        NotFound: there is no such dataset, or no such row.
        InvalidRow: the messages bring secrets or private data in.
    """
    registry, project = curator.registry, curator.project
    draft = (await asyncio.to_thread(draft_store.find, registry, project, name)).draft
    await check_change(curator, name, draft, row_key, edit)
    await asyncio.to_thread(draft_store.edit_rows, registry, project, name, {row_key: edit}, by=by)


def checked_edit(messages: Sequence[Any], rejected: Sequence[Any]) -> RowEdit:
    """The edit that a client asks for.

    Raises:
        InvalidRow: messages that cannot be trained on.
    """
    better = checked_messages(list(messages))
    if not rejected:
        return RowEdit(better)
    worse = checked_messages([*messages[:-1], *rejected])
    return RowEdit(better, worse[len(better) - 1 :])


async def check_change(curator: Curator, name: str, draft: Recipe, row_key: str, edit: RowEdit | None) -> None:
    """Return if the draft may hold this row, and the edit brings nothing in that may not be there.

    Raises:
        NotFound: there is no such row.
        InvalidRow: the messages bring secrets or private data in.
    """
    own = await _own(curator, name, draft, row_key)
    if edit is not None:
        await asyncio.to_thread(_refuse_what_is_new, curator, edit, own)


async def _own(curator: Curator, name: str, draft: Recipe, row_key: str) -> Messages:
    """What the row's log says; nothing for a row that is no log's."""
    from_version = any(isinstance(one, FromVersion) for one in draft.ingredients)
    try:
        if not is_imported(row_key):
            return own_messages((await find_log(curator, row_key)).shown)
        if not await asyncio.to_thread(draft_store.has_imported, curator.registry, curator.project, name, row_key):
            raise NotFound(f"there is no row {row_key!r} in the draft of {name!r}")
    except NotFound:
        if not from_version:  # whose rows outlive their logs
            raise
    return ()


def _refuse_what_is_new(curator: Curator, edit: RowEdit, own: Messages) -> None:
    refuse_private((*edit.messages, *edit.rejected), known=private_in(own) | let_in(policy(curator)))
