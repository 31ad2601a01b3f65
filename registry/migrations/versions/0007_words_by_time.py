"""What people said of a kind since a moment is found without reading all that was ever said."""

from alembic import op

revision = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    """Add the indices."""
    op.create_index(op.f("ix_edits_project"), "edits", ["project", "kind", "ts_ms"])
    op.create_index(op.f("ix_audit_project"), "audit", ["project", "action", "ts_ms"])
