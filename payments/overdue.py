"""Holds in payment whose time ran out: ask the provider, cancel there, then release. Money that came in time is
settled. And orders whose hold was lost with Redis's data, which no deadline would end.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, wait
from contextlib import suppress
from typing import Any, cast

from engine import commands, ids, keys
from engine.command import run
from payments import dues, records
from payments.context import Context
from payments.settle import Effect, release_unasked
from persistence.rebuild import RebuildRefused, restore_orders


def run_once(ctx: Context, sale_id: str, pool: Executor, limit: int = 500) -> int:
    """Take up a sale's overdue payments, the longest overdue first. How many. Raises ``RedisError``."""
    shown = run(ctx.redis, commands.show(sale_id, []))
    if shown.sale is None or shown.sale.fenced:
        return 0
    if shown.position.epoch > 1:
        with suppress(RebuildRefused):  # one has begun since, and it sees them
            restore_orders(ctx.db, ctx.redis, sale_id)
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
    return len(begun) + released


def _begin(ctx: Context, order_id: str) -> bool:
    """Record that the order is to be cancelled, unless that is so. An order that the drain has yet to bring waits
    for it.
    """
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None or order.status != "pending_payment" or order.due in ("cancel", "void", "release"):
            return False
        records.owe(conn, order_id, "cancel", ctx.lease_seconds)
        if order.ended_because is None:
            records.write_reason(conn, order_id, "expired")
        return True
