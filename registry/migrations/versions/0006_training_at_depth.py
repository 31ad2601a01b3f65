"""Runs have a priority, a plan and the sources of their rows; models have aliases, and datasets a training policy."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Add the columns to runs, then the tables."""
    _runs()
    _model_aliases()
    _training_policies()


def _runs() -> None:
    op.drop_index(op.f("ix_runs_status"), "runs")
    with op.batch_alter_table("runs") as runs:
        runs.alter_column(
            "recipe",
            existing_type=sa.JSON(),
            existing_nullable=False,
            comment="with its defaults; the plan has what `auto` came to",
            existing_comment="resolved: no value is left to be derived",
        )
        runs.add_column(
            sa.Column(
                "priority",
                sa.Integer(),
                server_default="0",
                nullable=False,
                comment="of those that wait, the highest is next",
            )
        )
        runs.add_column(
            sa.Column(
                "sources_url",
                sa.Text(),
                server_default=sa.text("''"),
                nullable=False,
                comment="what names the files that say whence each row",
            )
        )
        runs.add_column(
            sa.Column("plan", sa.JSON(), nullable=True, comment="what was settled before training, with reasons")
        )
        runs.add_column(
            sa.Column(
                "launcher", sa.String(length=64), nullable=True, comment="what runs it, and as which job; for a person"
            )
        )
    op.create_index(op.f("ix_runs_status"), "runs", ["status", "priority", "created_ms"])


def _model_aliases() -> None:
    op.create_table(
        "model_aliases",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False, comment="the dataset"),
        sa.Column("alias", sa.String(length=63), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="of a person who set it against a gate"),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", "alias", name=op.f("pk_model_aliases")),
    )


def _training_policies() -> None:
    op.create_table(
        "training_policies",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False, comment="the dataset"),
        sa.Column("train_on", sa.String(length=72), nullable=False, comment="version | alias:<alias>"),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column(
            "quiet_s",
            sa.Integer(),
            nullable=False,
            comment="without another version before the last one is trained on",
        ),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True, comment="when it is trained on; null: nothing waits"),
        sa.Column("due_version", sa.Integer(), nullable=True, comment="what is then trained on"),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", name=op.f("pk_training_policies")),
    )
    op.create_index(op.f("ix_training_policies_due_ms"), "training_policies", ["due_ms"])
