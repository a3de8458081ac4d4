"""The orders feed: every change of every order, in one order that never changes and has no gaps."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from engine import shapes
from persistence import orders
from persistence.tables import order_changes, order_feed


def append(conn: Connection, order_ids: Iterable[str]) -> None:
    """Say that these orders changed, as they are now. Call it LAST in a transaction: the feed's row stays locked to
    the commit, which is what puts the positions in the order of the commits.
    """
    changed = list(dict.fromkeys(order_ids))
    if not changed:
        return
    last = conn.scalar(update(order_feed).values(last=order_feed.c.last + len(changed)).returning(order_feed.c.last))
    if last is None:
        raise LookupError("the orders feed has no row: run `flashsale migrate`")
    # Read under the lock, so that a later position never shows an earlier state.
    found = orders.read_orders(conn, changed)
    if len(found) != len(changed):
        raise LookupError(f"no such order among {changed}")
    first = last - len(changed) + 1
    conn.execute(
        insert(order_changes).values(changed_at=func.clock_timestamp()),
        [
            {"position": position, "order_id": order.id, "order": shapes.builtins(order)}
            for position, order in enumerate(found, start=first)
        ],
    )


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
