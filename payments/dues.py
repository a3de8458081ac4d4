"""What we owe the provider or Redis, done: each is in ``payments.due`` before it is tried and goes off after its
effect, so a crash anywhere leaves it to the next run.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, wait
from typing import Final

import structlog
from sqlalchemy import Connection, func, update

from engine import commands
from engine.command import run
from engine.outcomes import Outcome
from payments import records, refunds
from payments.attempts import create_intent, find_intent
from payments.context import Context
from payments.failures import AWAY, attempted, describe, trace
from payments.provider import Intent, ProviderRefused
from payments.records import OrderRecord
from payments.sets import as_they_end
from payments.settle import Applied, Effect, Shown, apply_intent, apply_intents, end_mismatched, end_order
from payments.trail import itself, of_order, of_orders
from persistence.database import reading
from persistence.statement import Statement
from persistence.tables import payments

BACKOFF_MAX_SECONDS: Final = 300
_ERROR_LENGTH_MAX: Final = 500

log = structlog.get_logger(__name__)


class NotYet(Exception):
    """It cannot be done now; it stays due."""


def run_once(ctx: Context, limit: int, pool: Executor) -> int:
    """Do what is due, ``limit`` orders at most, side by side in ``pool``; what captures came to is recorded in sets.
    How many were taken up.
    """
    with ctx.db.begin() as conn:
        taken = _lease(conn, limit, ctx.lease_seconds)
        orders = records.read_all(conn, taken) if taken else {}
    captures = [order for order in orders.values() if order.due == "capture" and order.intent_id is not None]
    calls = {pool.submit(_capture_at_provider, ctx, order): order for order in captures}
    others = [pool.submit(work, ctx, order_id) for order_id in orders.keys() - {order.id for order in captures}]
    for ended in as_they_end(calls):
        _record_captures(ctx, ended)
    wait(others)
    return len(taken)


def _record_captures(ctx: Context, ended: Sequence[tuple[OrderRecord, Intent | Exception]]) -> None:
    captured = [(order, intent) for order, intent in ended if isinstance(intent, Intent)]
    if captured:
        with of_orders("order.due", [order.id for order, _ in captured]):
            applied = apply_intents(ctx, [Shown(order.id, intent) for order, intent in captured])
        for (order, _), each in zip(captured, applied, strict=True):
            _finish(ctx, order, each)
    for order, error in ended:
        if isinstance(error, Exception):
            _finish(ctx, order, error)


def _lease(conn: Connection, limit: int, seconds: float) -> list[str]:
    return list(_LEASE.on(conn, {"limit": limit, "seconds": seconds}).scalars())


_LEASE: Final = Statement(
    "UPDATE payments SET due_at = now() + :seconds * interval '1 second', tries = tries + 1 WHERE order_id IN ("
    "SELECT order_id FROM payments WHERE due IS NOT NULL AND due_at <= now()"
    " ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING order_id"
)


def _id_of(order: OrderRecord) -> str:
    return order.id


@of_order("order.due", itself)
def work(ctx: Context, order_id: str) -> bool:
    """Do what one order owes; whether it is done. What cannot be done now stays due, later and later."""
    with reading(ctx.db) as conn:
        order = records.read(conn, order_id)
    if order is None or order.due is None:
        return True
    return _finish(ctx, order, attempted(_DO[order.due], ctx, order))


def _finish(ctx: Context, order: OrderRecord, ended: Applied | Exception | None) -> bool:
    """Whether it is done. What failed, whatever it is, and what cannot be done now comes again."""
    assert order.due is not None
    if isinstance(ended, Exception):
        if not isinstance(ended, (*AWAY, NotYet)):
            log.error("due_failed", order_id=order.id, due=order.due, error=describe(ended), trace=trace(ended))
        put_off(ctx, order.id, order.due, describe(ended))
        return False
    if ended is not None and ended.effect is Effect.LATER:
        put_off(ctx, order.id, order.due, ended.reason)
        return False
    return True


def put_off(ctx: Context, order_id: str, due: str, why: str) -> None:
    """A failure is noted and tried again after 1, 2, 4 ... seconds, 300 at most."""
    row = payments.c
    pause = func.least(func.power(2, func.least(row.tries, 12) - 1), BACKOFF_MAX_SECONDS)
    with ctx.db.begin() as conn:
        conn.execute(
            update(payments)
            .where(row.order_id == order_id, row.due == due)
            .values(due_at=func.now() + pause * records.seconds(1), last_error=why[:_ERROR_LENGTH_MAX])
        )


def _create(ctx: Context, order: OrderRecord) -> Applied | None:
    if order.intent_id is not None:
        with ctx.db.begin() as conn:
            records.lock(conn, order.id)
            records.owe_nothing(conn, order.id)
        return None
    return create_intent(ctx, order.id).applied


def _capture(ctx: Context, order: OrderRecord) -> Applied | None:
    if order.intent_id is None:  # it was made, and whoever made it died before saying so
        return _find(ctx, order)
    return apply_intent(ctx, order.id, _capture_at_provider(ctx, order))


@of_order("order.due", _id_of)
def _capture_at_provider(ctx: Context, order: OrderRecord) -> Intent:
    """Only a paid order is captured. The provider arbitrates between this and a cancellation: whoever comes second
    reads why.
    """
    assert order.intent_id is not None
    if order.status != "paid":
        return ctx.provider.retrieve_intent(order.intent_id)
    key = order.key("capture")
    try:
        intent = ctx.provider.capture_intent(order.intent_id, key)
    except ProviderRefused as refused:
        intent = refused.intent or ctx.provider.retrieve_intent(order.intent_id)
        if intent.status == "requires_capture":
            if refused.code != "charge_expired_for_capture":
                raise
            intent = ctx.provider.cancel_intent(order.intent_id, f"{key}-lapsed")
    ctx.checkpoint("captured")
    return intent


def _find(ctx: Context, order: OrderRecord) -> Applied | None:
    """Find the intent that an order had, by the try that made it."""
    with reading(ctx.db) as conn:
        if not records.read_attempts(conn, order.id):
            raise NotYet("Postgres forgot this order's intent: `flashsale reconcile --apply` finds it")
    return create_intent(ctx, order.id).applied


def cancel(ctx: Context, order: OrderRecord) -> Applied | None:
    """End an order at the provider first. A deadline asks before it cancels: money that came in time is settled.
    People's wish does not ask, for cancelling voids an authorisation; only what was captured stays.
    """
    if order.intent_id is None:
        if not _may_have_intent(ctx, order.id):
            return end_order(ctx, order.id)
        find_intent(ctx, order.id)
        raise NotYet("its intent is known now")
    intent: Intent | None = None
    if order.ended_because != "asked":
        intent = ctx.provider.retrieve_intent(order.intent_id)
        ctx.checkpoint("asked the provider")
        if intent.authorised or intent.status == "canceled":
            applied = apply_intent(ctx, order.id, intent)
            if applied.effect is not Effect.MISMATCHED:
                return applied
        if intent.status == "processing":
            raise NotYet("the bank is still processing it")
    intent = _cancel_at_provider(ctx, order, order.intent_id)
    ctx.checkpoint("cancelled at the provider")
    applied = apply_intent(ctx, order.id, intent)
    if applied.effect is Effect.MISMATCHED:
        return end_mismatched(ctx, order.id, intent)
    if intent.status not in ("canceled", "succeeded", "requires_capture"):
        raise NotYet(f"the provider has the intent as {intent.status}")
    return applied


def _may_have_intent(ctx: Context, order_id: str) -> bool:
    with reading(ctx.db) as conn:
        tries = records.read_attempts(conn, order_id)
    return any(each.creates and each.outcome is None for each in tries)


def _cancel_at_provider(ctx: Context, order: OrderRecord, intent_id: str) -> Intent:
    reason = "requested_by_customer" if order.ended_because == "asked" else "abandoned"
    try:
        return ctx.provider.cancel_intent(intent_id, order.key("cancel"), reason)
    except ProviderRefused as refused:
        return refused.intent or ctx.provider.retrieve_intent(intent_id)


def _void(ctx: Context, order: OrderRecord) -> Applied | None:
    """Money for nothing goes back: an authorisation by cancelling it, captured money by a refund."""
    if order.ended_because == "refused":
        _take_back(ctx, order)
    if order.intent_id is None:
        return _find(ctx, order)
    if order.captured == 0:
        intent = _cancel_at_provider(ctx, order, order.intent_id)
        ctx.checkpoint("voided at the provider")
        applied = apply_intent(ctx, order.id, intent)
        if intent.status == "canceled":
            return applied
        if intent.status != "succeeded":
            raise NotYet(f"the provider has the intent as {intent.status}")
    refund_id = refunds.record_void(ctx, order.id)
    ctx.checkpoint("refund recorded")
    if refund_id is not None:
        refunds.work(ctx, refund_id)
    return None


def _take_back(ctx: Context, order: OrderRecord) -> None:
    """Redis sold what Postgres refused: there it comes back. The order has ended for good, so nobody can pay for it."""
    with reading(ctx.db) as conn:
        products = records.products(conn, [order.id])
    answer = run(ctx.redis, commands.cancel(order.sale_id, order.token, products, "released"))
    if answer.outcome in (Outcome.FENCED, Outcome.NO_SALE):
        raise NotYet(f"Redis: {answer.outcome}")


def _release(ctx: Context, order: OrderRecord) -> Applied | None:
    return end_order(ctx, order.id)


_DO: Final[dict[str, Callable[[Context, OrderRecord], Applied | None]]] = {
    "create": _create,
    "capture": _capture,
    "cancel": cancel,
    "void": _void,
    "release": _release,
}
