"""An order is cancelled by people: at the provider first, then its units come back, then it shows as cancelled."""

from engine import commands, ids, shapes
from engine.command import run
from payments import dues, records
from payments.attempts import away
from payments.context import Context
from payments.dues import NotYet
from payments.once import Answer
from payments.pay import not_found
from payments.provider import ProviderRefused, ProviderUnavailable
from payments.records import OrderRecord
from payments.settle import Applied, end_order
from payments.trail import itself, of_order
from persistence import orders
from persistence.database import reading
from persistence.refusals import Refusal

_TRIES = 3


@of_order("order.cancel", itself)
def cancel_order(ctx: Context, order_id: str) -> Answer:
    """200 with the cancelled order; again: the same. Raises ``Refusal``: ``order_not_found``, ``order_not_cancellable``
    where the money was captured or the bank is processing it, ``payment_provider_unavailable`` (the workers go on with
    it), ``sale_unavailable`` and ``unavailable``; and ``RedisError`` where Redis is away.
    """
    if ids.parse("order", order_id) is None:
        raise not_found(order_id)
    for _ in range(_TRIES):
        order = _begin(ctx, order_id)
        if order.ended_for_good:
            _finish(ctx, order)
            break
        ctx.checkpoint("cancellation recorded")
        applied = _carry_out(ctx, order_id)
        if applied is not None and ctx.drain(order.sale_id, applied.position):
            break
    with reading(ctx.db) as conn:
        shown = orders.read_order(conn, order_id)
    assert shown is not None
    if shown.status == "refunded" or (shown.status == "paid" and shown.payment.status == "succeeded"):
        raise _captured(shown.payment.status)
    if shown.status != "cancelled":
        raise _not_yet(ctx, order.sale_id)
    return Answer(200, shapes.encode(shown))


def _begin(ctx: Context, order_id: str) -> OrderRecord:
    """Record the wish before anything is done about it."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None:
            raise not_found(order_id)
        if order.ended_for_good:
            return order
        if order.status == "cancelled":  # it ran out: nobody's money may take its units again
            records.write_reason(conn, order_id, "asked")
            return records.read(conn, order_id) or order
        if order.captured > 0 or order.payment_status == "succeeded":
            raise _captured(order.payment_status)
        if order.due != "release":  # the intent is gone already
            records.owe(conn, order_id, "cancel", ctx.lease_seconds)
            records.write_reason(conn, order_id, "asked")
        return order


def _carry_out(ctx: Context, order_id: str) -> Applied | None:
    """None where the way has only become clear: again."""
    with reading(ctx.db) as conn:
        order = records.read(conn, order_id)
    if order is None or order.due not in ("cancel", "release"):
        return None
    try:
        return end_order(ctx, order_id) if order.due == "release" else dues.cancel(ctx, order)
    except (ProviderUnavailable, ProviderRefused) as error:
        dues.put_off(ctx, order_id, order.due, str(error))
        ctx.wake()
        raise away(error if isinstance(error, ProviderUnavailable) else ProviderUnavailable("it refused")) from None
    except NotYet:
        _withdraw_if_processing(ctx, order_id)
        return None


def _finish(ctx: Context, order: OrderRecord) -> None:
    """It has ended; where a crash left something due at the provider, do that now, or leave it to the workers."""
    if order.due in ("cancel", "void"):
        dues.work(ctx, order.id)


def _withdraw_if_processing(ctx: Context, order_id: str) -> None:
    """The bank is at work on the payment and the provider does not cancel such: neither do we."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None or order.payment_status != "processing" or order.due != "cancel":
            return
        records.owe_nothing(conn, order_id)
        records.write_reason(conn, order_id, None)
    raise Refusal(
        "order_not_cancellable",
        "The bank is processing the payment. Try again when it has answered.",
        payment_status="processing",
        reason="payment_processing",
    )


def _not_yet(ctx: Context, sale_id: str) -> Refusal:
    """Why the units of an order whose end is recorded are not back yet. Raises ``RedisError`` where Redis is away."""
    sale = run(ctx.redis, commands.show(sale_id, [])).sale
    if sale is None or sale.fenced:
        return Refusal("sale_unavailable", "The order ends as soon as the sale is restored.", retry_after=2)
    return Refusal("unavailable", "The order is about to end. The same request again is safe.", retry_after=1)


def _captured(payment_status: str) -> Refusal:
    return Refusal(
        "order_not_cancellable",
        "The money was captured: refund the order instead.",
        payment_status=payment_status,
        reason="payment_captured",
    )
