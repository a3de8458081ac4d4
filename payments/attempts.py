"""Tries to pay. Each is in Postgres with all its parameters and its own idempotency key before the provider hears
of it, so that after a crash anywhere the same try finds what it had done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.settings import Settings
from payments import records
from payments.context import Context
from payments.once import Asked
from payments.provider import Declined, Intent, ProviderRefused, ProviderUnavailable
from payments.records import Attempt, AttemptResult, NewAttempt, OrderRecord
from payments.settle import Applied, Effect, apply_intent
from persistence.database import reading
from persistence.refusals import Refusal

_FIELDS = {"payment_method": "payment_method_id", "customer": "payment_customer_id"}
"""What the provider calls that the shop chose, and what the shop calls it."""
_OF_THE_AMOUNT = frozenset({"amount_too_small", "amount_too_large"})
"""Stripe's words for a payment that no card could make: https://docs.stripe.com/error-codes"""
_LOOK_BACK_SECONDS = 300
"""Stripe's clock and ours may differ by so much."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How a try ended. ``declined`` or ``refused`` say why there is no money; the order stays payable."""

    applied: Applied
    declined: Declined | None = None
    refused: ProviderRefused | None = None


def creation(
    settings: Settings, order: OrderRecord, payment_method: str | None = None, customer: str | None = None
) -> dict[str, Any]:
    """What the provider is sent to make an order's intent; with a saved card, to confirm it at once."""
    parameters: dict[str, Any] = {
        "amount": order.total,
        "currency": order.currency,
        "capture_method": settings.capture_method,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "metadata": {"order_id": order.id, "hold_id": order.hold_id, "sale_id": order.sale_id},
    }
    if customer is not None:
        parameters["customer"] = customer
    if payment_method is not None:
        parameters |= {"payment_method": payment_method, "confirm": True}
    return parameters


def create_intent(ctx: Context, order_id: str) -> Tried:
    """Make the order's intent by its latest attempt to, or find the one that this attempt made. Raises
    ``ProviderUnavailable``; then the same again is safe.
    """
    with reading(ctx.db) as conn:
        order, tries = records.read(conn, order_id), records.read_attempts(conn, order_id)
    attempt = next((each for each in reversed(tries) if each.creates), None)
    if order is None or attempt is None or order.intent_id is not None:
        return Tried(Applied(Effect.RECORDED))
    return begin(ctx, order, attempt)


def begin(ctx: Context, order: OrderRecord, attempt: Attempt, asked: Asked | None = None) -> Tried:
    """The same for an attempt that is known to be the one. ``asked`` is answered where it made an intent that changes
    nothing but the order itself.
    """
    try:
        intent = _create(ctx, order, attempt, attempt.parameters)
    except Declined as declined:
        if declined.intent is None:
            raise ProviderUnavailable("it declined without an intent") from None
        ctx.checkpoint("intent created")
        result = AttemptResult(attempt.number, "declined", declined.decline_code)
        return Tried(apply_intent(ctx, order.id, declined.intent, result), declined=declined)
    except ProviderRefused as refused:
        return _without_refused(ctx, order, attempt, refused)
    ctx.checkpoint("intent created")
    return Tried(apply_intent(ctx, order.id, intent, AttemptResult(attempt.number, intent.status), asked))


def find_intent(ctx: Context, order_id: str) -> Tried:
    """Learn whether an unanswered try made an intent, without charging a card now: nobody waits for it any more.
    Stripe refuses a key that comes with other parameters than before, so the try's key without its card either
    finds that it was used, or makes an intent that wants a card.
    """
    with reading(ctx.db) as conn:
        order, tries = records.read(conn, order_id), records.read_attempts(conn, order_id)
    attempt = next((each for each in reversed(tries) if each.creates), None)
    if order is None or attempt is None or "payment_method" not in attempt.parameters:
        return create_intent(ctx, order_id)
    plain = {name: value for name, value in attempt.parameters.items() if name not in ("payment_method", "confirm")}
    try:
        intent = _create(ctx, order, attempt, plain)
    except ProviderRefused as refused:
        if refused.code != "idempotency_error":
            return _without_refused(ctx, order, attempt, refused)
        return create_intent(ctx, order_id)
    return Tried(apply_intent(ctx, order_id, intent, AttemptResult(attempt.number, intent.status)))


def _create(ctx: Context, order: OrderRecord, attempt: Attempt, parameters: Mapping[str, Any]) -> Intent:
    try:
        return ctx.provider.create_intent(parameters, attempt.idempotency_key)
    except ProviderUnavailable as silence:
        if not silence.stuck:
            raise
    # The provider repeats a failure under this key. What it left behind carries our order's id; else the key is spent.
    since = int(attempt.created_at.timestamp()) - _LOOK_BACK_SECONDS
    found = [each for each in ctx.provider.list_intents(since) if each.metadata.get("order_id") == order.id]
    if found:
        return max(found, key=lambda each: each.authorised)
    with ctx.db.begin() as conn:
        records.renew_key(conn, order.id, attempt)
    raise ProviderUnavailable("it repeats a failure; the next try has another key", 1)


def _without_refused(ctx: Context, order: OrderRecord, attempt: Attempt, refused: ProviderRefused) -> Tried:
    """The provider did not take the try's card, its customer or its other parameters. An intent without what it did
    not take keeps the order payable.
    """
    has_card = "payment_method" in attempt.parameters
    dropped = {"payment_method", "confirm"} if has_card and refused.param != "customer" else {*_FIELDS, "confirm"}
    plain = {name: value for name, value in attempt.parameters.items() if name not in dropped}
    with ctx.db.begin() as conn:
        records.lock(conn, order.id)
        records.close_attempts(conn, [(order.id, AttemptResult(attempt.number, "refused", refused.code))])
        if plain != attempt.parameters:
            records.add_attempts(conn, [NewAttempt(order.id, attempt.number + 1, None, plain)])
        else:
            records.write_payment(conn, order.id, due=None, due_at=None, last_error=str(refused))
            return Tried(Applied(Effect.RECORDED), refused=refused)
    ctx.checkpoint("attempt refused")
    made = create_intent(ctx, order.id)
    return Tried(made.applied, refused=made.refused or refused)


def confirm_intent(ctx: Context, order: OrderRecord, intent_id: str, attempt: Attempt) -> Tried:
    """Confirm the order's intent with the attempt's card. Raises ``ProviderUnavailable``."""
    try:
        intent = ctx.provider.confirm_intent(intent_id, attempt.parameters, attempt.idempotency_key)
    except Declined as declined:
        return _declined(ctx, order, attempt, declined, declined.intent or ctx.provider.retrieve_intent(intent_id))
    except ProviderRefused as refused:
        intent = refused.intent or ctx.provider.retrieve_intent(intent_id)
        applied = apply_intent(ctx, order.id, intent, AttemptResult(attempt.number, "refused", refused.code))
        return Tried(applied, refused=refused)
    except ProviderUnavailable as silence:
        if not silence.stuck:
            raise
        intent = ctx.provider.retrieve_intent(intent_id)
        if intent.status == "requires_payment_method":
            with ctx.db.begin() as conn:
                records.renew_key(conn, order.id, attempt)
            if intent.error_code is None:
                raise ProviderUnavailable("it repeats a failure; the next try has another key", 1) from None
            return _declined(ctx, order, attempt, Declined(intent.error_code, intent.decline_code, intent), intent)
    ctx.checkpoint("intent confirmed")
    return Tried(apply_intent(ctx, order.id, intent, AttemptResult(attempt.number, intent.status)))


def _declined(ctx: Context, order: OrderRecord, attempt: Attempt, declined: Declined, intent: Intent) -> Tried:
    result = AttemptResult(attempt.number, "declined", declined.decline_code)
    return Tried(apply_intent(ctx, order.id, intent, result), declined=declined)


def raise_outcome(order_id: str, attempt: Attempt) -> None:
    """Raise what a try that brought no money was answered with. The same request again is answered so again."""
    if attempt.outcome == "declined":
        raise Refusal(
            "card_declined",
            "The card was declined. The order can still be paid with another one.",
            decline_code=attempt.decline_code or "generic_decline",
            order_id=order_id,
        )
    if attempt.outcome == "refused":
        raise refusal_of(order_id, attempt.decline_code or "", attempt.parameters)


def refusal_of(order_id: str, code: str, parameters: Mapping[str, Any]) -> Refusal:
    """What a request is answered with whose parameters the provider refused."""
    fields = [field for name, field in _FIELDS.items() if name in parameters]
    if fields and code not in _OF_THE_AMOUNT:
        message = f"The payment provider does not take this ({code})."
        errors = [{"field": field, "message": message} for field in fields]
        return Refusal("validation_error", message, errors=errors, order_id=order_id)
    return Refusal(
        "order_not_payable",
        f"The payment provider does not take this payment ({code}).",
        order_id=order_id,
        reason=code,
    )


def away(silence: ProviderUnavailable) -> Refusal:
    return Refusal(
        "payment_provider_unavailable",
        "The payment provider does not answer. The same request again is safe.",
        retry_after=silence.retry_after,
    )
