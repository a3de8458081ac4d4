"""What an intent's state means for its order: one table, whoever read the intent and however often.

The order's row is locked first. A status never goes backwards, and an order that has ended for good never touches
Redis again.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from redis.exceptions import RedisError
from sqlalchemy import Connection, func, select

from engine import commands
from engine.command import run
from engine.outcomes import Outcome
from engine.records import Position
from payments import records
from payments.context import Context
from payments.failures import describe
from payments.provider import Intent
from payments.records import OrderRecord
from persistence import feed
from persistence.tables import holds, refunds, sales

RANK: Final = {"requires_capture": 1, "succeeded": 2, "canceled": 2}
"""How far an intent has come; whatever is not named is before any money."""


class Effect(StrEnum):
    """What applying an intent did."""

    RECORDED = "recorded"
    SETTLED = "settled"
    """The units are sold; the drain makes the order paid."""
    ENDED = "ended"
    """The units are back, or on their way; the drain ends the order."""
    VOID_DUE = "void_due"
    """Money for nothing: recorded, to be given back."""
    MISMATCHED = "mismatched"
    """Another amount or currency than the order's: not settled."""
    LATER = "later"
    """Redis is away or the sale is being restored: the same again, later."""
    STRAY = "stray"
    """The order has another intent; this one is to be given back."""
    UNKNOWN_ORDER = "unknown_order"


@dataclass(frozen=True, slots=True)
class Applied:
    """``position`` is the event that Postgres must have before the order shows the effect."""

    effect: Effect
    reason: str = ""
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How a try to pay went, recorded in the same transaction."""

    number: int
    outcome: str
    decline_code: str | None = None


def apply_intent(ctx: Context, order_id: str, intent: Intent, attempt: AttemptResult | None = None) -> Applied:
    """Record an intent as the provider shows it now, and do what it means. Any order, any number of times."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None:
            return Applied(Effect.UNKNOWN_ORDER)
        if order.intent_id not in (None, intent.id):
            return Applied(Effect.STRAY, f"the order's intent is {order.intent_id}")
        if attempt:
            records.close_attempt(conn, order_id, attempt.number, attempt.outcome, attempt.decline_code)
        if wrong := mismatch(order, intent):
            _write(conn, order, {**_link(order, intent), "last_error": wrong})
            return Applied(Effect.MISMATCHED, wrong)
        recorded = _record(conn, order, intent)
        ctx.checkpoint("intent recorded")
        applied = _act(ctx, conn, recorded, intent)
        ctx.checkpoint("intent applied")
        if (recorded.intent_id, recorded.payment_status) != (order.intent_id, order.payment_status):
            feed.append(conn, [order_id])
    if applied.effect in (Effect.VOID_DUE, Effect.LATER):
        ctx.wake()
    return applied


def end_order(ctx: Context, order_id: str) -> Applied:
    """Bring back the units of an order whose intent is cancelled or never was. Done before: nothing."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None:
            return Applied(Effect.UNKNOWN_ORDER)
        if order.status == "cancelled":
            records.owe_nothing(conn, order_id)
            return Applied(Effect.RECORDED)
        return _end(ctx, conn, order)


def end_mismatched(ctx: Context, order_id: str, intent: Intent) -> Applied:
    """End an order that was paid with another amount than asked for: its units come back and so does the money."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None or order.status != "pending_payment":
            return Applied(Effect.RECORDED)
        ended = _end(ctx, conn, order)
        if ended.effect is Effect.ENDED:
            records.write_payment(
                conn, order_id, status=intent.status, captured=min(intent.amount_received, order.total)
            )
            _void(conn, order, "late")
            feed.append(conn, [order_id])
        return ended


def release_unasked(ctx: Context, order_id: str) -> Applied:
    """The provider has been silent for too long: the units come back. What is due at the provider stays due, and
    money that it tells of later is late money.
    """
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None or order.status != "pending_payment" or order.ended_for_good:
            return Applied(Effect.RECORDED)
        ended = _end(ctx, conn, order)
        if ended.effect is Effect.ENDED:
            records.owe(conn, order_id, "cancel", 1)
        return ended


def mismatch(order: OrderRecord, intent: Intent) -> str:
    """Why this intent's money is not what the order asks for, or nothing. Once the order has ended, all money goes
    back.
    """
    if order.status not in ("pending_payment", "cancelled") or order.ended_for_good or not intent.authorised:
        return ""
    if intent.currency != order.currency or intent.amount != order.total:
        return f"the intent is of {intent.amount} {intent.currency}, the order of {order.total} {order.currency}"
    money = intent.amount_capturable if intent.status == "requires_capture" else intent.amount_received
    if money != order.total:
        return f"the intent has {money} {intent.currency} authorised or received, the order wants {order.total}"
    return ""


def _link(order: OrderRecord, intent: Intent) -> dict[str, Any]:
    """What is new about an intent that the order did not have yet."""
    if order.intent_id is not None:
        return {}
    return {"intent_id": intent.id, "client_secret": intent.client_secret}


def _record(conn: Connection, order: OrderRecord, intent: Intent) -> OrderRecord:
    """Write the intent's state, which never goes backwards; the order as it is then."""
    values = _link(order, intent)
    if order.due == "create":
        values |= records.NOTHING_DUE
    before, after = RANK.get(order.payment_status, 0), RANK.get(intent.status, 0)
    if after > before or (after == before and before < RANK["succeeded"]):
        if intent.status != order.payment_status:
            values["status"] = intent.status
        if intent.authorised and order.authorised_at is None:
            values["authorised_at"] = func.now()
    if intent.status == "succeeded" and intent.amount_received > order.captured:
        values["captured"] = min(intent.amount_received, order.total)
    return _write(conn, order, values)


def _write(conn: Connection, order: OrderRecord, values: dict[str, Any]) -> OrderRecord:
    if values:
        records.write_payment(conn, order.id, **values)
    if "intent_id" in values:
        records.revive_events(conn, values["intent_id"])
    return replace(
        order,
        intent_id=values.get("intent_id", order.intent_id),
        payment_status=values.get("status", order.payment_status),
        captured=values.get("captured", order.captured),
        due=values.get("due", order.due),
    )


def _act(ctx: Context, conn: Connection, order: OrderRecord, intent: Intent) -> Applied:
    status = intent.status
    if RANK.get(status, 0) < RANK.get(order.payment_status, 0):
        return Applied(Effect.RECORDED, "seen before")
    if order.status == "cancelled" or order.ended_for_good:
        return _after_the_end(ctx, conn, order, intent)
    if order.status == "pending_payment" and intent.authorised:
        if order.ended_because == "asked" and order.due == "cancel" and status == "requires_capture":
            return Applied(Effect.RECORDED, "its cancellation goes on")
        return _settle(ctx, conn, order)
    if status == "canceled" and order.captured == 0:
        return _end(ctx, conn, order)
    if order.status != "pending_payment":
        if status == "requires_capture" and order.due is None:
            records.owe(conn, order.id, "capture")
        elif status == "succeeded" and order.due is not None:
            records.owe_nothing(conn, order.id)
            records.write_reason(conn, order.id, None)
    return Applied(Effect.RECORDED)


def _after_the_end(ctx: Context, conn: Connection, order: OrderRecord, intent: Intent) -> Applied:
    if intent.status == "canceled":
        if order.due not in (None, "release") or (order.due and order.status == "cancelled"):
            records.owe_nothing(conn, order.id)
        return Applied(Effect.RECORDED)
    if not intent.authorised:
        if order.due is None:
            records.owe(conn, order.id, "cancel")  # nobody may still pay it
        return Applied(Effect.RECORDED)
    if order.ended_for_good:
        return _void(conn, order, order.ended_because or "late")
    return _settle(ctx, conn, order)


def _settle(ctx: Context, conn: Connection, order: OrderRecord) -> Applied:
    """The money is there: the units become sold, taken again where the hold ran out; else the money goes back."""
    try:
        answer = run(ctx.redis, commands.settle(order.sale_id, order.token, records.products(conn, order.id)))
        if answer.outcome is Outcome.EXPIRED:
            ctx.checkpoint("late money")
            answer = run(ctx.redis, commands.retake(order.sale_id, order.token))
    except RedisError as error:
        return Applied(Effect.LATER, describe(error))
    ctx.checkpoint("settled in redis")
    match answer.outcome:
        case Outcome.SETTLED | Outcome.RETAKEN | Outcome.REPLAYED:
            if order.due == "cancel":  # its deadline had begun to end it
                records.owe_nothing(conn, order.id)
            if order.ended_because and order.status == "pending_payment":
                records.write_reason(conn, order.id, None)
            return Applied(Effect.SETTLED, position=answer.position)
        case Outcome.NO_HOLD | Outcome.NO_SALE | Outcome.FENCED:
            if _is_history(conn, order):
                return _void(conn, order, "late")
            return Applied(Effect.LATER, f"Redis: {answer.outcome}")
        case Outcome.RELEASED:
            return _void(conn, order, order.ended_because or "asked")
        case _:
            return _void(conn, order, "late")


def _is_history(conn: Connection, order: OrderRecord) -> bool:
    """Redis does not have the hold, and need not: it ended, or its whole sale left Redis."""
    retired = conn.scalar(select(sales.c.retired_at).where(sales.c.id == order.sale_id))
    status = conn.scalar(select(holds.c.status).where(holds.c.id == order.hold_id))
    return retired is not None or status in ("released", "expired")


def _void(conn: Connection, order: OrderRecord, because: str) -> Applied:
    """Record that the money goes back, once."""
    if order.ended_because != because:
        records.write_reason(conn, order.id, because)
    given_back = conn.scalar(select(refunds.c.id).where(refunds.c.id == void_refund_id(order)))
    if order.due != "void" and given_back is None:
        records.owe(conn, order.id, "void")
    return Applied(Effect.VOID_DUE, because)


def void_refund_id(order: OrderRecord) -> str:
    """The one refund that gives captured money back where nothing can be given for it; it has its order's token."""
    return f"refund_{order.sale_id}_{order.token}"


def _end(ctx: Context, conn: Connection, order: OrderRecord) -> Applied:
    """The intent is gone, so the units come back. Where Redis cannot say so now, that is due."""
    because = order.ended_because or "lapsed"
    if order.ended_because is None:
        records.write_reason(conn, order.id, because)
    ending = "expired" if because == "expired" else "released"
    call = commands.cancel(order.sale_id, order.token, records.products(conn, order.id), ending)
    try:
        answer = run(ctx.redis, call)
    except RedisError as error:
        return _end_later(conn, order, describe(error))
    ctx.checkpoint("released in redis")
    if answer.outcome in (Outcome.NO_HOLD, Outcome.NO_SALE, Outcome.FENCED) and not _is_history(conn, order):
        return _end_later(conn, order, f"Redis: {answer.outcome}")
    if order.due is not None:
        records.owe_nothing(conn, order.id)
    return Applied(Effect.ENDED, because, answer.position)


def _end_later(conn: Connection, order: OrderRecord, why: str) -> Applied:
    """The units are owed to Redis. Where they were already, whoever works on what is due puts it off."""
    if order.due != "release":
        records.owe(conn, order.id, "release", 1)
    return Applied(Effect.LATER, why)
