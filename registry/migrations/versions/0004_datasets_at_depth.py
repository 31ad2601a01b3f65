"""Recipes, versions that have aliases and revisions, erasures with receipts, licences of models, webhooks."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Add the tables and columns, and make recipes of the drafts."""
    _columns()
    _versions()
    _recipes()
    _erasures()
    _webhooks()


def _columns() -> None:
    with op.batch_alter_table("row_edits") as table:
        table.add_column(
            sa.Column(
                "rejected",
                sa.JSON(),
                nullable=True,
                comment="of a row with a better and a worse answer: the worse one after the edit",
            )
        )
    with op.batch_alter_table("imported_rows") as table:
        table.add_column(
            sa.Column(
                "rejected",
                sa.JSON(),
                nullable=True,
                comment="of a row with a better and a worse answer: the worse one",
            )
        )
        table.add_column(
            sa.Column(
                "source",
                sa.String(length=200),
                nullable=False,
                server_default=sa.text("''"),
                comment="the file or set that it came from",
            )
        )
        table.add_column(
            sa.Column("licence", sa.String(length=200), nullable=True, comment="of the set that it came from")
        )
        table.add_column(
            sa.Column(
                "conversation", sa.String(length=256), nullable=True, comment="null: told by how the messages begin"
            )
        )


def _versions() -> None:
    """Versions of the old format stay listed; their parts are not read any more."""
    with op.batch_alter_table("versions") as table:
        table.drop_column("provenance_path")
        table.add_column(
            sa.Column("shape", sa.String(length=16), nullable=False, server_default="chat", comment="chat | preference")
        )
        table.add_column(
            sa.Column(
                "revision",
                sa.Integer(),
                nullable=False,
                server_default="1",
                comment="counts up when erased rows are taken out",
            )
        )
        table.add_column(sa.Column("parent", sa.Integer(), nullable=True, comment="the version that it follows"))
        table.add_column(
            sa.Column(
                "point_ms",
                sa.BigInteger(),
                nullable=False,
                server_default="0",
                comment="the point in time that it is of",
            )
        )
        table.add_column(
            sa.Column(
                "sources_url",
                sa.Text(),
                nullable=False,
                server_default=sa.text("''"),
                comment="what names the files that say whence each row",
            )
        )
        table.add_column(
            sa.Column(
                "lineage", sa.JSON(), nullable=True, comment="searches, versions and imports that it was made from"
            )
        )
    op.create_table(
        "aliases",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("alias", sa.String(length=63), nullable=False, comment="never `latest`, which is computed"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", "alias", name=op.f("pk_aliases")),
    )
    op.create_table(
        "redactions",
        sa.Column("redaction_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="of the version, after it"),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("replaces_digest", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=32), nullable=False, comment="the erasure that asked for it"),
        sa.Column("rows_removed", sa.Integer(), nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("redaction_id", name=op.f("pk_redactions")),
        sa.UniqueConstraint(
            "project", "name", "version", "revision", name=op.f("uq_redactions_project_name_version_revision")
        ),
    )
    op.create_index(op.f("ix_redactions_request_id"), "redactions", ["request_id"])
    op.create_table(
        "model_licences",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column(
            "model",
            sa.String(length=256),
            nullable=False,
            comment="may end in *; of those that fit, the longest holds",
        ),
        sa.Column(
            "trainable",
            sa.String(length=8),
            nullable=False,
            comment="yes | no: whether its output may be trained on",
        ),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "model", name=op.f("pk_model_licences")),
    )


def _recipes() -> None:
    """What a draft said in four fields is a recipe of one search with whatever was imported."""
    for table, keys in (("datasets", ("project", "name")), ("versions", ("project", "name", "version"))):
        stored = sa.table(table, *(sa.column(key) for key in keys), sa.column("draft", sa.JSON()))
        connection = op.get_bind()
        for row in connection.execute(sa.select(stored)).all():
            here = sa.and_(*(stored.c[key] == getattr(row, key) for key in keys))
            connection.execute(sa.update(stored).where(here).values(draft=_recipe(row.draft)))


def _recipe(draft: dict[str, Any]) -> dict[str, Any]:
    search: dict[str, Any] = {"kind": "search", "query": draft["query"]}
    if draft.get("limit") is not None:
        search["limit"] = draft["limit"]
    kept: dict[str, Any] = {key: draft[key] for key in ("seed", "test_share") if key in draft}
    return {"ingredients": [search, {"kind": "imported"}], **kept}


def _erasures() -> None:
    op.create_table(
        "erasure_requests",
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column(
            "scope",
            sa.JSON(),
            nullable=False,
            comment="kind, SHA-256 of the value; the value itself only until it is done",
        ),
        sa.Column("status", sa.String(length=16), nullable=False, comment="running | done | failed"),
        sa.Column("receipt", sa.JSON(), nullable=True, comment="what was removed where; never text"),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_erasure_requests")),
    )
    op.create_index(op.f("ix_erasure_requests_status"), "erasure_requests", ["status"])
    op.create_table(
        "erasure_items",
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column(
            "kind", sa.String(length=8), nullable=False, comment="log | answer | trace | note | value | row | media"
        ),
        sa.Column("name", sa.String(length=512), nullable=False, comment="its id"),
        sa.PrimaryKeyConstraint("request_id", "kind", "name", name=op.f("pk_erasure_items")),
    )


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column(
            "secret", sa.Text(), nullable=False, comment="what deliveries are signed with: it has to be known here"
        ),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook_id", sa.String(length=32), nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=True, comment="null: it was sent, or given up"),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column(
            "last_error", sa.String(length=64), nullable=True, comment="a class or a status, never an answer's text"
        ),
        sa.PrimaryKeyConstraint("webhook_id", "event_id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_next_ms"), "webhook_deliveries", ["next_ms"])
