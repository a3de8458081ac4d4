"""Refunds: recorded before the provider hears of them, sent under the refund's own id, restocked only when asked,
each once.
"""

import base64
import hashlib
from concurrent.futures import Executor, wait
from typing import Any, Final

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from engine import commands, ids, shapes
from engine.command import run
from engine.outcomes import Outcome
from engine.records import Position
from engine.shapes import Money
from payments import records
from payments.context import Context
from payments.failures import AWAY, describe, trace
from payments.provider import ProviderRefund, ProviderRefused, ProviderUnavailable
from payments.records import OrderRecord
from payments.settle import void_refund_id
from payments.trail import of_order
from persistence import feed
from persistence.database import reading
from persistence.tables import orders, refunds, sales

BACKOFF_MAX_SECONDS: Final = 300
STRIPE_REASONS: Final = frozenset({"duplicate", "fraudulent", "requested_by_customer"})
GIVEN: Final = ("pending", "requires_action", "succeeded")
"""Statuses of a refund whose money is away; ``failed`` and ``canceled`` give it back to the order."""
_RANK: Final = {"succeeded": 1, "failed": 2, "canceled": 2}
RESEND_SECONDS: Final = 3600
RESEND_TRIES_MAX: Final = 6
"""Money for nothing that the bank did not take back is sent again after 1, 2, 4 ... hours; then it is for people."""

log = structlog.get_logger(__name__)


def run_once(ctx: Context, limit: int, pool: Executor) -> int:
    """Finish refunds that were begun, ``limit`` at most. How many were taken up."""
    row = refunds.c
    with ctx.db.begin() as conn:
        ready = (
            select(row.id)
            .where(row.due, row.due_at <= func.now())
            .order_by(row.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        taken = list(
            conn.scalars(
                update(refunds)
                .where(row.id.in_(ready))
                .values(due_at=records.in_seconds(ctx.lease_seconds), tries=row.tries + 1)
                .returning(row.id)
            )
        )
    wait([pool.submit(_work_safely, ctx, refund_id) for refund_id in taken])
    return len(taken)


def _work_safely(ctx: Context, refund_id: str) -> None:
    try:
        work(ctx, refund_id)
    except AWAY as error:
        put_off(ctx, refund_id, describe(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on and this one comes again
        log.error("refund_failed", refund_id=refund_id, error=describe(error), trace=trace(error))  # noqa: TRY400 - no locals
        put_off(ctx, refund_id, describe(error))


def put_off(ctx: Context, refund_id: str, why: str) -> None:
    row = refunds.c
    pause = func.least(func.power(2, func.least(row.tries, 12)), BACKOFF_MAX_SECONDS)
    with ctx.db.begin() as conn:
        conn.execute(
            update(refunds)
            .where(row.id == refund_id, row.due)
            .values(due_at=func.now() + pause * records.seconds(1), last_error=why[:500])
        )


def work(ctx: Context, refund_id: str) -> Position | None:
    """Take a refund from where it is to its end: the provider first, then the units. Where its units' event stands.
    Raises ``ProviderError`` and ``RedisError``; the refund then stays due.
    """
    with reading(ctx.db) as conn:
        row = conn.execute(select(refunds).where(refunds.c.id == refund_id)).one()
        order = records.read(conn, row.order_id)
    assert order is not None
    return _work_on(ctx, order, row) if row.due else None


def _id_of(order: OrderRecord) -> str:
    return order.id


@of_order("order.refund", _id_of)
def _work_on(ctx: Context, order: OrderRecord, row: Any) -> Position | None:
    refund_id = row.id
    if row.provider_id is None or (row.id == void_refund_id(order) and row.status not in GIVEN):
        try:
            made = _create(ctx, order, row)
        except ProviderRefused as refused:
            _refuse(ctx, order, refund_id, refused)
            raise
        ctx.checkpoint("refunded at the provider")
        record(ctx, order.id, refund_id, made, sent=True)
        ctx.checkpoint("refund known")
        status = made.status
        if refund_id == void_refund_id(order) and status not in GIVEN:
            return None  # as ``record`` left it
    else:
        status = row.status
    position = None
    if row.restock and not row.restocked and status in GIVEN:
        position = _restock(ctx, order, refund_id, row.lines)
        ctx.checkpoint("restocked in redis")
    # Units that come back are due until the drain has their event: Redis may lose it before that.
    done = {"due": False} if position is None else {"due_at": records.in_seconds(ctx.lease_seconds)}
    with ctx.db.begin() as conn:
        conn.execute(update(refunds).where(refunds.c.id == refund_id, refunds.c.due).values(**done))
    return position


def _create(ctx: Context, order: OrderRecord, row: Any) -> ProviderRefund:
    parameters: dict[str, Any] = {
        "payment_intent": order.intent_id,
        "metadata": {"refund_id": row.id, "order_id": order.id},
    }
    if row.id != void_refund_id(order):  # that one is of all there is
        parameters["amount"] = row.amount
    if row.reason in STRIPE_REASONS:
        parameters["reason"] = row.reason
    elif row.reason:
        parameters["metadata"]["reason"] = row.reason[:500]
    # One that the bank failed is spent: the next has a key of its own, which is the same until it is known.
    key = row.id if row.provider_id is None else f"{row.id}+{row.provider_id}"
    try:
        return ctx.provider.create_refund(parameters, key)
    except ProviderUnavailable as silence:
        if not silence.stuck or order.intent_id is None:
            raise
    # The provider repeats a failure under this key. What it left behind carries our refund's id; else the key is spent.
    for found in ctx.provider.list_refunds(order.intent_id):
        if found.metadata.get("refund_id") == row.id and (row.provider_id is None or found.status in GIVEN):
            return found
    return ctx.provider.create_refund(parameters, f"{row.id}+{row.tries}")


def _refuse(ctx: Context, order: OrderRecord, refund_id: str, refused: ProviderRefused) -> None:
    """The provider will never do it: the refund ends as failed."""
    with ctx.db.begin() as conn:
        records.lock(conn, order.id)
        values = {"status": "failed", "due": False, "last_error": str(refused)[:500]}
        conn.execute(update(refunds).where(refunds.c.id == refund_id).values(**values))


def _restock(ctx: Context, order: OrderRecord, refund_id: str, lines: list[Any]) -> Position | None:
    """Raises ``RedisError`` where Redis is away or the sale is being restored."""
    pairs = [(product, qty) for product, qty in lines]
    answer = run(ctx.redis, commands.restock(order.sale_id, order.token, refund_id, pairs))
    match answer.outcome:
        case Outcome.RESTOCKED | Outcome.REPLAYED:
            return answer.position
        case Outcome.NO_HOLD | Outcome.NO_SALE | Outcome.FENCED:
            with reading(ctx.db) as conn:
                retired = conn.scalar(select(sales.c.retired_at).where(sales.c.id == order.sale_id))
            if retired is None:
                raise RedisError(f"the sale cannot take units back now: {answer.outcome}")
            why = "the sale is over and left the stock server"
        case _:
            why = f"the units cannot come back: {answer.outcome}"
    with ctx.db.begin() as conn:
        conn.execute(update(refunds).where(refunds.c.id == refund_id).values(last_error=why))
    return None


def record(ctx: Context, order_id: str, refund_id: str, made: ProviderRefund, *, sent: bool = False) -> bool:
    """What the provider says of a refund, ``sent`` where it says so to us who send it; its status never goes
    backwards. Whether anything changed.
    """
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        row = conn.execute(
            select(refunds.c.status, refunds.c.provider_id, refunds.c.tries).where(refunds.c.id == refund_id)
        ).one()
        if order is None or (row.provider_id == made.id and row.status == made.status):
            return False
        another = row.provider_id not in (None, made.id)
        if another and not sent and (row.status in GIVEN or made.status not in GIVEN):
            return False  # it failed, and was sent again since
        values: dict[str, Any] = {"provider_id": made.id}
        if another or _RANK.get(made.status, 0) >= _RANK.get(row.status, 0):
            values["status"] = made.status
            if refund_id == void_refund_id(order) and made.status not in GIVEN:
                pause = RESEND_SECONDS * 2 ** min(row.tries, RESEND_TRIES_MAX)
                values |= {"due": row.tries < RESEND_TRIES_MAX, "due_at": records.in_seconds(pause)}
        if made.failure_reason:
            values["last_error"] = made.failure_reason
        conn.execute(update(refunds).where(refunds.c.id == refund_id).values(**values))
        recount(conn, order)
        feed.append(conn, [order_id])
    return True


def record_foreign(ctx: Context, order: OrderRecord, made: ProviderRefund) -> bool:
    """A refund that others made, at the provider itself."""
    digest = hashlib.sha256(made.id.encode()).digest()[:15]
    refund_id = ids.refund_id(order.sale_id, base64.urlsafe_b64encode(digest).decode())
    with ctx.db.begin() as conn:
        records.lock(conn, order.id)
        conn.execute(
            insert(refunds)
            .values(
                id=refund_id, order_id=order.id, amount=made.amount, status=made.status, due=False, reason=made.reason
            )
            .on_conflict_do_nothing()
        )
    return record(ctx, order.id, refund_id, made)


def recount(conn: Connection, order: OrderRecord) -> None:
    """What is refunded of an order follows from its refunds, and with it whether all of it is."""
    row = refunds.c
    known = select(func.coalesce(func.sum(row.amount), 0)).where(
        row.order_id == order.id, row.provider_id.is_not(None), row.status.in_(GIVEN)
    )
    refunded = min(int(conn.scalar(known) or 0), order.captured)
    records.write_payment(conn, order.id, refunded=refunded)
    status = "refunded" if 0 < order.captured == refunded else "paid"
    conn.execute(
        update(orders).where(orders.c.id == order.id, orders.c.status.in_(("paid", "refunded"))).values(status=status)
    )


def promised(conn: Connection, order_id: str) -> int:
    """What was refunded or is on its way, in minor units."""
    row = refunds.c
    query = select(func.coalesce(func.sum(row.amount), 0)).where(row.order_id == order_id, row.status.in_(GIVEN))
    return int(conn.scalar(query) or 0)


def record_void(ctx: Context, order_id: str) -> str | None:
    """Captured money of an order that can get nothing for it: the refund of all of it is recorded, once. Its id
    where it is due.
    """
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        assert order is not None
        refund_id = void_refund_id(order)
        amount = order.captured - promised(conn, order_id)
        if amount > 0:
            values = {"id": refund_id, "order_id": order_id, "amount": amount, "status": "pending"}
            conn.execute(
                insert(refunds).values(**values, due_at=records.in_seconds(ctx.lease_seconds)).on_conflict_do_nothing()
            )
        records.owe_nothing(conn, order_id)
        due: str | None = conn.scalar(select(refunds.c.id).where(refunds.c.id == refund_id, refunds.c.due))
        return due


def show(conn: Connection, refund_id: str) -> shapes.Refund:
    row = conn.execute(
        select(refunds, orders.c.currency)
        .join(orders, orders.c.id == refunds.c.order_id)
        .where(refunds.c.id == refund_id)
    ).one()
    return shapes.Refund(
        id=row.id,
        order_id=row.order_id,
        amount=Money(row.amount, row.currency),
        status=row.status,
        reason=row.reason,
        lines=[shapes.ReturnedLine(product, qty) for product, qty in row.lines],
        restocked=row.restocked,
        created_at=shapes.rfc3339(row.created_at),
    )
