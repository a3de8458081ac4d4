"""What an intent's state means for its order: one table, whoever read the intent, however often, and for a single order
as for a set of them.

The orders' rows are locked first. A status never goes backwards, and an order that has ended for good never touches
Redis again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from functools import partial
from typing import Final, NamedTuple

from redis.exceptions import RedisError, ResponseError
from sqlalchemy import Connection, select

from engine import commands
from engine.command import run
from engine.commands import HoldChange
from engine.outcomes import Outcome
from engine.records import Position
from payments import records
from payments.changes import Change, write
from payments.context import Context
from payments.failures import AWAY, describe
from payments.once import Answer, Asked, answer_orders
from payments.provider import Intent
from payments.records import AttemptResult, OrderRecord
from persistence import feed
from persistence.orders import show_orders
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
    """``position`` is the event that Postgres must have before the order shows the effect; ``answer`` is there where
    one was asked for and the order shows all of it already.
    """

    effect: Effect
    reason: str = ""
    position: Position | None = None
    answer: Answer | None = None


class Shown(NamedTuple):
    """An intent as the provider shows it now, how the try to pay went that showed it, and who is answered with its
    order: all in the same transaction.
    """

    order_id: str
    intent: Intent
    attempt: AttemptResult | None = None
    asked: Asked | None = None


class Wish(Enum):
    """What a change wants that memory alone cannot give."""

    SETTLE = auto()
    END = auto()
    VOID = auto()


def apply_intent(
    ctx: Context, order_id: str, intent: Intent, attempt: AttemptResult | None = None, asked: Asked | None = None
) -> Applied:
    """Record an intent as the provider shows it now, and do what it means. Any order, any number of times."""
    return ctx.together.do("intents", partial(_apply, ctx), Shown(order_id, intent, attempt, asked))


def apply_intents(ctx: Context, shown: Sequence[Shown]) -> list[Applied | Exception]:
    """The same for many intents, in one transaction and with one script call a sale. Where that fails they are tried
    by halves, so that what one of them fails with is its own and stands in its place.
    """
    try:
        return list(_apply(ctx, shown))
    except AWAY as error:
        return [error] * len(shown)
    except Exception as error:  # noqa: BLE001 - it is told by whoever handles it
        if len(shown) == 1:
            return [error]
    half = len(shown) // 2
    return apply_intents(ctx, shown[:half]) + apply_intents(ctx, shown[half:])


def _apply(ctx: Context, shown: Sequence[Shown]) -> list[Applied]:
    """In turn where several are of the same order."""
    with ctx.db.begin() as conn:
        locked = records.lock_all(conn, {each.order_id for each in shown})
        changes = {order_id: Change(order) for order_id, order in locked.items()}
        decided = [_decide(changes.get(each.order_id), each.intent) for each in shown]
        records.close_attempts(conn, _closed(shown, decided))
        write(conn, changes.values())
        ctx.checkpoint("intent recorded")
        wishes = [(changes.get(each.order_id), wish) for each, wish in zip(shown, decided, strict=True)]
        done = _carry_out(ctx, conn, wishes)
        ctx.checkpoint("intent applied")
        write(conn, changes.values())
        news = [order_id for order_id, change in changes.items() if change.is_news]
        asked = [each.asked if did.effect is Effect.RECORDED else None for each, did in zip(shown, done, strict=True)]
        seen = show_orders(conn, [*news, *(each.order_id for each in asked if each)])
        answers = answer_orders(conn, asked, seen)
        feed.append_shown(conn, {order_id: seen[order_id] for order_id in news})
    if any(applied.effect in (Effect.VOID_DUE, Effect.LATER) for applied in done):
        ctx.wake()
    return [replace(did, answer=answer) if answer else did for did, answer in zip(done, answers, strict=True)]


def _closed(shown: Sequence[Shown], decided: Sequence[Applied | Wish]) -> list[tuple[str, AttemptResult]]:
    """The tries to pay that are over, of intents that are their orders'."""
    return [
        (each.order_id, each.attempt)
        for each, found in zip(shown, decided, strict=True)
        if each.attempt and not (isinstance(found, Applied) and found.effect in (Effect.UNKNOWN_ORDER, Effect.STRAY))
    ]


def end_order(ctx: Context, order_id: str) -> Applied:
    """Bring back the units of an order whose intent is cancelled or never was. Done before: nothing."""
    with _change(ctx, order_id) as (conn, change):
        if change is None:
            return Applied(Effect.UNKNOWN_ORDER)
        if change.order.status == "cancelled":
            change.owe_nothing()
            return Applied(Effect.RECORDED)
        return _end(ctx, conn, change)


def end_mismatched(ctx: Context, order_id: str, intent: Intent) -> Applied:
    """End an order that was paid with another amount than asked for: its units come back and so does the money."""
    with _change(ctx, order_id) as (conn, change):
        if change is None or change.order.status != "pending_payment":
            return Applied(Effect.RECORDED)
        ended = _end(ctx, conn, change)
        if ended.effect is Effect.ENDED:
            change.note(payment_status=intent.status, captured=min(intent.amount_received, change.order.total))
            _void(conn, change, "late")
        return ended


def release_unasked(ctx: Context, order_id: str) -> Applied:
    """The provider has been silent for too long: the units come back. What is due at the provider stays due, and
    money that it tells of later is late money.
    """
    with _change(ctx, order_id) as (conn, change):
        if change is None or change.order.status != "pending_payment" or change.order.ended_for_good:
            return Applied(Effect.RECORDED)
        ended = _end(ctx, conn, change)
        if ended.effect is Effect.ENDED:
            change.owe("cancel", 1)
        return ended


@contextmanager
def _change(ctx: Context, order_id: str) -> Iterator[tuple[Connection, Change | None]]:
    """One order, locked; what becomes of it in the block is written at its end."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        change = Change(order) if order else None
        yield conn, change
        if change is not None:
            write(conn, [change])
            feed.append(conn, [order_id] if change.is_news else [])


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


def _decide(change: Change | None, intent: Intent) -> Applied | Wish:
    """Record the intent in the order, and say what it means."""
    if change is None:
        return Applied(Effect.UNKNOWN_ORDER)
    order = change.order
    if order.intent_id not in (None, intent.id):
        return Applied(Effect.STRAY, f"the order's intent is {order.intent_id}")
    if order.intent_id is None:
        change.link(intent.id, intent.client_secret)
    if wrong := mismatch(order, intent):
        change.blame(wrong)
        return Applied(Effect.MISMATCHED, wrong)
    _record(change, intent)
    return _meaning(change, intent)


def _record(change: Change, intent: Intent) -> None:
    """The intent's state, which never goes backwards."""
    order = change.order
    if order.due == "create":
        change.owe_nothing()
    before, after = RANK.get(order.payment_status, 0), RANK.get(intent.status, 0)
    if after > before or (after == before and before < RANK["succeeded"]):
        if intent.status != order.payment_status:
            change.note(payment_status=intent.status)
        if intent.authorised and order.authorised_at is None:
            change.authorise()
    if intent.status == "succeeded" and intent.amount_received > order.captured:
        change.note(captured=min(intent.amount_received, order.total))


def _meaning(change: Change, intent: Intent) -> Applied | Wish:
    """The table of what an intent's state means for its order."""
    order, status = change.order, intent.status
    if RANK.get(status, 0) < RANK.get(order.payment_status, 0):
        return Applied(Effect.RECORDED, "seen before")
    if order.status == "cancelled" or order.ended_for_good:
        return _after_the_end(change, intent)
    if order.status == "pending_payment" and intent.authorised:
        if order.ended_because == "asked" and order.due == "cancel" and status == "requires_capture":
            return Applied(Effect.RECORDED, "its cancellation goes on")
        return Wish.SETTLE
    if status == "canceled" and order.captured == 0:
        return Wish.END
    if order.status != "pending_payment":
        if status == "requires_capture" and order.due is None:
            change.owe("capture")
        elif status == "succeeded" and order.due is not None:
            change.owe_nothing()
            change.give_reason(None)
    return Applied(Effect.RECORDED)


def _after_the_end(change: Change, intent: Intent) -> Applied | Wish:
    order = change.order
    if intent.status == "canceled":
        if order.due not in (None, "release") or (order.due and order.status == "cancelled"):
            change.owe_nothing()
        return Applied(Effect.RECORDED)
    if not intent.authorised:
        if order.due is None:
            change.owe("cancel")  # nobody may still pay it
        return Applied(Effect.RECORDED)
    return Wish.VOID if order.ended_for_good else Wish.SETTLE


def _carry_out(
    ctx: Context, conn: Connection, decided: Sequence[tuple[Change | None, Applied | Wish]]
) -> list[Applied]:
    """Do what is wished for: who settles, together."""
    settled = _settle(ctx, conn, [change for change, wish in decided if change and wish is Wish.SETTLE])
    done = []
    for change, wish in decided:
        if isinstance(wish, Applied):
            done.append(wish)
            continue
        assert change is not None
        match wish:
            case Wish.SETTLE:
                done.append(settled[change.order.id])
            case Wish.END:
                done.append(_end(ctx, conn, change))
            case Wish.VOID:
                done.append(_void(conn, change, change.order.ended_because or "late"))
    return done


def _settle(ctx: Context, conn: Connection, changes: Sequence[Change]) -> dict[str, Applied]:
    """The money is there: the units become sold, taken again where the hold ran out; else the money goes back."""
    of_sale: dict[str, list[Change]] = {}
    for change in changes:
        of_sale.setdefault(change.order.sale_id, []).append(change)
    return {
        change.order.id: _settled(ctx, conn, change, answer)
        for group in of_sale.values()
        for change, answer in zip(group, _sell(ctx, conn, group), strict=True)
    }


def _sell(ctx: Context, conn: Connection, changes: Sequence[Change]) -> list[HoldChange | RedisError]:
    """Settle holds of one sale by one call; where Redis refuses that, each by its own, for it may be one's fault."""
    orders = [change.order for change in changes]
    products = records.products(conn, [order.id for order in orders])
    call = commands.settle(orders[0].sale_id, [order.token for order in orders], products)
    try:
        return [*run(ctx.redis, call)]
    except ResponseError as error:
        if len(changes) == 1:
            return [error]
        return [answer for change in changes for answer in _sell(ctx, conn, [change])]
    except RedisError as error:
        return [error] * len(changes)


def _settled(ctx: Context, conn: Connection, change: Change, answer: HoldChange | RedisError) -> Applied:
    order = change.order
    if isinstance(answer, RedisError):
        return Applied(Effect.LATER, describe(answer))
    if answer.outcome is Outcome.EXPIRED:
        ctx.checkpoint("late money")
        try:
            answer = run(ctx.redis, commands.retake(order.sale_id, order.token))
        except RedisError as error:
            return Applied(Effect.LATER, describe(error))
    ctx.checkpoint("settled in redis")
    match answer.outcome:
        case Outcome.SETTLED | Outcome.RETAKEN | Outcome.REPLAYED:
            if order.due == "cancel":  # its deadline had begun to end it
                change.owe_nothing()
            if order.status == "pending_payment":
                change.give_reason(None)
            return Applied(Effect.SETTLED, position=answer.position)
        case Outcome.NO_HOLD | Outcome.NO_SALE | Outcome.FENCED:
            if _is_history(conn, order):
                return _void(conn, change, "late")
            return Applied(Effect.LATER, f"Redis: {answer.outcome}")
        case Outcome.RELEASED:
            return _void(conn, change, order.ended_because or "asked")
        case _:
            return _void(conn, change, "late")


def _is_history(conn: Connection, order: OrderRecord) -> bool:
    """Redis does not have the hold, and need not: it ended, or its whole sale left Redis."""
    retired = conn.scalar(select(sales.c.retired_at).where(sales.c.id == order.sale_id))
    status = conn.scalar(select(holds.c.status).where(holds.c.id == order.hold_id))
    return retired is not None or status in ("released", "expired")


def _void(conn: Connection, change: Change, because: str) -> Applied:
    """Record that the money goes back, once."""
    order = change.order
    change.give_reason(because)
    given_back = conn.scalar(select(refunds.c.id).where(refunds.c.id == void_refund_id(order)))
    if order.due != "void" and given_back is None:
        change.owe("void")
    return Applied(Effect.VOID_DUE, because)


def void_refund_id(order: OrderRecord) -> str:
    """The one refund that gives captured money back where nothing can be given for it; it has its order's token."""
    return f"refund_{order.sale_id}_{order.token}"


def _end(ctx: Context, conn: Connection, change: Change) -> Applied:
    """The intent is gone, so the units come back. Where Redis cannot say so now, that is due."""
    order = change.order
    because = order.ended_because or "lapsed"
    change.give_reason(because)
    ending = "expired" if because == "expired" else "released"
    call = commands.cancel(order.sale_id, order.token, records.products(conn, [order.id]), ending)
    try:
        answer = run(ctx.redis, call)
    except RedisError as error:
        return _end_later(change, describe(error))
    ctx.checkpoint("released in redis")
    if answer.outcome in (Outcome.NO_HOLD, Outcome.NO_SALE, Outcome.FENCED) and not _is_history(conn, order):
        return _end_later(change, f"Redis: {answer.outcome}")
    if order.due is not None:
        change.owe_nothing()
    return Applied(Effect.ENDED, because, answer.position)


def _end_later(change: Change, why: str) -> Applied:
    """The units are owed to Redis. Where they were already, whoever works on what is due puts it off."""
    if change.order.due != "release":
        change.owe("release", 1)
    return Applied(Effect.LATER, why)
