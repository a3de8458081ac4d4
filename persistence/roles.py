"""What each process may do in Postgres. ``flashsale migrate`` gives exactly this to those of the roles that exist; the
tables stay its own, and nobody else may change a schema, empty a table, or rewrite what was recorded.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.sql.ddl import sort_tables

from persistence.tables import metadata

API: Final = "flashsale_api"
WORKER: Final = "flashsale_worker"
OPS: Final = "flashsale_ops"
"""Reads, for people and dashboards: everything but what ``HIDDEN`` names."""
ROLES: Final = (API, WORKER, OPS)

_READ: Final = "SELECT"
_ADD: Final = "SELECT, INSERT"
_KEEP: Final = "SELECT, INSERT, UPDATE"

_BOTH: Final = {
    "alembic_version": _READ,
    "sales": _KEEP,
    "claims": _KEEP,
    "cursors": _KEEP,
    "products": _KEEP,
    "labels": _ADD,
    "holds": _KEEP,
    "orders": _KEEP,
    "order_lines": _KEEP,
    "payments": _KEEP,
    "attempts": _KEEP,
    "refunds": _KEEP,
    "ledger": _ADD,
    "order_feed": "SELECT, UPDATE",
    "order_changes": _ADD,
    "set_aside": _ADD,
    "audit": _ADD,
    # A key that is given up, or whose sale left Redis, is forgotten.
    "answers": "SELECT, INSERT, UPDATE, DELETE",
}
RIGHTS: Final[Mapping[str, Mapping[str, str]]] = {
    API: _BOTH | {"secrets": _READ, "webhook_events": "SELECT, INSERT, UPDATE (due_at)", "disputes": _READ},
    WORKER: _BOTH
    | {
        "claims": "SELECT, INSERT, UPDATE, DELETE",
        "webhook_events": "SELECT, UPDATE",
        "disputes": _KEEP,
    },
}
"""Role -> table -> rights."""

HIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "secrets": frozenset({"name", "value"}),
    "payments": frozenset({"client_secret"}),
    "attempts": frozenset({"parameters"}),
    "answers": frozenset({"body"}),
    "order_changes": frozenset({"order"}),
    "webhook_events": frozenset({"payload"}),
}
"""Columns that ``OPS`` does not see: they hold, or may hold, a payment's client secret or a card's id."""


def grant(conn: Connection) -> list[str]:
    """Give the roles that exist their rights and take all others from them; which they are. Within the caller's
    transaction, so that no moment is without rights.
    """
    found = conn.scalars(
        text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:roles) ORDER BY rolname"), {"roles": list(ROLES)}
    ).all()
    for role in found:
        conn.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"))
        for statement in _statements(role):
            conn.execute(text(statement))
    return list(found)


def _statements(role: str) -> list[str]:
    if role != OPS:
        return [f'GRANT {rights} ON "{table}" TO {role}' for table, rights in RIGHTS[role].items()]
    statements = [f"GRANT SELECT ON alembic_version TO {role}"]
    for table in sort_tables(metadata.tables.values()):
        seen = [f'"{column.name}"' for column in table.columns if column.name not in HIDDEN.get(table.name, ())]
        if seen:
            statements.append(f'GRANT SELECT ({", ".join(seen)}) ON "{table.name}" TO {role}')
    return statements
