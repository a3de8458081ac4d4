"""What people did, written where they did it."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, insert, select

from engine.shapes import rfc3339
from persistence.database import reading
from persistence.tables import audit

LIMIT_MAX: Final = 1000


class Entry(msgspec.Struct, frozen=True):
    """``action`` on ``subject``, which is a sale, a product, an order or a customer."""

    id: int
    at: str
    action: str
    subject: str
    detail: dict[str, Any]


_by: list[str] = []


def act_as(name: str) -> None:
    """Say who acts in this process from now on, as ``cli alice@host`` or ``admin token``."""
    _by[:] = [name]


def note(conn: Connection, action: str, subject: str, **detail: object) -> None:
    """Write it down, in the transaction of what was done, with who did it in ``by``."""
    by = {"by": _by[0]} if _by else {}
    conn.execute(insert(audit).values(action=action, subject=subject, detail=detail | by))


def list_entries(db: Engine, limit: int, subject: str | None = None, before: int | None = None) -> list[Entry]:
    """The newest ``limit`` entries, of ``subject`` or of all, older than ``before``; the newest first."""
    row = audit.c
    query = select(row.id, row.at, row.action, row.subject, row.detail).order_by(row.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(row.subject == subject)
    if before is not None:
        query = query.where(row.id < before)
    with reading(db) as conn:
        return [
            Entry(found.id, rfc3339(found.at), found.action, found.subject, found.detail)
            for found in conn.execute(query)
        ]


def last_action(conn: Connection, subject: str, actions: tuple[str, ...]) -> str | None:
    """The newest of these actions on ``subject``."""
    row = audit.c
    found: str | None = conn.scalar(
        select(row.action).where(row.subject == subject, row.action.in_(actions)).order_by(row.id.desc()).limit(1)
    )
    return found
