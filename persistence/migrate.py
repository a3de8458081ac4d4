"""Brings Postgres to the current schema. Migrations go forward only, all of them in one transaction: it is all of
them or none.
"""

import secrets

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.dialects.postgresql import insert

from persistence import database, roles
from persistence.tables import order_feed
from persistence.tables import secrets as secrets_table

_LOCK = 0x666C617368  # "flash"


class NewerSchema(RuntimeError):
    """The database was migrated by a newer version than this one."""


def migrate(url: str) -> list[str]:
    """Apply what is missing, and give the roles that exist their rights (``persistence.roles``); the names of the
    revisions that were applied. Safe to run twice at once: the second one waits for the first.
    """
    engine = database.connect(url, pool_size=1)
    try:
        with engine.begin() as conn:
            # Held by the transaction and not by the session, so that it is right behind a pooler too.
            conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            config = _config()
            missing = _missing(config, conn)
            if missing:
                config.attributes["connection"] = conn
                command.upgrade(config, "head")
            _seed(conn)
            roles.grant(conn)
            return missing
    finally:
        engine.dispose()


def pending(db: str | Engine) -> list[str]:
    """The revisions that ``migrate`` would apply. Raises ``NewerSchema``."""
    if isinstance(db, Engine):
        with db.connect() as conn:
            return _missing(_config(), conn)
    engine = database.connect(db, pool_size=1)
    try:
        return pending(engine)
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "persistence:migrations")
    return config


def _missing(config: Config, conn: Connection) -> list[str]:
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    current = MigrationContext.configure(conn).get_current_revision()
    if current is None:
        return known
    if current not in known:
        raise NewerSchema(
            f"the database is at revision {current}, which this version does not know: install a newer one"
        )
    return known[known.index(current) + 1 :]


def _seed(conn: Connection) -> None:
    """The rows without which nothing works."""
    secret = secrets.token_bytes(32)
    conn.execute(insert(secrets_table).values(name="ids", value=secret).on_conflict_do_nothing())
    if conn.scalar(select(order_feed.c.last)) is None:
        conn.execute(insert(order_feed).values(only=True).on_conflict_do_nothing())
