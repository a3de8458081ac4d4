"""Alembic's way in. ``persistence.migrate`` brings the connection, in the transaction that holds the lock."""

from alembic import context

from persistence.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
