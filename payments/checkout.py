"""A hold becomes an order: it enters payment in Redis, the order and the try to pay go to Postgres, and only then
is the provider asked for the intent. Whoever crashes in between, the same request again learns the same order and
the same intent.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, func, select, update

from engine import commands, ids
from engine.command import run
from engine.commands import HoldChange
from engine.outcomes import Outcome
from payments import records
from payments.attempts import away, begin, creation, raise_outcome
from payments.context import Context
from payments.once import Answer, Once
from payments.provider import ProviderUnavailable
from payments.records import Attempt, NewAttempt, OrderRecord
from payments.settle import Effect
from payments.trail import of_order
from persistence import feed, orders
from persistence.orders import NewOrder
from persistence.rebuild import epoch_of
from persistence.refusals import Refusal
from persistence.tables import holds, sales
from persistence.tables import orders as order_rows

ROUTE = "POST /v1/orders"
_UNAVAILABLE_SECONDS = 2


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A check-out. With ``payment_method_id`` (a saved card, with its ``payment_customer_id``) it is paid at once."""

    hold_id: str
    payment_method_id: str | None = None
    payment_customer_id: str | None = None
    metadata: dict[str, str] = {}


def _order_of(request: OrderRequest) -> str:
    parsed = ids.parse("hold", request.hold_id)
    return ids.order_id(*parsed) if parsed else ""


@of_order("order.place", _order_of)
def place_order(ctx: Context, request: OrderRequest, key: str | None = None) -> Answer:
    """201 with the order. Raises ``Refusal``: ``hold_not_found``, ``hold_expired``, ``hold_released``,
    ``hold_lost``, ``hold_already_used`` (with ``order_id``), ``sale_unavailable``, ``idempotency_mismatch``; and
    where there is an order already, ``card_declined``, ``validation_error`` (of the payment method),
    ``order_not_payable`` and ``payment_provider_unavailable``.
    """
    parsed = ids.parse("hold", request.hold_id)
    if parsed is None:
        raise Refusal("hold_not_found", f"There is no hold {request.hold_id[:100]!r}.")
    sale_id, token = parsed
    once = Once(ctx, ROUTE, key, request, sale_id)
    if answer := once.known():
        return answer
    try:
        change = _check_out(ctx, sale_id, token, key)
    except Refusal:
        once.forget()
        raise
    ctx.checkpoint("checked out")
    order, tries = _write_order(ctx, sale_id, token, change, request, key)
    ctx.checkpoint("order written")
    _pay_at_once(ctx, order, tries)
    return once.answer_order(201, order.id)


def _check_out(ctx: Context, sale_id: str, token: str, key: str | None) -> HoldChange:
    # The same key is the same check-out, so a request that was cut off finds that it had won.
    checkout_id = hashlib.sha256(f"{ROUTE}\0{key}".encode()).hexdigest()[:24] if key else ids.new_token()
    seen, [record] = run(ctx.redis, commands.peek(sale_id, [token]))
    if record is None:
        raise _no_hold(ctx, sale_id, token, seen.outcome, seen.position.epoch)
    change = run(ctx.redis, commands.checkout(sale_id, token, record.products, checkout_id))
    match change.outcome:
        case Outcome.PAYING | Outcome.REPLAYED:
            return change
        case Outcome.USED:
            order_id = ids.order_id(sale_id, token)
            ctx.drain(sale_id, change.position)  # whoever is told of the order can read it
            raise Refusal("hold_already_used", "This hold has an order already.", order_id=order_id)
        case Outcome.EXPIRED:
            raise Refusal("hold_expired", "The hold's time has run out. Take a new one.")
        case Outcome.RELEASED:
            raise Refusal("hold_released", "The hold was given back. Take a new one.")
        case Outcome.NO_HOLD:
            raise _no_hold(ctx, sale_id, token, change.outcome, change.position.epoch)
        case _:
            raise _restoring()


def _restoring() -> Refusal:
    return Refusal("sale_unavailable", "The sale is being restored. Try again.", retry_after=_UNAVAILABLE_SECONDS)


def _no_hold(ctx: Context, sale_id: str, token: str, outcome: Outcome, epoch: int) -> Refusal:
    """Redis does not have the hold: what Postgres knows of it."""
    hold_id = ids.hold_id(sale_id, token)
    with ctx.db.connect() as conn:
        sale = conn.execute(select(sales.c.retired_at).where(sales.c.id == sale_id)).one_or_none()
        hold = conn.execute(
            select(holds.c.status, (holds.c.expires_at <= func.now()).label("over")).where(holds.c.id == hold_id)
        ).one_or_none()
        order_id = conn.scalar(select(order_rows.c.id).where(order_rows.c.hold_id == hold_id))
    if order_id is not None:
        return Refusal("hold_already_used", "This hold has an order already.", order_id=order_id)
    if hold is not None and hold.status == "released":
        return Refusal("hold_released", "The hold was given back. Take a new one.")
    if hold is not None and (hold.over or hold.status == "expired"):
        return Refusal("hold_expired", "The hold's time has run out. Take a new one.")
    gone = outcome is Outcome.NO_SALE and sale is not None and sale.retired_at is None
    if hold is not None or gone:
        return _restoring()
    known = epoch_of(ctx.db, ctx.redis, sale_id)
    if sale is not None and max(epoch, known or 1) > 1:
        return Refusal("hold_lost", "The hold was lost with data that the stock server lost. Take a new one.")
    if known is None:
        return _restoring()
    return Refusal("hold_not_found", f"There is no hold {hold_id}.")


class _Wish(NamedTuple):
    """An order to be written, and its first try to pay."""

    order_id: str
    new: NewOrder
    request: OrderRequest
    key: str | None


Begun = tuple[OrderRecord, list[Attempt]]


def _write_order(
    ctx: Context, sale_id: str, token: str, change: HoldChange, request: OrderRequest, key: str | None
) -> Begun:
    """The order, its payment and the first try, and that the intent is due, in one transaction."""
    assert change.hold is not None
    new = NewOrder(token, change.hold, change.now_ms, request.metadata)
    wish = _Wish(ids.order_id(sale_id, token), new, request, key)
    write, lane = partial(_write_orders, ctx, sale_id), ("orders", sale_id)
    try:
        return ctx.together.do(lane, write, wish)
    except LookupError:  # the product's label is newer than what was drained
        ctx.drain(sale_id, change.position)
        return ctx.together.do(lane, write, wish)


def _write_orders(ctx: Context, sale_id: str, wishes: Sequence[_Wish]) -> list[Begun]:
    order_ids = [wish.order_id for wish in wishes]
    with ctx.db.begin() as conn:
        inserted = orders.insert_orders(conn, sale_id, [wish.new for wish in wishes])
        locked = records.lock_all(conn, order_ids)
        for wish in wishes:
            if wish.request.metadata and wish.order_id not in inserted:
                _add_metadata(conn, wish.order_id, wish.request.metadata)  # the drain was first: it knows only the hold
        added = records.add_attempts(conn, [_first_try(ctx, locked[wish.order_id], wish) for wish in wishes])
        # Ours to do now; after that, the workers'.
        records.owe_intents(conn, added, ctx.settings.stripe_timeout_seconds + 10)
        tries = {order_id: [first] for order_id, first in added.items()}
        tries |= records.read_all_attempts(conn, [order_id for order_id in order_ids if order_id not in added])
        feed.append(conn, sorted(added))
    return [(locked[order_id], tries[order_id]) for order_id in order_ids]


def _first_try(ctx: Context, order: OrderRecord, wish: _Wish) -> NewAttempt:
    card = wish.request
    parameters = creation(ctx.settings, order, card.payment_method_id, card.payment_customer_id)
    return NewAttempt(order.id, 1, wish.key, parameters)


def _add_metadata(conn: Connection, order_id: str, metadata: dict[str, str]) -> None:
    row = order_rows.c
    conn.execute(update(order_rows).where(row.id == order_id, row.metadata == {}).values(metadata=metadata))


def _pay_at_once(ctx: Context, order: OrderRecord, tries: list[Attempt]) -> None:
    """Make the intent where it is not there yet, and say how its card fared."""
    first = tries[0]
    if order.status == "pending_payment" and order.intent_id is None:
        try:
            tried = begin(ctx, order, next(each for each in reversed(tries) if each.creates))
        except ProviderUnavailable as silence:
            ctx.wake()
            raise away(silence) from None
        if tried.applied.effect is Effect.SETTLED:
            ctx.drain(order.sale_id, tried.applied.position)
        if tried.declined or tried.refused:
            with ctx.db.connect() as conn:
                first = records.read_attempts(conn, order.id)[0]
    raise_outcome(order.id, first)
