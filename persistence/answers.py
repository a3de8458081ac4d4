"""First answers by Idempotency-Key, for the routes that work through Postgres. Only what was done is remembered."""

from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from persistence.tables import answers


class Known(StrEnum):
    """What is known of a key when a request comes with it."""

    NEW = "new"
    PENDING = "pending"
    """The same request is under way, or was cut off: do it again, each step finds what was done."""
    ANSWERED = "answered"
    MISMATCH = "mismatch"
    """The key came with another body before."""


class Claim(NamedTuple):
    """``status`` and ``body`` are there for ``answered``: the first answer, byte for byte."""

    known: Known
    status: int = 0
    body: bytes = b""


def claim(conn: Connection, route: str, key: str, digest: str, sale_id: str | None = None) -> Claim:
    """Take a key for a request. ``route`` is the concrete method and path; ``digest`` is of the body. Commit before
    the work starts, so that the same request again finds the claim.
    """
    row = answers.c
    mine = insert(answers).values(route=route, key=key, digest=digest, sale_id=sale_id)
    while True:
        if conn.scalar(mine.on_conflict_do_nothing().returning(row.key)) is not None:
            return Claim(Known.NEW)
        found = conn.execute(
            select(row.digest, row.status, row.body).where(row.route == route, row.key == key)
        ).one_or_none()
        if found is None:
            continue  # forgotten in between
        if found.digest != digest:
            return Claim(Known.MISMATCH)
        if found.status is None:
            return Claim(Known.PENDING)
        return Claim(Known.ANSWERED, found.status, found.body)


def remember(conn: Connection, route: str, key: str, status: int, body: bytes, sale_id: str | None = None) -> None:
    """Keep the first answer, in the transaction that did what it says. A second one changes nothing."""
    row = answers.c
    conn.execute(
        update(answers)
        .where(row.route == route, row.key == key, row.status.is_(None))
        .values(status=status, body=body, sale_id=func.coalesce(sale_id, row.sale_id))
    )


def forget(conn: Connection, route: str, key: str) -> None:
    """Drop a claim whose request was refused: the same key may succeed later. An answer that was given stays."""
    row = answers.c
    conn.execute(delete(answers).where(row.route == route, row.key == key, row.status.is_(None)))


def forget_sale(conn: Connection, sale_id: str) -> None:
    """Drop a sale's answers, 24 h after it ended, and what was cut off two days ago before its sale was known."""
    row = answers.c
    conn.execute(delete(answers).where(row.sale_id == sale_id))
    conn.execute(
        delete(answers).where(
            row.sale_id.is_(None), row.status.is_(None), row.created_at < func.now() - text("interval '2 days'")
        )
    )
