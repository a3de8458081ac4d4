"""How a confirmed intent moves: challenged, declined, authorised, captured, voided.

Each step writes the intent, its charge and the ledger, and emits Stripe's events for it.
"""

from sandbox.stripe import disputes
from sandbox.stripe.cards import BY_NAME, Card
from sandbox.stripe.errors import Fault, doc_url
from sandbox.stripe.methods import error_of
from sandbox.stripe.records import Charge, Intent, Method, Refund, new_id
from sandbox.stripe.shapes import Json, charge_shape, intent_shape, method_shape
from sandbox.stripe.world import Call, World

AUTHENTICATION_FAILED = (
    "We are unable to authenticate your payment method. Please choose a different payment method and try again."
)


def attempt(
    world: World,
    call: Call,
    intent: Intent,
    method: Method,
    *,
    authenticated: bool = False,
    off_session: bool = False,
    error_on_action: bool = False,
    return_url: str | None = None,
) -> Fault | None:
    """Charges `method` for `intent`. Returns the 402 where it was refused; the intent then wants another method."""
    card = BY_NAME[method.card]
    intent.payment_method = method.id
    intent.last_error, intent.next_action = None, None
    if not authenticated and (card.challenge or world.dice.challenge()):
        if off_session or error_on_action:
            return _decline(world, call, intent, method, _unauthenticated(off_session=off_session))
        _challenge(world, call, intent, return_url)
        return None
    refusal = world.dice.decline() or (card if card.code is not None else None)
    if refusal is not None:
        return _decline(world, call, intent, method, refusal)
    charge = _charge(world, intent, method, "pending" if card.processing else "succeeded")
    charge.authenticated = authenticated
    if card.processing:
        intent.status = "processing"
        _save(world, intent, charge)
        world.emit("charge.pending", charge_shape(charge), call)
        world.emit("payment_intent.processing", intent_shape(intent), call)
    else:
        approve(world, call, intent, charge)
    return None


def _charge(world: World, intent: Intent, method: Method, status: str) -> Charge:
    charge = Charge(
        id=new_id("ch"),
        created=world.now(),
        metadata=dict(intent.metadata),
        intent=intent.id,
        amount=intent.amount,
        currency=intent.currency,
        card=method.card,
        payment_method=method.id,
        status=status,
        customer=intent.customer,
        description=intent.extra.get("description"),
    )
    world.charges.add(charge)
    world.charges_of[intent.id].append(charge)
    intent.latest_charge = charge.id
    return charge


def _save(world: World, intent: Intent, charge: Charge | None = None) -> None:
    world.intents.save(intent)
    if charge is not None:
        world.charges.save(charge)


def _unauthenticated(*, off_session: bool) -> Card:
    why = "authentication_required"
    message = (
        "Your card was declined. This transaction requires authentication."
        if off_session
        else "This payment required an authentication action to complete, but `error_on_requires_action` was set."
    )
    return Card("unauthenticated", "0", code=why, decline_code=why if off_session else None, message=message)


def _challenge(world: World, call: Call, intent: Intent, return_url: str | None) -> None:
    hook = f"{call.base_url}/_hooks/3ds/{intent.id}"
    if return_url:
        redirect = {"return_url": return_url, "url": hook}
        intent.next_action = {"redirect_to_url": redirect, "type": "redirect_to_url"}
    else:
        sdk = {"source": new_id("src"), "stripe_js": hook, "type": "three_d_secure_redirect"}
        intent.next_action = {"type": "use_stripe_sdk", "use_stripe_sdk": sdk}
    intent.status = "requires_action"
    _save(world, intent)
    world.emit("payment_intent.requires_action", intent_shape(intent), call)


def _decline(world: World, call: Call, intent: Intent, method: Method, refusal: Card) -> Fault:
    charge = _charge(world, intent, method, "failed")
    charge.failure_code, charge.failure_message = refusal.code, refusal.message
    charge.decline_code = refusal.decline_code
    return _fail(world, call, intent, charge, error_of(refusal, method, charge.id))


def _fail(world: World, call: Call, intent: Intent, charge: Charge | None, error: Json) -> Fault:
    intent.status = "requires_payment_method"
    intent.payment_method, intent.next_action = None, None
    intent.last_error = error
    _save(world, intent, charge)
    if charge is not None:
        world.emit("charge.failed", charge_shape(charge), call)
    world.emit("payment_intent.payment_failed", intent_shape(intent), call)
    extra: Json = {name: error[name] for name in ("charge", "decline_code", "payment_method") if name in error}
    extra["payment_intent"] = intent_shape(intent, public=call.public)
    return Fault(
        402, error["message"], kind=error["type"], code=error["code"], kept=True, extra=extra
    )  # fmt: skip


def approve(world: World, call: Call, intent: Intent, charge: Charge) -> None:
    """The bank has said yes: the money is set aside, and taken at once unless the capture is manual."""
    charge.status = "succeeded"
    world.ledger.move("authorise", intent.id, charge.id, charge.amount, charge.currency, world.now())
    _spend(world, intent, charge)
    if intent.capture_method == "manual":
        intent.status, intent.amount_capturable = "requires_capture", charge.amount
        _save(world, intent, charge)
        world.emit("charge.succeeded", charge_shape(charge), call)
        world.emit("payment_intent.amount_capturable_updated", intent_shape(intent), call)
        return
    _take(world, intent, charge, charge.amount)
    world.emit("charge.succeeded", charge_shape(charge), call)
    world.emit("payment_intent.succeeded", intent_shape(intent), call)
    disputes.follow(world, charge)


def _spend(world: World, intent: Intent, charge: Charge) -> None:
    method = world.methods.by_id[charge.payment_method]
    if method.customer is None:
        method.spent = True
        if intent.customer is not None and intent.setup_future_usage:
            method.customer = intent.customer
        world.methods.save(method)


def _take(world: World, intent: Intent, charge: Charge, amount: int) -> None:
    charge.captured, charge.amount_captured = True, amount
    intent.status, intent.amount_capturable, intent.amount_received = "succeeded", 0, amount
    world.ledger.move("capture", intent.id, charge.id, amount, charge.currency, world.now())
    _save(world, intent, charge)


def capture(world: World, call: Call, intent: Intent, amount: int) -> None:
    """Takes `amount` of what was set aside; the rest is released, which Stripe shows as a refund."""
    charge = world.charges.by_id[intent.latest_charge or ""]
    _take(world, intent, charge, amount)
    if amount < charge.amount:
        _release(world, intent, charge, charge.amount - amount)
    world.emit("charge.captured", charge_shape(charge), call)
    world.emit("payment_intent.succeeded", intent_shape(intent), call)
    disputes.follow(world, charge)


def _release(world: World, intent: Intent, charge: Charge, amount: int) -> None:
    now = world.now()
    world.ledger.move("void", intent.id, charge.id, amount, charge.currency, now)
    charge.amount_refunded += amount
    refund = Refund(
        id=new_id("re"),
        created=now,
        charge=charge.id,
        intent=intent.id,
        amount=amount,
        currency=charge.currency,
        status="succeeded",
        void=True,
    )
    world.refunds.add(refund)
    world.refunds_of[intent.id].append(refund)
    _save(world, intent, charge)


def cancel(world: World, call: Call, intent: Intent, reason: str | None, *, lapsed: bool = False) -> None:
    """Ends the intent; money that was set aside goes back whole."""
    held = intent.status == "requires_capture"
    intent.status, intent.amount_capturable = "canceled", 0
    intent.canceled_at, intent.cancellation_reason = world.now(), reason
    intent.next_action = None
    _save(world, intent)
    charge = world.charges.by_id[intent.latest_charge or ""] if held else None
    if charge is not None:
        _release(world, intent, charge, charge.amount)
    world.emit("payment_intent.canceled", intent_shape(intent), call)
    if charge is not None:
        world.emit("charge.expired" if lapsed else "charge.refunded", charge_shape(charge), call)


def authenticate(world: World, intent: Intent, *, success: bool) -> None:
    """The customer answers the 3-D Secure challenge of an intent that `requires_action`."""
    call, method = Call(), world.methods.by_id[intent.payment_method or ""]
    if not success:
        code = "payment_intent_authentication_failure"
        error: Json = {"code": code, "doc_url": doc_url(code), "message": AUTHENTICATION_FAILED}
        error |= {"payment_method": method_shape(method), "type": "invalid_request_error"}
        _fail(world, call, intent, None, error)
    elif intent.confirmation_method == "manual":
        intent.status, intent.authenticated, intent.next_action = "requires_confirmation", True, None
        _save(world, intent)
    else:
        attempt(world, call, intent, method, authenticated=True)


def finish(world: World, intent: Intent, *, success: bool) -> None:
    """The bank's late word on an intent that is `processing`."""
    call, charge = Call(), world.charges.by_id[intent.latest_charge or ""]
    if success:
        approve(world, call, intent, charge)
        return
    method = world.methods.by_id[charge.payment_method]
    refusal = BY_NAME["chargeDeclined"]
    charge.status, charge.decline_code = "failed", refusal.decline_code
    charge.failure_code, charge.failure_message = refusal.code, refusal.message
    _fail(world, call, intent, charge, error_of(refusal, method, charge.id))
