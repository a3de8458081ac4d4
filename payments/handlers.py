"""What each type of event means. ``hints`` has those about intents. The others are handled side by side and are hints,
too: a refund is read again at the provider, unless our record already says as much.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from payments import hints, records, refunds
from payments.context import Context
from payments.events import (
    ID_LENGTH_MAX,
    Done,
    Ended,
    Event,
    Later,
    Outcome,
    Parked,
    PendingOrder,
    find_orders,
    is_provider_id,
    named_order,
    status_of,
)
from payments.provider import ProviderRefund, ProviderRefused
from payments.records import OrderRecord
from payments.sets import as_they_end
from payments.settle import Effect, apply_intent
from payments.trail import of_order
from persistence import feed
from persistence.database import reading
from persistence.tables import disputes, orders
from persistence.tables import refunds as refund_rows


def _order(ctx: Context, event: Event) -> OrderRecord | None:
    return find_orders(ctx, [event]).get(event.id)


def _refund(ctx: Context, event: Event) -> Outcome:
    order = _order(ctx, event)
    if order is None:
        return PendingOrder()
    refund_id = event.shown.get("id")
    if not is_provider_id(refund_id):
        return Parked("the event names no refund")
    with reading(ctx.db) as conn:
        known = conn.scalar(select(refund_rows.c.status).where(refund_rows.c.provider_id == refund_id))
    if known is not None and known == status_of(event):
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
    with reading(ctx.db) as conn:
        fresh = records.read(conn, order.id)
    if fresh is None or fresh.captured == 0:
        return Done("an authorisation ended")
    for made in found:
        ours = made.metadata.get("refund_id")
        with reading(ctx.db) as conn:
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


_ONE_BY_ONE: Final[dict[str, Callable[[Context, Event], Outcome]]] = {
    **dict.fromkeys(("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"), _refund),
    "charge.refunded": _charge_refunded,
    **dict.fromkeys(("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"), _dispute),
}


@of_order("order.event", named_order)
def _handle(ctx: Context, event: Event) -> Outcome:
    return _ONE_BY_ONE[event.type](ctx, event)


def _side_by_side(ctx: Context, events: Sequence[Event], pool: Executor) -> Iterator[Ended]:
    return as_they_end({pool.submit(_handle, ctx, event): event for event in events})


HANDLERS: Final[dict[str, Callable[[Context, Sequence[Event], Executor], Iterator[Ended]]]] = {
    **dict.fromkeys(hints.TYPES, hints.handle),
    **dict.fromkeys(_ONE_BY_ONE, _side_by_side),
}
"""By the event's type; each takes a set of events. Every other type is stored and ignored."""
