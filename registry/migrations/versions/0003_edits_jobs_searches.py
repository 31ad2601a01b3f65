"""People's edits numbered per log, work on many logs of any kind, saved searches, and how long logs are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Make the tables, and move into them what was in those whose place they take."""
    _edits()
    _jobs()
    op.create_table(
        "saved_searches",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", name=op.f("pk_saved_searches")),
    )
    op.create_table(
        "retention",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("max_age_days", sa.Integer(), nullable=True, comment="older logs go; null: however old"),
        sa.Column(
            "max_bytes",
            sa.BigInteger(),
            nullable=True,
            comment="the oldest logs go until the index fits; null: however large",
        ),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", name=op.f("pk_retention")),
    )


def _edits() -> None:
    """Tag edits become edits, numbered per log in their order."""
    op.create_table(
        "edits",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("log_id", sa.String(length=512), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="counts up per log"),
        sa.Column(
            "kind", sa.String(length=16), nullable=False, comment="tag | untag | reset | messages | consent | erase"
        ),
        sa.Column("tag", sa.String(length=256), nullable=True, comment="of tag, untag and reset"),
        sa.Column(
            "value",
            sa.JSON(),
            nullable=True,
            comment="messages: {messages, output}; consent: the word; null: as the log came; tags: who set it before",
        ),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=True, comment="the work on many logs that it was part of"),
        sa.Column(
            "applied_ms", sa.BigInteger(), nullable=True, comment="when the index had it; null: it is not known to"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_edits")),
        sa.UniqueConstraint("project", "log_id", "revision", name=op.f("uq_edits_project_log_id_revision")),
    )
    for column in ("tag", "job_id", "applied_ms"):
        op.create_index(op.f(f"ix_edits_{column}"), "edits", [column])
    # Each number is taken over, so that the order is; on PostgreSQL the next ones must then be told to be higher.
    op.execute("""
        INSERT INTO edits (seq, project, log_id, revision, kind, tag, "by", ts_ms, applied_ms)
        SELECT seq, project, log_id, row_number() OVER (PARTITION BY project, log_id ORDER BY seq),
            CASE action WHEN 'add' THEN 'tag' ELSE 'untag' END, tag, "by", ts_ms, ts_ms
        FROM tag_edits
    """)
    if op.get_context().dialect.name == "postgresql":
        op.execute("SELECT setval(pg_get_serial_sequence('edits', 'seq'), max(seq)) FROM edits HAVING max(seq) > 0")
    op.drop_table("tag_edits")


def _jobs() -> None:
    """Backfills become jobs of the kind `rules`."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="what is done: rules, ..."),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("work", sa.JSON(), nullable=True, comment="what to do to each log, by kind"),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column(
            "revision", sa.Integer(), nullable=True, comment="of the rules that it applies, if its kind is rules"
        ),
        sa.Column(
            "status",
            sa.String(length=16),
            nullable=False,
            comment="running | done | failed | cancelled | undoing | undone",
        ),
        sa.Column("total", sa.Integer(), nullable=False, comment="logs that matched when it began"),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column(
            "place",
            sa.JSON(),
            nullable=True,
            comment="how far it is, by kind; of rules [ts_ms, log_id], for an undo [log_id]",
        ),
        sa.Column("result", sa.JSON(), nullable=True, comment="what came of it, by kind"),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True, comment="code, message"),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_status"), "jobs", ["status"])
    op.create_table(
        "job_changes",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("log_id", sa.String(length=512), nullable=False),
        sa.Column("added", sa.JSON(), nullable=False, comment="[tag, by] pairs"),
        sa.Column("taken", sa.JSON(), nullable=False, comment="[tag, by] pairs"),
        sa.PrimaryKeyConstraint("job_id", "log_id", name=op.f("pk_job_changes")),
    )
    op.execute("""
        INSERT INTO jobs (job_id, project, kind, query, revision, status, total, seen, changed, place, lease_owner,
            lease_until_ms, error, "by", created_ms, finished_ms)
        SELECT backfill_id, project, 'rules', query, revision, status, total, seen, changed, place, lease_owner,
            lease_until_ms, error, "by", created_ms, finished_ms
        FROM backfills
    """)
    op.execute("INSERT INTO job_changes SELECT backfill_id, log_id, added, taken FROM backfill_changes")
    op.drop_table("backfill_changes")
    op.drop_table("backfills")
