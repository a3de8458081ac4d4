"""A hold becomes an order: it enters payment in Redis, the order and the try to pay go to Postgres, and only then
is the provider asked for the intent. Whoever crashes in between, the same request again learns the same order and
the same intent.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, cast

import msgspec
from sqlalchemy import Connection, func, select, update

from engine import commands, ids
from engine.command import run
from engine.commands import HoldChange
from engine.outcomes import Outcome
from payments import records
from payments.attempts import away, begin, creation, raise_outcome
from payments.context import Context
from payments.once import Answer, Asked, Once, claim
from payments.provider import ProviderUnavailable
from payments.records import Attempt, NewAttempt, OrderRecord
from payments.settle import Effect
from payments.trail import of_order
from persistence import feed, orders
from persistence.database import reading
from persistence.orders import NewOrder
from persistence.rebuild import epoch_of
from persistence.refusals import Refusal
from persistence.tables import holds, sales
from persistence.tables import orders as order_rows

ROUTE = "POST /v1/orders"
_UNAVAILABLE_SECONDS = 2
_ENTERED: Final = frozenset({Outcome.PAYING, Outcome.REPLAYED})


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
    told = _begin(ctx, sale_id, _Wish(once, token, request, _checkout_id(key)))
    if isinstance(told, Answer):
        return told
    if isinstance(told, HoldChange):
        refusal = _refusal(ctx, sale_id, token, told)
        once.forget()
        raise refusal
    order, tries = told
    return _pay_at_once(ctx, order, tries, Asked(once, 201, order.id)) or once.answer_order(201, order.id)


class _Wish(NamedTuple):
    """An order that somebody wants of a hold. ``checkout_id`` is under which the hold is checked out."""

    once: Once
    token: str
    request: OrderRequest
    checkout_id: str

    @property
    def order_id(self) -> str:
        return ids.order_id(self.once.sale_id, self.token)


class _Begun(NamedTuple):
    """An order that is written, with its tries to pay."""

    order: OrderRecord
    tries: list[Attempt]


_Told = Answer | HoldChange | _Begun
"""The first answer to the same request, why there is no order, or the order."""


def _checkout_id(key: str | None) -> str:
    """The same key is the same check-out, so a request that was cut off finds that it had won."""
    return hashlib.sha256(f"{ROUTE}\0{key}".encode()).hexdigest()[:24] if key else ids.new_token()


def _begin(ctx: Context, sale_id: str, wish: _Wish) -> _Told:
    """Together with whoever else orders now. Raises ``Refusal`` ``idempotency_mismatch``."""
    told = _begin_together(ctx, sale_id, wish)
    if isinstance(told, HoldChange) and told.outcome in _ENTERED:  # a product's label is newer than what was drained
        ctx.drain(sale_id, told.position)
        told = _begin_together(ctx, sale_id, wish)
    return told


def _begin_together(ctx: Context, sale_id: str, wish: _Wish) -> _Told:
    return cast(_Told, ctx.together.do(("orders", sale_id), partial(_begin_all, ctx, sale_id), wish))


def _begin_all(ctx: Context, sale_id: str, wishes: Sequence[_Wish]) -> list[_Told | Refusal]:
    """Keys are claimed, holds enter payment, orders are written: each step for all, and each wish decided by itself."""
    said = claim(ctx, [wish.once for wish in wishes])
    new = [wish for wish, known in zip(wishes, said, strict=True) if known is None]
    begun = iter(_begin_new(ctx, sale_id, new)) if new else iter(())
    return [next(begun) if known is None else known for known in said]


def _begin_new(ctx: Context, sale_id: str, wishes: Sequence[_Wish]) -> Sequence[HoldChange | _Begun]:
    changes = _check_out(ctx, sale_id, wishes)
    entered = [pair for pair in zip(wishes, changes, strict=True) if pair[1].outcome in _ENTERED]
    if not entered:
        return changes
    ctx.checkpoint("checked out")
    try:
        written = iter(_write_orders(ctx, sale_id, entered))
    except LookupError:  # a label is missing: whoever asked sees to it
        return changes
    ctx.checkpoint("order written")
    return [next(written) if change.outcome in _ENTERED else change for change in changes]


def _check_out(ctx: Context, sale_id: str, wishes: Sequence[_Wish]) -> list[HoldChange]:
    tokens = [wish.token for wish in wishes]
    _, held = run(ctx.redis, commands.peek(sale_id, tokens))
    products = dict.fromkeys(product for record in held if record for product in record.products)
    checkout_ids = [wish.checkout_id for wish in wishes]
    return run(ctx.redis, commands.checkout(sale_id, tokens, list(products), checkout_ids))


def _refusal(ctx: Context, sale_id: str, token: str, change: HoldChange) -> Refusal:
    """Why the hold did not enter payment."""
    match change.outcome:
        case Outcome.USED:
            ctx.drain(sale_id, change.position)  # whoever is told of the order can read it
            order_id = ids.order_id(sale_id, token)
            return Refusal("hold_already_used", "This hold has an order already.", order_id=order_id)
        case Outcome.EXPIRED:
            return Refusal("hold_expired", "The hold's time has run out. Take a new one.")
        case Outcome.RELEASED:
            return Refusal("hold_released", "The hold was given back. Take a new one.")
        case Outcome.NO_HOLD | Outcome.NO_SALE:
            return _no_hold(ctx, sale_id, token, change.outcome, change.position.epoch)
        case _:
            return _restoring()


def _restoring() -> Refusal:
    return Refusal("sale_unavailable", "The sale is being restored. Try again.", retry_after=_UNAVAILABLE_SECONDS)


def _no_hold(ctx: Context, sale_id: str, token: str, outcome: Outcome, epoch: int) -> Refusal:
    """Redis does not have the hold: what Postgres knows of it."""
    hold_id = ids.hold_id(sale_id, token)
    with reading(ctx.db) as conn:
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


def _write_orders(ctx: Context, sale_id: str, entered: Sequence[tuple[_Wish, HoldChange]]) -> list[_Begun]:
    """The orders, their payments and first tries, and that the intents are due, in one transaction. Raises
    ``LookupError`` as ``insert_orders``.
    """
    wishes = [wish for wish, _ in entered]
    order_ids = [wish.order_id for wish in wishes]
    ours_seconds = ctx.settings.stripe_timeout_seconds + 10  # an intent is ours to make; after that, the workers'
    with ctx.db.begin() as conn:
        new = [_new_order(wish, change) for wish, change in entered]
        inserted = orders.insert_orders(conn, sale_id, new, ours_seconds)
        locked = records.lock_all(conn, order_ids)
        for wish in wishes:
            if wish.request.metadata and wish.order_id not in inserted:
                _add_metadata(conn, wish.order_id, wish.request.metadata)  # the drain was first: it knows only the hold
        added = records.add_attempts(conn, [_first_try(ctx, locked[wish.order_id], wish) for wish in wishes])
        records.owe_intents(conn, added.keys() - set(inserted), ours_seconds)
        tries = {order_id: [first] for order_id, first in added.items()}
        tries |= records.read_all_attempts(conn, [order_id for order_id in order_ids if order_id not in added])
        feed.append(conn, sorted(added))
    return [_Begun(locked[order_id], tries[order_id]) for order_id in order_ids]


def _new_order(wish: _Wish, change: HoldChange) -> NewOrder:
    assert change.hold is not None
    return NewOrder(wish.token, change.hold, change.now_ms, wish.request.metadata)


def _first_try(ctx: Context, order: OrderRecord, wish: _Wish) -> NewAttempt:
    card = wish.request
    parameters = creation(ctx.settings, order, card.payment_method_id, card.payment_customer_id)
    return NewAttempt(order.id, 1, wish.once.key, parameters)


def _add_metadata(conn: Connection, order_id: str, metadata: dict[str, str]) -> None:
    row = order_rows.c
    conn.execute(update(order_rows).where(row.id == order_id, row.metadata == {}).values(metadata=metadata))


def _pay_at_once(ctx: Context, order: OrderRecord, tries: list[Attempt], asked: Asked) -> Answer | None:
    """Make the intent where it is not there yet, and say how its card fared. The answer, where that gave it already."""
    first, tried = tries[0], None
    if order.status == "pending_payment" and order.intent_id is None:
        attempt = next(each for each in reversed(tries) if each.creates)
        try:
            tried = begin(ctx, order, attempt, asked if attempt is first else None)
        except ProviderUnavailable as silence:
            ctx.wake()
            raise away(silence) from None
        if tried.applied.effect is Effect.SETTLED:
            ctx.drain(order.sale_id, tried.applied.position)
        if tried.declined or tried.refused:
            with reading(ctx.db) as conn:
                first = records.read_attempts(conn, order.id)[0]
    raise_outcome(order.id, first)
    return tried.applied.answer if tried else None
