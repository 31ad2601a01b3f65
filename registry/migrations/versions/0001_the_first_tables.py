"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "api_keys",
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False, comment="the public part, fit for logs"),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_sha256", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=600), nullable=False, comment="ids only, never content"),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_table(
        "datasets",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("draft", sa.JSON(), nullable=False, comment="the recipe: query, limit, seed, test share"),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", name=op.f("pk_datasets")),
    )
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("log_id", sa.String(length=512), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("erasure_id", name=op.f("pk_erasures")),
        sa.UniqueConstraint("project", "log_id", name=op.f("uq_erasures_project_log_id")),
    )
    op.create_table(
        "imported_rows",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("row_key", sa.String(length=512), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, comment="line in the imported file"),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("tools", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("project", "name", "row_key", name=op.f("pk_imported_rows")),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("topic", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False, comment="the Avro bytes to publish"),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_sent_ms"), ["sent_ms"], unique=False)

    op.create_table(
        "row_edits",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("row_key", sa.String(length=512), nullable=False, comment="the log_id, or the id of an imported row"),
        sa.Column("action", sa.String(length=8), nullable=False, comment="edit | delete"),
        sa.Column("messages", sa.JSON(), nullable=True, comment="the row's messages after the edit"),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", "row_key", name=op.f("pk_row_edits")),
    )
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False, comment="info | warn | error"),
        sa.Column("type", sa.String(length=16), nullable=False, comment="message | metrics"),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_run_events")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("run_key", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("manifest_url", sa.Text(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False, comment="resolved: no value is left to be derived"),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column(
            "attempt", sa.Integer(), nullable=False, comment="the fencing token: a writer with an older one is refused"
        ),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_ms", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=True, comment="step, steps, loss, tokens_per_s"),
        sa.Column("result", sa.JSON(), nullable=True, comment="scores before and after, gates, artefacts"),
        sa.Column("error", sa.JSON(), nullable=True, comment="code, message, remedy"),
        sa.Column("artefact_url", sa.Text(), nullable=True),
        sa.Column("trained_tokens", sa.BigInteger(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=True),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
        sa.UniqueConstraint("run_key", name=op.f("uq_runs_run_key")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_status"), ["status"], unique=False)

    op.create_table(
        "tag_edits",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("log_id", sa.String(length=512), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False, comment="add | remove"),
        sa.Column("tag", sa.String(length=256), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_tag_edits")),
    )
    with op.batch_alter_table("tag_edits", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tag_edits_log_id"), ["log_id"], unique=False)

    op.create_table(
        "versions",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("manifest_url", sa.Text(), nullable=False),
        sa.Column(
            "provenance_path",
            sa.Text(),
            nullable=False,
            comment="which logs say what each row says; relative to the dataset's folder",
        ),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("splits", sa.JSON(), nullable=False, comment="rows per split"),
        sa.Column("draft", sa.JSON(), nullable=False, comment="the recipe as it stood"),
        sa.Column("report", sa.JSON(), nullable=False, comment="rows in and out by reason"),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "idempotency_key",
            sa.String(length=128),
            nullable=True,
            comment="the caller's: publishing again with it gives this version again",
        ),
        sa.ForeignKeyConstraint(
            ["project", "name"], ["datasets.project", "datasets.name"], name=op.f("fk_versions_datasets")
        ),
        sa.PrimaryKeyConstraint("project", "name", "version", name=op.f("pk_versions")),
        sa.UniqueConstraint(
            "project", "name", "idempotency_key", name=op.f("uq_versions_project_name_idempotency_key")
        ),
    )
