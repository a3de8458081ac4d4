"""The orders feed: every change of every order, in one order that never changes and has no gaps."""

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import Connection, select

from engine import shapes
from persistence import orders
from persistence.statement import Statement
from persistence.tables import order_changes


def append(conn: Connection, order_ids: Iterable[str]) -> None:
    """Say that these orders changed, as they are now. Raises ``LookupError`` for one that does not exist. For the rest
    see ``append_shown``.
    """
    changed = list(dict.fromkeys(order_ids))
    shown = orders.show_orders(conn, changed)
    if len(shown) != len(changed):
        raise LookupError(f"no such order among {changed}")
    append_shown(conn, shown)


def append_shown(conn: Connection, shown: Mapping[str, bytes]) -> None:
    """The same for orders that were just read, as JSON by their ids. Their rows are locked by this transaction, so that
    a later position never shows an earlier state. Call it LAST: the feed's row stays locked to the commit, which is
    what puts the positions in the order of the commits, and everybody who changes an order waits for it.
    """
    if not shown:
        return
    rows = {"ids": list(shown), "shown": [order.decode() for order in shown.values()], "count": len(shown)}
    if _APPEND.on(conn, rows).rowcount != len(shown):
        raise LookupError("the orders feed has no row: run `flashsale migrate`")


# One statement, so that between the lock and the commit there is nothing that somebody waits for.
_APPEND = Statement("""
    WITH feed AS (UPDATE order_feed SET last = last + CAST(:count AS bigint) RETURNING last)
    INSERT INTO order_changes (position, order_id, "order", changed_at)
    SELECT feed.last - CAST(:count AS bigint) + new.nth, new.id, CAST(new.shown AS jsonb), clock_timestamp()
    FROM feed, unnest(CAST(:ids AS text[]), CAST(:shown AS text[])) WITH ORDINALITY AS new (id, shown, nth)
""")


def read(conn: Connection, after: int, limit: int) -> list[shapes.OrderChange]:
    """The changes behind position ``after`` (0: from the first one), ``limit`` at most."""
    row = order_changes.c
    rows = conn.execute(
        select(row.position, row.order, row.changed_at).where(row.position > after).order_by(row.position).limit(limit)
    )
    return [
        shapes.OrderChange(str(position), msgspec.convert(order, shapes.Order), shapes.rfc3339(changed_at))
        for position, order, changed_at in rows
    ]
