"""Another try to pay an order: another card after a declined one, each try with its own number and idempotency key."""

import msgspec

from engine import commands, ids
from engine.command import run
from payments import records
from payments.attempts import away, confirm_intent, create_intent, raise_outcome, refusal_of
from payments.context import Context
from payments.once import Answer, Once
from payments.provider import ProviderUnavailable
from payments.records import Attempt, NewAttempt, OrderRecord
from payments.settle import Effect
from payments.trail import itself, of_order
from persistence.database import reading
from persistence.refusals import Refusal


class PayRequest(msgspec.Struct, frozen=True, kw_only=True):
    payment_method_id: str


@of_order("order.pay", itself)
def pay_order(ctx: Context, order_id: str, request: PayRequest, key: str | None = None) -> Answer:
    """200 with the order. Raises ``Refusal``: ``order_not_found``, ``order_not_payable`` (with ``order_status``,
    ``payment_status`` and ``reason``), ``card_declined``, ``validation_error`` (of the payment method),
    ``payment_provider_unavailable``, ``idempotency_mismatch``.
    """
    parsed = ids.parse("order", order_id)
    if parsed is None:
        raise not_found(order_id)
    once = Once(ctx, f"POST /v1/orders/{order_id}/pay", key, request, parsed[0])
    if answer := once.known():
        return answer
    try:
        order, attempt = _begin(ctx, order_id, request, key)
    except Refusal:
        once.forget()
        raise
    ctx.checkpoint("attempt written")
    try:
        _try(ctx, order, attempt)
    except ProviderUnavailable as silence:
        raise away(silence) from None
    return once.answer_order(200, order_id)


def not_found(order_id: str) -> Refusal:
    return Refusal("order_not_found", f"There is no order {order_id[:100]!r}.")


def _begin(ctx: Context, order_id: str, request: PayRequest, key: str | None) -> tuple[OrderRecord, Attempt]:
    """Decide the try's number with the order locked. The same request again is the same try."""
    with ctx.db.begin() as conn:
        order = records.lock(conn, order_id)
        if order is None:
            raise not_found(order_id)
        tries = records.read_attempts(conn, order_id)
        mine = [each for each in tries if key is not None and each.request_key == key and not each.creates]
        if not mine:
            _check_payable(ctx, order)
            parameters = {"payment_method": request.payment_method_id}
            number = tries[-1].number + 1 if tries else 2  # the first is the one that makes the intent
            mine = list(records.add_attempts(conn, [NewAttempt(order_id, number, key, parameters)]).values())
        return order, mine[-1]


def _check_payable(ctx: Context, order: OrderRecord) -> None:
    reason = ""
    if order.status != "pending_payment":
        reason = "order_" + order.status
    elif order.payment_status in ("requires_capture", "succeeded", "processing", "canceled"):
        reason = "payment_" + order.payment_status
    elif order.due in ("cancel", "void", "release"):
        reason = "order_ending"
    else:
        answer, [hold] = run(ctx.redis, commands.peek(order.sale_id, [order.token]))
        if hold is not None and (hold.status != "paying" or (hold.pay_by_ms or 0) <= answer.now_ms):
            reason = "deadline_passed"
    if reason:
        raise not_payable(order, reason)


def not_payable(order: OrderRecord, reason: str) -> Refusal:
    return Refusal(
        "order_not_payable",
        f"The order cannot be paid: {reason.replace('_', ' ')}.",
        reason=reason,
        order_status=order.status,
        payment_status=order.payment_status,
    )


def _try(ctx: Context, order: OrderRecord, attempt: Attempt) -> None:
    raise_outcome(order.id, attempt)
    if attempt.outcome is not None:
        return
    if order.intent_id is None:
        made = create_intent(ctx, order.id)
        order = _read(ctx, order.id)
        if order.intent_id is None and made.refused is not None:
            raise refusal_of(order.id, made.refused.code, {})
    if order.intent_id is None:
        raise ProviderUnavailable("the order has no intent yet")
    tried = confirm_intent(ctx, order, order.intent_id, attempt)
    if tried.applied.effect is Effect.SETTLED:
        ctx.drain(order.sale_id, tried.applied.position)
    if tried.declined is not None:
        with reading(ctx.db) as conn:
            done = next(each for each in records.read_attempts(conn, order.id) if each.number == attempt.number)
        raise_outcome(order.id, done)
    if tried.refused is not None:
        order = _read(ctx, order.id)
        if order.status != "pending_payment" or order.payment_status in ("requires_capture", "succeeded", "canceled"):
            raise not_payable(order, "payment_" + order.payment_status)
        raise refusal_of(order.id, tried.refused.code, attempt.parameters)


def _read(ctx: Context, order_id: str) -> OrderRecord:
    with reading(ctx.db) as conn:
        order = records.read(conn, order_id)
    assert order is not None
    return order
