"""Holds in payment whose time ran out: ask the provider, cancel there, then release. Money that came in time is
settled.
"""

import random
from collections.abc import Sequence
from concurrent.futures import Executor, wait
from typing import Any, cast

from sqlalchemy import func, select

from engine import commands, ids, keys
from engine.command import run
from engine.records import Position
from payments import dues, records
from payments.context import Context
from payments.settle import Effect, end_lost, release_unasked
from persistence.tables import cursors, holds, orders, sales

_LOST_SHARE = 0.05
"""Of the runs after a rebuild, how many look for orders that were lost with Redis's data: seldom any."""


def run_once(ctx: Context, sale_id: str, pool: Executor, limit: int = 500) -> int:
    """Take up a sale's overdue payments, the longest overdue first. How many. Raises ``RedisError``."""
    shown = run(ctx.redis, commands.show(sale_id, []))
    if shown.sale is None or shown.sale.fenced:
        return 0
    key, now_ms = keys.payments(sale_id), shown.now_ms
    found: Sequence[tuple[bytes, float]] = cast(
        Any, ctx.redis.zrangebyscore(key, "-inf", now_ms, start=0, num=limit, withscores=True)
    )
    grace_ms = ctx.settings.payment_grace_seconds * 1000
    begun, released = [], 0
    for token, deadline_ms in found:
        order_id = ids.order_id(sale_id, token.decode())
        if _begin(ctx, order_id):
            ctx.checkpoint("expiry recorded")
            begun.append(pool.submit(dues.work, ctx, order_id))
        elif deadline_ms + grace_ms <= now_ms:
            # Asked for long enough. A provider that is silent, or a bank that is undecided, holds no units for ever.
            released += release_unasked(ctx, order_id).effect is Effect.ENDED
    wait(begun)
    if shown.position.epoch > 1 and random.random() < _LOST_SHARE:  # noqa: S311 - spreads looks, hides nothing
        released += end_lost_orders(ctx, sale_id)
    return len(begun) + released


def end_lost_orders(ctx: Context, sale_id: str, limit: int = 100) -> int:
    """End orders whose holds neither Redis nor Postgres has: Redis lost them before they were drained, and the sale
    was rebuilt without them. How many.
    """
    grace = records.seconds(ctx.settings.payment_grace_seconds)
    query = (
        select(orders.c.id)
        .join(sales, sales.c.id == orders.c.sale_id)
        .outerjoin(holds, holds.c.id == orders.c.hold_id)
        .where(orders.c.sale_id == sale_id, orders.c.status == "pending_payment", holds.c.id.is_(None))
        .where(orders.c.created_at < func.now() - sales.c.payment_ttl_ms * records.seconds(0.001) - grace)
        .limit(limit)
    )
    with ctx.db.connect() as conn:
        cursor = conn.execute(select(cursors.c.epoch, cursors.c.seq).where(cursors.c.sale_id == sale_id)).one()
        found = list(conn.scalars(query))
    if not found:
        return 0
    answer, known = run(ctx.redis, commands.peek(sale_id, [order_id[-ids.TOKEN_LENGTH :] for order_id in found]))
    if answer.position < Position(cursor.epoch, cursor.seq):
        return 0  # it has lost data again, and is rebuilt first
    lost = [order_id for order_id, hold in zip(found, known, strict=True) if hold is None]
    return sum(end_lost(ctx, order_id).effect is Effect.ENDED for order_id in lost)


def _begin(ctx: Context, order_id: str) -> bool:
    """Record that the order is to be cancelled, unless that is so. An order that the drain has yet to bring waits
    for it.
    """
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None or order.status != "pending_payment" or order.due in ("cancel", "void", "release"):
            return False
        records.owe(conn, order_id, "cancel", dues.LEASE_SECONDS)
        if order.ended_because is None:
            records.write_reason(conn, order_id, "expired")
        return True
