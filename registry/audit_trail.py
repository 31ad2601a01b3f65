"""Who did what to what: a line of the audit is a row of the transaction that does it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert

from tunemill.registry.tables import audit, now_ms


def append(
    connection: Connection, project: str, action: str, *targets: str, by: str, data: Mapping[str, Any] | None = None
) -> None:
    """Add a line for each target to the caller's open transaction.

    Args:
        action: what was done, as `version.publish`.
        targets: what it was done to: ids and names, never content.
        data: what is to be known of it beside; never content, either.
    """
    line = {"ts_ms": now_ms(), "project": project, "by": by, "action": action}
    if data is not None:  # given as None, a JSON column would hold JSON's null
        line["data"] = dict(data)
    connection.execute(insert(audit), [{**line, "target": target} for target in targets])
