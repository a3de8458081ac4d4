"""Refunds of captured money: whole or partial, never above what is left, and what the bank says of them later."""

import time
from functools import partial

from sandbox.stripe.amounts import positive, written
from sandbox.stripe.cards import BY_NAME
from sandbox.stripe.errors import Fault, invalid
from sandbox.stripe.lists import page
from sandbox.stripe.methods import changed, merged
from sandbox.stripe.records import Charge, Refund, new_id
from sandbox.stripe.shapes import Json, charge_shape, refund_shape
from sandbox.stripe.world import Call, World

# How long a bank takes to say what became of a refund (cards refundFail and pendingRefund).
OUTCOME_SECONDS = 0.3
REFUNDED = ("succeeded", "pending", "requires_action")


def create(world: World, call: Call) -> Json:
    params = call.params
    charge = _charge(world, params.get("payment_intent"), params.get("charge"))
    amount = _amount(charge, params.get("amount"))
    card = BY_NAME[charge.card]
    refund = Refund(
        id=new_id("re"),
        created=world.now(),
        metadata=merged({}, params.get("metadata")),
        charge=charge.id,
        intent=charge.intent,
        amount=amount,
        currency=charge.currency,
        status="pending" if card.refund == "pending" else "succeeded",
        reason=params.get("reason"),
    )
    if card.refund != "succeeded":
        refund.outcome = "succeeded" if card.refund == "pending" else "failed"
        refund.outcome_at_ms = int((time.time() + OUTCOME_SECONDS) * 1000)
    previous = {"amount_refunded": charge.amount_refunded}
    charge.amount_refunded += amount
    world.charges.save(charge)
    world.refunds.add(refund)
    world.refunds_of[charge.intent].append(refund)
    world.ledger.move("refund", charge.intent, charge.id, amount, charge.currency, refund.created)
    shown = refund_shape(refund)
    world.emit("refund.created", shown, call)
    world.emit("charge.refunded", charge_shape(charge), call, previous)
    _await_outcome(world, refund)
    return shown


def _charge(world: World, intent_id: str | None, charge_id: str | None) -> Charge:
    if charge_id is not None:
        charge = world.charges.get(charge_id, "charge")
        if intent_id is not None and charge.intent != intent_id:
            raise invalid(f"Charge {charge_id} is not of PaymentIntent {intent_id}.", "charge")
    elif intent_id is not None:
        intent = world.intents.get(intent_id, "payment_intent")
        found = world.charges.by_id.get(intent.latest_charge or "")
        if found is None or intent.status != "succeeded":
            raise Fault(
                400,
                f"This PaymentIntent ({intent.id}) does not have a successful charge to refund.",
                param="payment_intent",
                kept=True,
            )
        charge = found
    else:
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
    if not charge.captured:
        raise Fault(400, f"Charge {charge.id} is not captured: cancel its PaymentIntent instead.", kept=True)
    return charge


def _amount(charge: Charge, wanted: int | None) -> int:
    """`wanted`, or all that is left."""
    if charge.disputed:
        raise Fault(
            400,
            f"Charge {charge.id} has been charged back; cannot issue a refund.",
            code="charge_disputed",
            kept=True,
        )
    left = charge.amount - charge.amount_refunded
    if left == 0:
        message = f"Charge {charge.id} has already been refunded."
        raise Fault(400, message, code="charge_already_refunded", kept=True)
    if wanted is None:
        return left
    if positive(wanted, "amount") > left:
        what = "charge amount" if left == charge.amount else "unrefunded amount on charge"
        asked, have = written(wanted, charge.currency), written(left, charge.currency)
        message = f"Refund amount ({asked}) is greater than {what} ({have})"
        raise Fault(400, message, param="amount", kept=True)
    return wanted


def update(world: World, call: Call) -> Json:
    refund = world.refunds.get(call.id, "id", status=404)
    before = refund_shape(refund)
    refund.metadata = merged(refund.metadata, call.params.get("metadata"))
    world.refunds.save(refund)
    shown = refund_shape(refund)
    world.emit("refund.updated", shown, call, changed(before, shown))
    return shown


def cancel(world: World, call: Call) -> Json:
    refund = world.refunds.get(call.id, "id", status=404)
    message = f"Only refunds that require an action can be canceled; {refund.id} is {refund.status}."
    raise Fault(400, message, kept=True)


def retrieve(world: World, call: Call) -> Json:
    return refund_shape(world.refunds.get(call.id, "id", status=404))


def list_refunds(world: World, call: Call) -> Json:
    rows = world.refunds.rows
    if "payment_intent" in call.params:
        rows = world.refunds_of.get(call.params["payment_intent"], [])
    if "charge" in call.params:
        rows = [row for row in rows if row.charge == call.params["charge"]]
    return page(call, rows, refund_shape, "/v1/refunds", world.refunds.by_id, "refund")


# -- the bank's word
def _await_outcome(world: World, refund: Refund) -> None:
    if refund.outcome is not None:
        left = refund.outcome_at_ms / 1000 - time.time()
        world.later(max(left, 0.0), partial(settle, world, refund, refund.outcome))


def resume(world: World) -> None:
    """After a restart: the outcomes that were still to come."""
    for refund in world.refunds.rows:
        _await_outcome(world, refund)


def settle(world: World, refund: Refund, status: str) -> Json:
    """A refund ends as `succeeded`, or `failed`, when the money is the shop's again."""
    refund.outcome = None
    if refund.status == status or refund.status not in REFUNDED or refund.void:
        world.refunds.save(refund)
        return refund_shape(refund)
    before = refund_shape(refund)
    refund.status = status
    if status == "failed":
        refund.failure_reason = "expired_or_canceled_card"
        charge = world.charges.by_id[refund.charge]
        charge.amount_refunded -= refund.amount
        world.charges.save(charge)
        world.ledger.move("refund_failed", refund.intent, refund.charge, refund.amount, refund.currency, world.now())
    world.refunds.save(refund)
    call, shown = Call(), refund_shape(refund)
    previous = changed(before, shown)
    world.emit("refund.updated", shown, call, previous)
    world.emit("charge.refund.updated", shown, call, previous)
    if status == "failed":
        world.emit("refund.failed", shown, call, previous)
    return shown
