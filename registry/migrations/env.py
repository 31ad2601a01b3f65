"""What Alembic runs for each command: migrate over the connection, and in the transaction, that `registry.open` hands it."""

from alembic import context

from tunemill.registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
