"""Refunds never exceed what was captured, and what a bank says of them later is told by events; so are disputes."""

from typing import Any

import pytest
import stripe

from sandbox.stripe.process import StripeStandIn
from tests.sandbox.conftest import Inbox, Pay


@pytest.fixture
def paid(pay: Pay) -> stripe.PaymentIntent:
    return pay(amount=1000, capture_method="automatic")


def charge_of(shop: stripe.StripeClient, intent: stripe.PaymentIntent) -> stripe.Charge:
    return shop.v1.charges.list({"payment_intent": intent.id}).data[0]


def test_partial_refunds_up_to_the_whole(shop: stripe.StripeClient, paid: stripe.PaymentIntent) -> None:
    first = shop.v1.refunds.create(
        {"payment_intent": paid.id, "amount": 300, "reason": "requested_by_customer", "metadata": {"r": "1"}}
    )
    assert (first.status, first.amount, first.metadata and first.metadata["r"]) == ("succeeded", 300, "1")
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded amount") as refused:
        shop.v1.refunds.create({"payment_intent": paid.id, "amount": 701})
    assert (refused.value.param, refused.value.http_status) == ("amount", 400)
    rest = shop.v1.refunds.create({"charge": str(paid.latest_charge)})
    assert rest.amount == 700
    with pytest.raises(stripe.InvalidRequestError) as again:
        shop.v1.refunds.create({"payment_intent": paid.id})
    assert again.value.code == "charge_already_refunded"
    charge = shop.v1.charges.retrieve(str(paid.latest_charge), {"expand": ["refunds"]})
    assert (charge.refunded, charge.amount_refunded) == (True, 1000)
    assert charge.refunds is not None
    assert [row.id for row in charge.refunds.data] == [rest.id, first.id]
    assert [row.id for row in shop.v1.refunds.list({"payment_intent": paid.id}).data] == [rest.id, first.id]
    assert shop.v1.refunds.retrieve(first.id).amount == 300


@pytest.mark.parametrize(
    ("params", "param"),
    [({"amount": 0}, "amount"), ({"amount": -5}, "amount"), ({"reason": "changed my mind"}, "reason")],
)
def test_a_refund_that_makes_no_sense_is_refused(
    params: Any, param: str, shop: stripe.StripeClient, paid: stripe.PaymentIntent
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.refunds.create(params | {"payment_intent": paid.id})
    assert refused.value.param == param


def test_only_captured_money_is_refunded(shop: stripe.StripeClient, pay: Pay) -> None:
    authorised = pay()
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
        shop.v1.refunds.create({"payment_intent": authorised.id})
    with pytest.raises(stripe.InvalidRequestError, match="payment_intent or charge"):
        shop.v1.refunds.create({})
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        shop.v1.refunds.create({"payment_intent": "pi_none"})
    assert (unknown.value.code, unknown.value.http_status) == ("resource_missing", 400)


def test_a_refund_that_fails_later_gives_the_money_back_to_the_shop(
    shop: stripe.StripeClient, pay: Pay, stand_in: StripeStandIn, inbox: Inbox
) -> None:
    intent = pay("pm_card_refundFail", amount=1000, capture_method="automatic")
    refund = shop.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    events = inbox.wait(8)
    failed = next(event for event in events if event["type"] == "refund.failed")
    assert failed["data"]["object"]["failure_reason"] == "expired_or_canceled_card"
    assert failed["data"]["previous_attributes"]["status"] == "succeeded"
    assert failed["request"] == {"id": None, "idempotency_key": None}
    assert shop.v1.refunds.retrieve(refund.id).status == "failed"
    assert charge_of(shop, intent).amount_refunded == 0
    books = next(row for row in stand_in.ledger()["intents"] if row["id"] == intent.id)
    assert (books["refunded"], books["net"]) == (0, 1000)


def test_a_pending_refund_succeeds_later(shop: stripe.StripeClient, pay: Pay, inbox: Inbox) -> None:
    intent = pay("pm_card_pendingRefund", capture_method="automatic")
    refund = shop.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == "pending"
    inbox.wait(7)
    assert "refund.updated" in inbox.types(intent.id)
    assert shop.v1.refunds.retrieve(refund.id).status == "succeeded"


def test_any_refund_fails_on_request(
    shop: stripe.StripeClient, paid: stripe.PaymentIntent, stand_in: StripeStandIn
) -> None:
    refund = shop.v1.refunds.create({"payment_intent": paid.id, "amount": 600})
    assert stand_in.fail_refund(refund.id)["status"] == "failed"
    assert stand_in.fail_refund(refund.id)["status"] == "failed"
    assert charge_of(shop, paid).amount_refunded == 0
    assert shop.v1.refunds.create({"payment_intent": paid.id, "amount": 1000}).status == "succeeded"


def test_a_released_authorisation_is_listed_as_a_reversal(shop: stripe.StripeClient, pay: Pay) -> None:
    intent = pay()
    shop.v1.payment_intents.cancel(intent.id)
    listed = shop.v1.refunds.list({"payment_intent": intent.id}).data
    assert [(row.amount, row.status) for row in listed] == [(1099, "succeeded")]
    assert listed[0].to_dict()["destination_details"]["card"]["type"] == "reversal"


@pytest.mark.parametrize("by", ["card", "control"])
def test_a_dispute_takes_the_money_and_stops_refunds(
    by: str, shop: stripe.StripeClient, pay: Pay, stand_in: StripeStandIn, inbox: Inbox
) -> None:
    intent = pay("pm_card_createDispute" if by == "card" else "pm_card_visa")
    shop.v1.payment_intents.capture(intent.id)
    if by == "control":
        stand_in.dispute(intent.id, "product_not_received")
    disputes = shop.v1.disputes.list({"payment_intent": intent.id}).data
    assert [(row.amount, row.status) for row in disputes] == [(1099, "needs_response")]
    assert disputes[0].reason == ("fraudulent" if by == "card" else "product_not_received")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_disputed"
    assert charge_of(shop, intent).disputed
    stand_in.wait_delivered()
    assert "charge.dispute.created" in inbox.types(intent.id)
    stand_in.control("POST", f"disputes/{disputes[0].id}/close", {"won": True})
    books = next(row for row in stand_in.ledger()["intents"] if row["id"] == intent.id)
    assert (books["disputed"], books["net"]) == (0, 1099)
    assert shop.v1.disputes.retrieve(disputes[0].id).status == "won"
