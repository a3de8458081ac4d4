"""What each type of event means. An event is a hint: the intent or refund is read again at the provider, unless our
record already says as much.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeGuard

import msgspec
from msgspec import Meta
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from engine import ids
from payments import records, refunds
from payments.context import Context
from payments.provider import Intent, ProviderRefund, ProviderRefused
from payments.records import OrderRecord
from payments.settle import RANK, Effect, apply_intent
from persistence import feed
from persistence.tables import disputes, orders
from persistence.tables import refunds as refund_rows

AUTHORISED: Final = "payment_intent.amount_capturable_updated"
ID_LENGTH_MAX: Final = 255
"""Of the provider's ids; a longer one is none, and might not fit into an index."""
_PROVIDER_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LENGTH_MAX}}}")


def is_provider_id(value: object) -> TypeGuard[str]:
    """Whether the provider can be asked for it: it becomes part of a URL."""
    return isinstance(value, str) and _PROVIDER_ID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event: ``shown`` is the object in it."""

    id: str
    type: str
    intent_id: str | None
    shown: dict[str, Any]
    tries: int


@dataclass(frozen=True, slots=True)
class Done:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """Something is away; the same again."""

    reason: str


@dataclass(frozen=True, slots=True)
class PendingOrder:
    """Its order is not known yet."""

    reason: str = "its order is not known yet"


@dataclass(frozen=True, slots=True)
class Parked:
    """For people."""

    reason: str


Outcome = Done | Later | PendingOrder | Parked


def _order(ctx: Context, event: Event) -> OrderRecord | None:
    """By the intent that our record has, else by the id that we gave the intent."""
    metadata = event.shown.get("metadata")
    named = metadata.get("order_id") if isinstance(metadata, dict) else None
    with ctx.db.connect() as conn:
        order = records.read_by_intent(conn, event.intent_id) if event.intent_id else None
        if order is None and isinstance(named, str) and ids.parse("order", named):
            order = records.read(conn, named)
    return order


def _intent(ctx: Context, event: Event) -> Outcome:
    order = _order(ctx, event)
    if order is None or event.intent_id is None:
        return PendingOrder()
    if wrong := _other_amount(order, event):
        return Parked(wrong)
    if order.intent_id == event.intent_id and _nothing_new(order, _status(event)):
        if event.type == AUTHORISED and order.payment_status == "canceled":
            _show_as_voided(ctx, order.id)
        return Done("known")
    return _read_and_apply(ctx, event, order, event.intent_id)


def _read_and_apply(ctx: Context, event: Event, order: OrderRecord, intent_id: str) -> Outcome:
    try:
        intent = ctx.provider.retrieve_intent(intent_id)
    except ProviderRefused as refused:
        return Parked(f"the provider does not show the intent: {refused.code}")
    ctx.checkpoint("intent read")
    if order.intent_id != intent.id and intent.metadata.get("order_id") != order.id:
        return Parked(f"the intent is of order {intent.metadata.get('order_id')}")
    applied = apply_intent(ctx, order.id, intent)
    match applied.effect:
        case Effect.LATER:
            return Later(applied.reason)
        case Effect.MISMATCHED:
            return Parked(applied.reason)
        case Effect.STRAY:
            give_back_stray(ctx, intent)
        case Effect.UNKNOWN_ORDER:
            return PendingOrder()
        case _ if event.type == AUTHORISED and intent.status == "canceled":
            _show_as_voided(ctx, order.id)
    return Done(applied.reason or str(applied.effect))


def _other_amount(order: OrderRecord, event: Event) -> str:
    amount, currency = event.shown.get("amount"), event.shown.get("currency")
    if order.status == "pending_payment" and (amount != order.total or currency != order.currency):
        return f"the event is of {amount} {currency}, the order of {order.total} {order.currency}"
    return ""


def _status(event: Event) -> str:
    found = event.shown.get("status")
    return found if isinstance(found, str) else ""


def _nothing_new(order: OrderRecord, hinted: str) -> bool:
    """Our record says as much as the event, and all that follows from it was done."""
    known = RANK.get(order.payment_status, 0)
    if order.status == "pending_payment":
        return hinted == order.payment_status and known == 0
    if known == 2:
        return order.due is None
    return known == 1 and order.status == "paid" and RANK.get(hinted, 0) <= 1


def _show_as_voided(ctx: Context, order_id: str) -> None:
    """An authorisation that slipped in while its order was being cancelled went with it: the order says so."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is not None and order.status == "cancelled" and order.ended_because == "expired":
            records.write_reason(conn, order_id, "late")


def give_back_stray(ctx: Context, intent: Intent) -> None:
    """Give back an intent that no order goes by: a second one that a crash left behind."""
    status = intent.status
    if status not in ("canceled", "succeeded"):
        try:
            status = ctx.provider.cancel_intent(intent.id, f"{intent.id}-stray").status
        except ProviderRefused as refused:
            status = (refused.intent or ctx.provider.retrieve_intent(intent.id)).status
            if status != "succeeded":
                raise
    if status == "succeeded" and not ctx.provider.list_refunds(intent.id):
        ctx.provider.create_refund({"payment_intent": intent.id}, f"{intent.id}-stray-refund")


def _refund(ctx: Context, event: Event) -> Outcome:
    order = _order(ctx, event)
    if order is None:
        return PendingOrder()
    refund_id = event.shown.get("id")
    if not is_provider_id(refund_id):
        return Parked("the event names no refund")
    with ctx.db.connect() as conn:
        known = conn.scalar(select(refund_rows.c.status).where(refund_rows.c.provider_id == refund_id))
    if known is not None and known == _status(event):
        return Done("known")
    try:
        made = ctx.provider.retrieve_refund(refund_id)
    except ProviderRefused as refused:
        return Parked(f"the provider does not show the refund: {refused.code}")
    return take_refunds(ctx, order, [made])


def _charge_refunded(ctx: Context, event: Event) -> Outcome:
    order = _order(ctx, event)
    if order is None or event.intent_id is None:
        return PendingOrder()
    if event.shown.get("amount_refunded") == order.refunded:
        return Done("known")
    try:
        made = ctx.provider.list_refunds(event.intent_id)
    except ProviderRefused as refused:
        return Parked(f"the provider does not show the refunds: {refused.code}")
    return take_refunds(ctx, order, made)


def take_refunds(ctx: Context, order: OrderRecord, found: list[ProviderRefund]) -> Outcome:
    if order.captured == 0 and order.intent_id is not None:
        # Before a capture there is nothing to refund: the provider shows the end of an authorisation as one.
        applied = apply_intent(ctx, order.id, ctx.provider.retrieve_intent(order.intent_id))
        if applied.effect is Effect.LATER:
            return Later(applied.reason)
    with ctx.db.connect() as conn:
        fresh = records.read(conn, order.id)
    if fresh is None or fresh.captured == 0:
        return Done("an authorisation ended")
    for made in found:
        ours = made.metadata.get("refund_id")
        with ctx.db.connect() as conn:
            query = select(refund_rows.c.id).where(
                refund_rows.c.order_id == order.id,
                (refund_rows.c.id == ours) | (refund_rows.c.provider_id == made.id),
            )
            refund_id = conn.scalar(query)
        if refund_id is None:
            refunds.record_foreign(ctx, fresh, made)
        else:
            refunds.record(ctx, order.id, refund_id, made)
    return Done()


_DISPUTE_OVER: Final = ("won", "lost", "warning_closed", "prevented")


class _Dispute(msgspec.Struct):
    id: Annotated[str, Meta(min_length=1, max_length=ID_LENGTH_MAX)]
    amount: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    currency: str
    reason: str
    status: str


def _dispute(ctx: Context, event: Event) -> Outcome:
    order = _order(ctx, event)
    if order is None:
        return PendingOrder()
    try:
        shown, row = msgspec.convert(event.shown, _Dispute), disputes.c
    except msgspec.ValidationError as error:
        return Parked(f"the event shows no dispute: {error}")
    with ctx.db.begin() as conn:
        added = conn.scalar(
            insert(disputes)
            .values(order_id=order.id, intent_id=event.intent_id, **msgspec.structs.asdict(shown))
            .on_conflict_do_nothing()
            .returning(row.id)
        )
        changed = added is not None
        if not changed and event.type != "charge.dispute.created":
            # A dispute that is over stays so, in whatever order its events come.
            over = row.status.in_(_DISPUTE_OVER)
            query = update(disputes).where(row.id == shown.id, ~over, row.status != shown.status)
            changed = conn.execute(query.values(status=shown.status, amount=shown.amount)).rowcount > 0
        if changed:
            conn.execute(select(orders.c.id).where(orders.c.id == order.id).with_for_update())
            feed.append(conn, [order.id])
    return Done()


HANDLERS: Final[dict[str, Callable[[Context, Event], Outcome]]] = {
    **dict.fromkeys(
        (
            AUTHORISED,
            "payment_intent.succeeded",
            "payment_intent.payment_failed",
            "payment_intent.requires_action",
            "payment_intent.processing",
            "payment_intent.canceled",
        ),
        _intent,
    ),
    **dict.fromkeys(("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"), _refund),
    "charge.refunded": _charge_refunded,
    **dict.fromkeys(("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"), _dispute),
}
"""By the event's type. Every other type is stored and ignored."""
