"""Events about intents, in sets. Each is a hint: the intent is read again at the provider, unless our record already
says as much; and what was read for a set of them is applied at once.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Final

from payments import records
from payments.context import Context
from payments.events import Done, Ended, Event, Later, Outcome, Parked, PendingOrder, find_orders, status_of
from payments.failures import attempted
from payments.provider import Intent, ProviderRefused
from payments.records import OrderRecord
from payments.sets import as_they_end
from payments.settle import RANK, Applied, Effect, Shown, apply_intents
from payments.trail import of_order, of_orders

AUTHORISED: Final = "payment_intent.amount_capturable_updated"
TYPES: Final = (
    AUTHORISED,
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.processing",
    "payment_intent.canceled",
)


def handle(ctx: Context, events: Sequence[Event], pool: Executor) -> Iterator[Ended]:
    """What our record knows is done; each other intent is read once, however many events are about it."""
    orders = find_orders(ctx, events)
    known: list[tuple[Event, Outcome | Exception]] = []
    asking: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        order = orders.get(event.id)
        if order is None or event.intent_id is None:
            known.append((event, PendingOrder()))
        elif wrong := _other_amount(order, event):
            known.append((event, Parked(wrong)))
        elif order.intent_id == event.intent_id and _nothing_new(order, status_of(event)):
            known.append((event, attempted(_done, ctx, event, order.id, order.payment_status, "known")))
        else:
            asking.setdefault((order.id, event.intent_id), []).append(event)
    calls = {pool.submit(_read, ctx, orders[group[0].id], intent_id): group for (_, intent_id), group in asking.items()}
    if known:
        yield known
    for answers in as_they_end(calls):
        yield _apply(ctx, answers)


def _id_of(order: OrderRecord) -> str:
    return order.id


@of_order("order.event", _id_of)
def _read(ctx: Context, order: OrderRecord, intent_id: str) -> tuple[OrderRecord, Intent] | Parked:
    try:
        intent = ctx.provider.retrieve_intent(intent_id)
    except ProviderRefused as refused:
        return Parked(f"the provider does not show the intent: {refused.code}")
    ctx.checkpoint("intent read")
    if order.intent_id != intent.id and intent.metadata.get("order_id") != order.id:
        return Parked(f"the intent is of order {intent.metadata.get('order_id')}")
    return order, intent


def _apply(
    ctx: Context, answers: Sequence[tuple[Sequence[Event], tuple[OrderRecord, Intent] | Parked | Exception]]
) -> Ended:
    ended: list[tuple[Event, Outcome | Exception]] = []
    shown: list[Shown] = []
    groups: list[Sequence[Event]] = []
    for events, answer in answers:
        if isinstance(answer, tuple):
            order, intent = answer
            shown.append(Shown(order.id, intent))
            groups.append(events)
        else:
            ended += [(event, answer) for event in events]
    if shown:
        with of_orders("order.event", [each.order_id for each in shown]):
            done = apply_intents(ctx, shown)
        for events, each, applied in zip(groups, shown, done, strict=True):
            ended += [(event, attempted(_outcome, ctx, event, each.order_id, each.intent, applied)) for event in events]
    return ended


def _outcome(
    ctx: Context, event: Event, order_id: str, intent: Intent, applied: Applied | Exception
) -> Outcome | Exception:
    if isinstance(applied, Exception):
        return applied
    match applied.effect:
        case Effect.LATER:
            return Later(applied.reason)
        case Effect.MISMATCHED:
            return Parked(applied.reason)
        case Effect.UNKNOWN_ORDER:
            return PendingOrder()
        case Effect.STRAY:
            give_back_stray(ctx, intent)
            return Done(applied.reason)
    return _done(ctx, event, order_id, intent.status, applied.reason or str(applied.effect))


def _done(ctx: Context, event: Event, order_id: str, payment_status: str, reason: str) -> Done:
    if event.type == AUTHORISED and payment_status == "canceled":
        _show_as_voided(ctx, order_id)
    return Done(reason)


def _other_amount(order: OrderRecord, event: Event) -> str:
    amount, currency = event.shown.get("amount"), event.shown.get("currency")
    if order.status == "pending_payment" and (amount != order.total or currency != order.currency):
        return f"the event is of {amount} {currency}, the order of {order.total} {order.currency}"
    return ""


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
