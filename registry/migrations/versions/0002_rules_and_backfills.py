"""What sets tags, and what was changed by applying it to history."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "rule_sets",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column(
            "revision",
            sa.Integer(),
            nullable=False,
            comment="counts up with every change of what sets tags; the highest is in force",
        ),
        sa.Column(
            "document",
            sa.Text(),
            nullable=True,
            comment="the rules, YAML as it was given; NULL: the packaged starter set",
        ),
        sa.Column("learned", sa.JSON(), nullable=False, comment="the learned tags in force: a list of {tag, version}"),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "revision", name=op.f("pk_rule_sets")),
    )
    op.create_table(
        "learned_tags",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("tag", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("model", sa.JSON(), nullable=False, comment="weights by word, bias, threshold"),
        sa.Column("report", sa.JSON(), nullable=False, comment="labels, precision and recall on those held out"),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "tag", "version", name=op.f("pk_learned_tags")),
    )
    op.create_table(
        "backfills",
        sa.Column("backfill_id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="of the rules that it applies"),
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
            comment="[ts_ms, log_id] of the last log that is done; for an undo, [log_id]",
        ),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True, comment="code, message"),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("backfill_id", name=op.f("pk_backfills")),
    )
    op.create_index(op.f("ix_backfills_status"), "backfills", ["status"])
    op.create_table(
        "backfill_changes",
        sa.Column("backfill_id", sa.String(length=32), nullable=False),
        sa.Column("log_id", sa.String(length=512), nullable=False),
        sa.Column("added", sa.JSON(), nullable=False, comment="[tag, by] pairs"),
        sa.Column("taken", sa.JSON(), nullable=False, comment="[tag, by] pairs"),
        sa.PrimaryKeyConstraint("backfill_id", "log_id", name=op.f("pk_backfill_changes")),
    )
