"""An imported row keeps that its set holds it out of training."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"


def upgrade() -> None:
    """Add the column."""
    with op.batch_alter_table("imported_rows") as imported_rows:
        imported_rows.add_column(
            sa.Column(
                "held_out",
                sa.Boolean(),
                nullable=False,
                server_default=sa.false(),
                comment="by its set, which has it for testing or validation",
            )
        )
