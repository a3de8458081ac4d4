"""Disputes: opened by a card that is known for it or by the control route, never by the shop."""

from sandbox.stripe.cards import BY_NAME
from sandbox.stripe.errors import invalid
from sandbox.stripe.lists import page
from sandbox.stripe.records import Charge, Dispute, new_id
from sandbox.stripe.shapes import Json, charge_shape, dispute_shape
from sandbox.stripe.world import Call, World


def follow(world: World, charge: Charge) -> None:
    """Opens the dispute that the charge's card brings, once the money was taken."""
    card = BY_NAME[charge.card]
    if card.dispute is not None:
        open_dispute(world, charge, card.dispute, inquiry=card.inquiry)


def open_dispute(world: World, charge: Charge, reason: str, *, inquiry: bool = False) -> Json:
    """The bank takes back what the shop still has of this charge; an inquiry only asks."""
    amount = charge.amount_captured - sum(
        refund.amount
        for refund in world.refunds_of[charge.intent]
        if refund.charge == charge.id and not refund.void and refund.status != "failed"
    )
    if amount < 1 or charge.disputed:
        raise invalid("A dispute needs a captured charge with money left, and is opened once.", "charge")
    dispute = Dispute(
        id=new_id("dp"),
        created=world.now(),
        charge=charge.id,
        intent=charge.intent,
        amount=amount,
        currency=charge.currency,
        card=charge.card,
        reason=reason,
        status="warning_needs_response" if inquiry else "needs_response",
    )
    world.disputes.add(dispute)
    charge.disputed = True
    world.charges.save(charge)
    call, shown = Call(), dispute_shape(dispute)
    world.emit("charge.dispute.created", shown, call)
    if not inquiry:
        world.ledger.move("dispute", charge.intent, charge.id, amount, charge.currency, world.now())
        world.emit("charge.dispute.funds_withdrawn", shown, call)
    world.emit("charge.updated", charge_shape(charge), call, {"disputed": False})
    return shown


def close(world: World, dispute: Dispute, *, won: bool) -> Json:
    """The bank decides."""
    if dispute.status not in ("needs_response", "warning_needs_response"):
        raise invalid(f"This dispute is already closed: {dispute.status}.", "dispute")
    call, previous = Call(), {"status": dispute.status}
    inquiry = dispute.status.startswith("warning")
    dispute.status = "warning_closed" if inquiry else "won" if won else "lost"
    world.disputes.save(dispute)
    shown = dispute_shape(dispute)
    world.emit("charge.dispute.closed", shown, call, previous)
    if won and not inquiry:
        world.ledger.move("dispute_won", dispute.intent, dispute.charge, dispute.amount, dispute.currency, world.now())
        world.emit("charge.dispute.funds_reinstated", shown, call)
    return shown


def retrieve(world: World, call: Call) -> Json:
    return dispute_shape(world.disputes.get(call.id, "dispute", status=404))


def list_disputes(world: World, call: Call) -> Json:
    rows = world.disputes.rows
    for name, attribute in (("charge", "charge"), ("payment_intent", "intent")):
        if name in call.params:
            rows = [row for row in rows if getattr(row, attribute) == call.params[name]]
    return page(call, rows, dispute_shape, "/v1/disputes", world.disputes.by_id, "dispute")
