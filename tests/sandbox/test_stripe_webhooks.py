"""Events are recorded in Stripe's shape and sent signed: again where they were refused, once where all is well."""

import contextlib
import time
from typing import Any

import pytest
import stripe

from sandbox.stripe.process import StripeStandIn
from tests.sandbox.conftest import NO_REDIRECTS, Inbox, Pay, client_of

AUTHORISED = ["payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated"]


def test_each_event_is_signed_and_verifies(pay: Pay, inbox: Inbox, stand_in: StripeStandIn) -> None:
    pay()
    inbox.wait(3)
    for body, signature in inbox.arrived:
        event = stripe.Webhook.construct_event(body, signature, stand_in.webhook_secret)
        assert (event.object, event.livemode) == ("event", False)
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, signature, "whsec_other")
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body + b" ", signature, stand_in.webhook_secret)


def test_an_event_says_what_caused_it(shop: stripe.StripeClient, pay: Pay, inbox: Inbox) -> None:
    intent = pay(metadata={"order_id": "order_9"})
    shop.v1.payment_intents.capture(intent.id, {}, {"idempotency_key": "capture-9"})
    events = inbox.wait(5)
    done = next(event for event in events if event["type"] == "payment_intent.succeeded")
    assert done["request"]["idempotency_key"] == "capture-9"
    assert done["request"]["id"].startswith("req_")
    assert done["api_version"] == stripe.api_version
    assert done["data"]["object"]["metadata"] == {"order_id": "order_9"}
    assert (done["pending_webhooks"], done["data"]["object"]["amount_received"]) == (1, 1099)
    held = next(event for event in events if event["type"] == AUTHORISED[2])
    assert held["data"]["object"]["status"] == "requires_capture", "a snapshot of its moment"


@pytest.mark.parametrize(
    ("card", "types"),
    [
        ("pm_card_visa", AUTHORISED),
        ("pm_card_threeDSecure2Required", ["payment_intent.created", "payment_intent.requires_action"]),
        ("pm_card_staysProcessing", ["payment_intent.created", "charge.pending", "payment_intent.processing"]),
        ("pm_card_chargeDeclined", ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]),
    ],
)
def test_each_outcome_of_a_confirmation_has_its_events(
    card: str, types: list[str], shop: stripe.StripeClient, pay: Pay, inbox: Inbox
) -> None:
    with contextlib.suppress(stripe.CardError):
        pay(card)
    intent = shop.v1.payment_intents.list({"limit": 1}).data[0].id
    inbox.wait(len(types))
    assert sorted(inbox.types(intent)) == sorted(types)
    recorded = shop.v1.events.list({"limit": len(types)}).data
    assert [event.type for event in reversed(recorded)] == types, "the record is in order; the delivery need not be"


def test_the_end_of_an_intent_has_its_events(
    shop: stripe.StripeClient, pay: Pay, inbox: Inbox, stand_in: StripeStandIn
) -> None:
    cancelled, lapsed, refunded = pay(), pay(), pay(capture_method="automatic")
    shop.v1.payment_intents.cancel(cancelled.id)
    stand_in.lapse(lapsed.id)
    shop.v1.refunds.create({"payment_intent": refunded.id})
    stand_in.wait_delivered()
    assert {"payment_intent.canceled", "charge.refunded"} <= set(inbox.types(cancelled.id))
    assert {"payment_intent.canceled", "charge.expired"} <= set(inbox.types(lapsed.id))
    assert {"refund.created", "charge.refunded"} <= set(inbox.types(refunded.id))


def test_a_refused_webhook_is_sent_again_with_a_fresh_signature(
    pay: Pay, inbox: Inbox, stand_in: StripeStandIn
) -> None:
    inbox.answers = [500, 503, 400, 302]
    pay()
    inbox.wait(7)
    state = stand_in.wait_delivered()
    ids = [event["id"] for event in inbox.events]
    assert (len(ids), len(set(ids))) == (7, 3)
    assert state["underway"] == 0
    for body, signature in inbox.arrived:
        stripe.WebhookSignature.verify_header(body, signature, stand_in.webhook_secret, 300)


def test_nothing_is_lost_while_the_shop_is_away(pay: Pay, stand_in: StripeStandIn) -> None:
    box = Inbox()
    stand_in.aim("http://127.0.0.1:9/nobody", "whsec_one")
    pay()
    until = time.monotonic() + 30
    while not stand_in.webhooks()["failed_attempts"] and time.monotonic() < until:
        time.sleep(0.01)
    stand_in.aim(box.url, "whsec_two")
    try:
        box.wait(3)
        body, signature = box.arrived[0]
        stripe.WebhookSignature.verify_header(body, signature, "whsec_two", 300)
    finally:
        stand_in.aim(None)
        box.close()


def test_an_endpoint_may_ask_for_some_events_only(pay: Pay, inbox: Inbox, stand_in: StripeStandIn) -> None:
    stand_in.aim(inbox.url, events=["payment_intent.amount_capturable_updated"])
    pay()
    inbox.wait(1)
    stand_in.wait_delivered()
    assert inbox.types() == ["payment_intent.amount_capturable_updated"]


def test_connections_are_kept(pay: Pay, inbox: Inbox, stand_in: StripeStandIn) -> None:
    for _ in range(15):
        pay()
    stand_in.wait_delivered()
    assert len(inbox.arrived) == 45
    assert len(inbox.connections) <= 16


def test_events_can_be_listed_and_read(shop: stripe.StripeClient, pay: Pay) -> None:
    pay()
    pay()
    types = [event.type for event in shop.v1.events.list({"limit": 6}).data]
    assert types == (AUTHORISED * 2)[::-1]
    some = shop.v1.events.list({"type": "payment_intent.*", "limit": 4}).data
    assert {event.type for event in some} == {AUTHORISED[0], AUTHORISED[2]}
    exact = shop.v1.events.list({"types": ["charge.succeeded", "charge.failed"], "limit": 2}).data
    assert [event.type for event in exact] == ["charge.succeeded"] * 2
    page = shop.v1.events.list({"limit": 2, "starting_after": some[0].id})
    back = shop.v1.events.list({"limit": 1, "ending_before": page.data[0].id})
    assert back.data[0].id == some[0].id
    assert shop.v1.events.list({"created": {"gt": int(time.time()) + 60}}).data == []
    one = shop.v1.events.retrieve(some[0].id)
    data: Any = one.data
    assert data.object["object"] == "payment_intent"
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.events.retrieve("evt_none")


def test_known_events_are_sent_again_on_request(
    shop: stripe.StripeClient, pay: Pay, inbox: Inbox, stand_in: StripeStandIn
) -> None:
    stand_in.aim(None)
    pay()
    newest = shop.v1.events.list({"limit": 1}).data[0]
    stand_in.aim(inbox.url)
    assert stand_in.resend(newest.id) == 1
    assert [event["id"] for event in inbox.wait(1)] == [newest.id]


def test_an_endpoint_keeps_its_choice_of_events_over_a_restart(inbox: Inbox) -> None:
    chosen = ["payment_intent.amount_capturable_updated", "payment_intent.succeeded"]
    with StripeStandIn(webhook_url=inbox.url, webhook_events=chosen) as own:
        for _ in range(2):
            shop = client_of(own)
            assert shop.v1.webhook_endpoints.list().data[0].enabled_events == chosen
            made: Any = {"amount": 1099, "currency": "usd", "automatic_payment_methods": NO_REDIRECTS}
            intent = shop.v1.payment_intents.create(made)
            assert own.pay(intent.client_secret or "")[0] == 200
            own.wait_delivered()
            assert inbox.types(intent.id) == ["payment_intent.succeeded"]
            assert len(shop.v1.events.list({"limit": 3}).data) == 3, "what is not sent is recorded all the same"
            own.restart()
