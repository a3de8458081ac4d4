"""The provider's side of reconcile: every intent that has money without a paid order, every paid order without
money, and amounts that differ. Repairs go the same ways as everything else, so they are safe in mid-sale.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection, func, or_, select

from engine import commands
from engine.command import run
from payments import dues, records
from payments.context import Context
from payments.handlers import take_refunds
from payments.hints import give_back_stray
from payments.provider import Intent, ProviderRefused
from payments.settle import Effect, apply_intent
from persistence import reconcile as stores
from persistence.database import reading
from persistence.drift import Drift, Report
from persistence.reconcile import Repaired
from persistence.tables import attempts, orders, payments, refunds, sales, webhook_events

_LOOK_BACK_SECONDS: Final = 300
SETTLE_SECONDS: Final = 1.0
"""What is on its way at the first look has arrived at the second."""
_TRIES_MAX: Final = 5
"""What is due and was tried so often is drift, not lag."""
_PROMISE: Final = "no_money_without_a_thing"
_PAID: Final = ("paid", "refunded")


@dataclass(frozen=True, slots=True)
class Claim:
    """What Postgres says of an order's money. ``underway``: something about it is due or has arrived and is not
    handled.
    """

    order_id: str
    status: str
    intent_id: str | None
    payment_status: str
    total: int
    captured: int
    refunded: int
    underway: bool


def reconcile(ctx: Context, sale_id: str) -> Report:
    """All three compared. Raises as ``persistence.reconcile.reconcile``, and ``ProviderUnavailable``."""
    return stores.reconcile(ctx.db, ctx.redis, sale_id, partial(stripe_drift, ctx))


def apply(ctx: Context, sale_id: str) -> Repaired:
    """The same, repaired: money first, then what the stores disagree about."""
    before = reconcile(ctx, sale_id)
    repair(ctx, sale_id, before.drift)
    return Repaired(before, stores.apply(ctx.db, ctx.redis, sale_id, partial(stripe_drift, ctx)).after)


def stripe_drift(ctx: Context, sale_id: str) -> list[Drift]:
    """What is wrong between the provider and Postgres. What is merely on its way is looked at twice and left out."""
    with reading(ctx.db) as conn:
        first_order = select(func.min(orders.c.created_at)).where(orders.c.sale_id == sale_id).scalar_subquery()
        # Before its first order there may be one that a restored Postgres has forgotten.
        since = conn.scalar(select(func.least(first_order, sales.c.created_at)).where(sales.c.id == sale_id))
        claims = {claim.order_id: claim for claim in _read_claims(conn, sale_id)}
    if since is None:
        return []
    intents = [
        intent
        for intent in ctx.provider.list_intents(int(since.timestamp()) - _LOOK_BACK_SECONDS)
        if intent.metadata.get("sale_id") == sale_id
    ]
    suspects = list(_compare(claims, intents))
    if not suspects:
        return []
    time.sleep(SETTLE_SECONDS)
    ctx.drain(sale_id, run(ctx.redis, commands.show(sale_id, [])).position)
    with reading(ctx.db) as conn:
        again = {claim.order_id: claim for claim in _read_claims(conn, sale_id)}
    ids = {intent.id for _, intent in suspects if intent}
    fresh = [ctx.provider.retrieve_intent(intent_id, with_charge=True) for intent_id in sorted(ids)]
    wanted = {drift.id for drift, _ in suspects}
    return [drift for drift, _ in _compare(again, fresh) if drift.id in wanted]


def _read_claims(conn: Connection, sale_id: str) -> Iterable[Claim]:
    refunding = (
        select(refunds.c.id)
        .where(refunds.c.order_id == orders.c.id, refunds.c.due, refunds.c.tries < _TRIES_MAX)
        .exists()
    )
    waiting = (
        select(webhook_events.c.id)
        .where(webhook_events.c.intent_id == payments.c.intent_id, webhook_events.c.due_at.is_not(None))
        .where(webhook_events.c.tries < _TRIES_MAX)
        .exists()
    )
    # Where the provider's intent was forgotten, and the try that made it, no worker can find it: only our list can.
    tried = select(attempts.c.order_id).where(attempts.c.order_id == orders.c.id).exists()
    forgotten = payments.c.intent_id.is_(None) & ~tried
    owed = payments.c.due.is_not(None) & (payments.c.tries < _TRIES_MAX) & ~forgotten
    rows = conn.execute(
        select(
            orders.c.id,
            orders.c.status,
            payments.c.intent_id,
            payments.c.status,
            orders.c.total,
            payments.c.captured,
            payments.c.refunded,
            or_(owed, refunding, waiting),
        )
        .join(payments, payments.c.order_id == orders.c.id)
        .where(orders.c.sale_id == sale_id)
    )
    return [Claim(*tuple(row)) for row in rows]


def _compare(claims: dict[str, Claim], intents: list[Intent]) -> Iterator[tuple[Drift, Intent | None]]:
    by_order = {claim.intent_id: claim for claim in claims.values() if claim.intent_id}
    seen = {intent.id for intent in intents}
    for intent in intents:
        claim = by_order.get(intent.id)
        if claim is None:
            if _has_money(intent):
                named = claims.get(intent.metadata.get("order_id", ""))
                if named is None or not named.underway:
                    yield Drift(_PROMISE, "intent", intent.id, "status", None, "no order", intent.status), intent
        elif not claim.underway:
            for drift in _differences(claim, intent):
                yield drift, intent
    for claim in claims.values():
        # One whose intent the list does not show: none was made, or it is none of this account's.
        if claim.status in _PAID and claim.intent_id not in seen and not claim.underway:
            yield Drift(_PROMISE, "order", claim.order_id, "payment", None, claim.payment_status, None), None


def _has_money(intent: Intent) -> bool:
    return intent.status == "requires_capture" or intent.amount_received > intent.amount_refunded


def _differences(claim: Claim, intent: Intent) -> Iterator[Drift]:
    if claim.status not in _PAID:
        if _has_money(intent):
            yield Drift(_PROMISE, "intent", intent.id, "status", None, claim.status, intent.status)
        return
    if not intent.authorised:
        yield Drift(_PROMISE, "order", claim.order_id, "payment", None, claim.payment_status, intent.status)
        return
    if intent.status == "requires_capture":  # and nothing is due
        yield Drift(_PROMISE, "order", claim.order_id, "payment", None, claim.payment_status, intent.status)
    for field, postgres, stripe in (
        ("total", claim.total, intent.amount),
        ("captured", claim.captured, intent.amount_received),
        ("refunded", claim.refunded, intent.amount_refunded),
    ):
        if postgres != stripe:
            yield Drift(_PROMISE, "order", claim.order_id, field, None, postgres, stripe)


def repair(ctx: Context, sale_id: str, drift: Iterable[Drift]) -> int:
    """Put right what ``stripe_drift`` found, each by asking the provider again. How many were taken up."""
    found = [each for each in drift if each.promise == _PROMISE and each.kind in ("intent", "order")]
    for each in found:
        if each.kind == "intent":
            _repair_intent(ctx, each.id)
        else:
            _repair_order(ctx, each.id)
    if found:
        ctx.drain(sale_id, run(ctx.redis, commands.show(sale_id, [])).position)
        ctx.wake()
    return len(found)


def _repair_intent(ctx: Context, intent_id: str) -> None:
    intent = ctx.provider.retrieve_intent(intent_id)
    order_id = intent.metadata.get("order_id", "")
    applied = apply_intent(ctx, order_id, intent)
    if applied.effect in (Effect.STRAY, Effect.UNKNOWN_ORDER):
        give_back_stray(ctx, intent)
        return
    _finish(ctx, order_id, intent.metadata.get("sale_id", ""))


def _repair_order(ctx: Context, order_id: str) -> None:
    with reading(ctx.db) as conn:
        order = records.read(conn, order_id)
    if order is None:
        return
    intent: Intent | None = None
    if order.intent_id is not None:
        try:
            intent = ctx.provider.retrieve_intent(order.intent_id)
        except ProviderRefused:
            intent = None
    if intent is not None:
        apply_intent(ctx, order_id, intent)
        take_refunds(ctx, order, ctx.provider.list_refunds(intent.id))
    if intent is None or not intent.authorised:
        # Paid, they say, and there is no money: the order ends and its units come back.
        with ctx.db.begin() as conn:
            locked = records.lock(conn, order_id)
            if locked is not None and locked.status == "paid" and locked.captured == 0 and locked.due is None:
                records.owe(conn, order_id, "release" if intent is None else "cancel", ctx.lease_seconds)
    _finish(ctx, order_id, order.sale_id)


def _finish(ctx: Context, order_id: str, sale_id: str) -> None:
    """Do now what became due by the repair, once the drain has said that it is."""
    ctx.drain(sale_id, run(ctx.redis, commands.show(sale_id, [])).position)
    dues.work(ctx, order_id)
