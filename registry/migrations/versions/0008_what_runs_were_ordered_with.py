"""A run keeps the digests of what its recipe named when it was ordered."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    """Add the column."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(
            sa.Column(
                "identity",
                sa.JSON(),
                nullable=True,
                comment="digests of what the recipe named when the run was ordered",
            )
        )
