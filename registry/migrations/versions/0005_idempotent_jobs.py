"""A key by which a caller asks for work on many logs once, however often they send it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Add the columns, and one job a key."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(
            sa.Column(
                "idempotency_key",
                sa.String(length=128),
                nullable=True,
                comment="the caller's: asking again with it gives this job again",
            )
        )
        jobs.add_column(
            sa.Column(
                "request_digest",
                sa.String(length=64),
                nullable=True,
                comment="of what was asked for, if there is such a key",
            )
        )
        jobs.create_unique_constraint(op.f("uq_jobs_project_idempotency_key"), ["project", "idempotency_key"])
