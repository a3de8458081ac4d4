"""The stand-in moves a PaymentIntent through Stripe's states, and through no others."""

from typing import Any

import pytest
import stripe

from sandbox.stripe.ledger import Ledger
from sandbox.stripe.process import StripeStandIn
from sandbox.stripe.store import Store
from tests.sandbox.conftest import NO_REDIRECTS, Pay


def new(shop: stripe.StripeClient, **params: Any) -> stripe.PaymentIntent:
    whole: Any = {
        "amount": 1099,
        "currency": "usd",
        "capture_method": "manual",
        "automatic_payment_methods": NO_REDIRECTS,
    } | params
    return shop.v1.payment_intents.create(whole)


def account(stand_in: StripeStandIn, intent: str) -> dict[str, Any]:
    return next(row for row in stand_in.ledger()["intents"] if row["id"] == intent)


def saved_card(shop: stripe.StripeClient, card: str = "pm_card_visa") -> tuple[str, str]:
    customer = shop.v1.customers.create({"email": "jenny@example.com", "name": "Jenny"})
    method = shop.v1.payment_methods.attach(card, {"customer": customer.id})
    return customer.id, method.id


def test_authorise_then_capture(shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    intent = new(shop, metadata={"order_id": "order_1"})
    assert (intent.status, intent.amount_capturable) == ("requires_payment_method", 0)
    status, shown = stand_in.pay(intent.client_secret or "")
    assert (status, shown["status"]) == (200, "requires_capture")
    assert "metadata" not in shown, "a browser is not shown what is the shop's own"
    intent = shop.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    charge = intent.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (intent.amount_capturable, intent.amount_received, charge.captured) == (1099, 0, False)
    assert account(stand_in, intent.id)["waiting"] == 1099

    intent = shop.v1.payment_intents.capture(intent.id, {"amount_to_capture": 1099})
    assert (intent.status, intent.amount_received, intent.amount_capturable) == ("succeeded", 1099, 0)
    assert intent.metadata["order_id"] == "order_1"
    assert account(stand_in, intent.id)["captured"] == 1099


def test_automatic_capture_takes_the_money_at_once(pay: Pay, stand_in: StripeStandIn) -> None:
    intent = pay(capture_method="automatic", confirm=True)
    assert (intent.status, intent.amount_received) == ("succeeded", 1099)
    assert account(stand_in, intent.id) | {"authorised": 1099, "captured": 1099, "waiting": 0} == account(
        stand_in, intent.id
    )


def test_cancelling_an_authorised_intent_succeeds_and_voids_it(
    pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn
) -> None:
    intent = pay()
    cancelled = shop.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (cancelled.status, cancelled.cancellation_reason) == ("canceled", "abandoned")
    assert (cancelled.amount_capturable, cancelled.canceled_at is not None) == (0, True)
    charge = shop.v1.charges.retrieve(str(cancelled.latest_charge))
    assert (charge.refunded, charge.amount_refunded, charge.captured) == (True, 1099, False)
    books = account(stand_in, intent.id)
    assert (books["voided"], books["refunded"], books["waiting"]) == (1099, 0, 0)


def test_a_partial_capture_releases_the_rest(pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    intent = pay(amount=1000)
    shop.v1.payment_intents.capture(intent.id, {"amount_to_capture": 700})
    charge = shop.v1.charges.list({"payment_intent": intent.id}).data[0]
    assert (charge.amount_captured, charge.amount_refunded, charge.refunded) == (700, 300, False)
    books = account(stand_in, intent.id)
    assert (books["captured"], books["voided"], books["net"]) == (700, 300, 700)


@pytest.mark.parametrize("end", ["captured", "canceled"])
@pytest.mark.parametrize("act", ["capture", "cancel", "confirm", "update"])
def test_an_intent_that_has_ended_is_refused_with_itself_in_the_error(
    end: str, act: str, pay: Pay, shop: stripe.StripeClient
) -> None:
    intent = pay()
    if end == "captured":
        shop.v1.payment_intents.capture(intent.id)
    else:
        shop.v1.payment_intents.cancel(intent.id)
    calls: dict[str, Any] = {
        "capture": lambda: shop.v1.payment_intents.capture(intent.id),
        "cancel": lambda: shop.v1.payment_intents.cancel(intent.id),
        "confirm": lambda: shop.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"}),
        "update": lambda: shop.v1.payment_intents.update(intent.id, {"amount": 2000}),
    }
    with pytest.raises(stripe.InvalidRequestError) as refused:
        calls[act]()
    assert (refused.value.code, refused.value.http_status) == ("payment_intent_unexpected_state", 400)
    body: Any = refused.value.json_body
    assert body["error"]["payment_intent"]["status"] == ("succeeded" if end == "captured" else "canceled")


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
    ],
)
def test_a_decline_leaves_the_intent_open_for_another_card(
    card: str, code: str, decline_code: str, pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn
) -> None:
    with pytest.raises(stripe.CardError) as declined:
        pay(card)
    error = declined.value.error
    assert error is not None
    assert (declined.value.http_status, declined.value.code, error.decline_code) == (402, code, decline_code)
    assert error.payment_intent is not None
    intent = shop.v1.payment_intents.retrieve(error.payment_intent.id)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.charge == intent.latest_charge
    again = shop.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_mastercard"})
    assert (again.status, again.last_payment_error) == ("requires_capture", None)
    tries = shop.v1.charges.list({"payment_intent": intent.id}).data
    assert [charge.status for charge in tries] == ["succeeded", "failed"]
    assert account(stand_in, intent.id)["authorised"] == 1099


@pytest.mark.parametrize("card", ["pm_card_threeDSecure2Required", "pm_card_authenticationRequired"])
def test_3d_secure_passed(card: str, pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    intent = pay(card)
    assert intent.status == "requires_action"
    assert intent.next_action is not None
    assert intent.next_action.type == "use_stripe_sdk"
    assert stand_in.authenticate(intent.id)["status"] == "requires_capture"
    assert shop.v1.payment_intents.capture(intent.id).status == "succeeded"


def test_3d_secure_refused_by_its_hook(pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    intent = pay("pm_card_authenticationRequired", return_url="https://shop.example/return?order=1")
    assert intent.next_action is not None
    assert intent.next_action.redirect_to_url is not None
    hook = str(intent.next_action.redirect_to_url.url)
    assert hook.startswith(stand_in.base_url)
    status, shown = stand_in._ask("GET", hook.removeprefix(stand_in.base_url) + "?success=false", b"", {})
    assert (status, shown["status"]) == (303, "requires_payment_method")
    failed = shop.v1.payment_intents.retrieve(intent.id)
    assert failed.last_payment_error is not None
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"


def test_off_session_payments_cannot_be_challenged(shop: stripe.StripeClient, pay: Pay) -> None:
    customer, method = saved_card(shop, "pm_card_authenticationRequired")
    with pytest.raises(stripe.CardError) as declined:
        pay(method, customer=customer, off_session=True)
    assert declined.value.code == "authentication_required"
    with pytest.raises(stripe.CardError):
        pay(method, customer=customer, error_on_requires_action=True)


def test_a_challenged_card_may_still_be_declined(pay: Pay, stand_in: StripeStandIn) -> None:
    intent = pay("pm_card_threeDSecureRequiredChargeDeclined")
    assert stand_in.authenticate(intent.id)["last_payment_error"]["code"] == "card_declined"


def test_manual_confirmation_comes_back_to_the_server(
    pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn
) -> None:
    intent = pay("pm_card_threeDSecure2Required", confirmation_method="manual")
    assert stand_in.authenticate(intent.id)["status"] == "requires_confirmation"
    assert shop.v1.payment_intents.confirm(intent.id).status == "requires_capture"


@pytest.mark.parametrize("success", [True, False])
def test_a_processing_intent_waits_for_the_bank(
    success: bool, pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn
) -> None:
    intent = pay("pm_card_staysProcessing")
    assert (intent.status, account(stand_in, intent.id)["authorised"]) == ("processing", 0)
    with pytest.raises(stripe.InvalidRequestError, match="status of processing"):
        shop.v1.payment_intents.cancel(intent.id)
    done = stand_in.finish(intent.id, success=success)
    assert done["status"] == ("requires_capture" if success else "requires_payment_method")


def test_an_authorisation_lapses(pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    intent = pay()
    stand_in.lapse(intent.id)
    lapsed = shop.v1.payment_intents.retrieve(intent.id)
    assert (lapsed.status, lapsed.cancellation_reason) == ("canceled", "automatic")
    with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
        shop.v1.payment_intents.capture(intent.id)
    assert account(stand_in, intent.id)["voided"] == 1099


def test_a_saved_card_wants_its_customer(shop: stripe.StripeClient, pay: Pay) -> None:
    customer, method = saved_card(shop)
    stranger, _ = saved_card(shop)
    with pytest.raises(stripe.InvalidRequestError, match="include the Customer"):
        pay(method)
    with pytest.raises(stripe.InvalidRequestError, match="does not belong"):
        pay(method, customer=stranger)
    for _ in range(2):
        assert pay(method, customer=customer).status == "requires_capture"
    cards = shop.v1.payment_methods.list({"customer": customer, "type": "card"}).data
    assert [card.id for card in cards] == [method]


def test_a_card_without_a_customer_is_used_once(shop: stripe.StripeClient, pay: Pay) -> None:
    method = shop.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    first = pay(method.id)
    assert first.payment_method == method.id
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        pay(method.id)


def test_a_card_that_declines_cannot_be_saved_but_one_may_decline_later(shop: stripe.StripeClient, pay: Pay) -> None:
    with pytest.raises(stripe.CardError):
        saved_card(shop, "pm_card_chargeDeclined")
    customer, method = saved_card(shop, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError):
        pay(method, customer=customer)


def test_the_amount_may_change_until_it_is_authorised(shop: stripe.StripeClient) -> None:
    intent = new(shop, metadata={"a": "1", "b": "2"})
    intent = shop.v1.payment_intents.update(intent.id, {"amount": 2000, "metadata": {"a": "", "c": "3"}})
    assert (intent.amount, intent.metadata.to_dict()) == (2000, {"b": "2", "c": "3"})
    intent = shop.v1.payment_intents.update(intent.id, {"payment_method": "pm_card_visa"})
    assert intent.status == "requires_confirmation"
    assert shop.v1.payment_intents.confirm(intent.id).amount_capturable == 2000


def test_lists_are_newest_first_and_page(shop: stripe.StripeClient) -> None:
    made = [new(shop).id for _ in range(5)][::-1]
    first = shop.v1.payment_intents.list({"limit": 2})
    assert ([row.id for row in first.data], first.has_more) == (made[:2], True)
    second = shop.v1.payment_intents.list({"limit": 2, "starting_after": made[1]})
    assert [row.id for row in second.data] == made[2:4]
    back = shop.v1.payment_intents.list({"limit": 2, "ending_before": made[3]})
    assert [row.id for row in back.data] == made[1:3]
    found = [row.id for row in first.auto_paging_iter()][:5]
    assert found == made
    created = first.data[0].created
    assert made[0] in [row.id for row in shop.v1.payment_intents.list({"created": {"gte": created}}).data]
    assert shop.v1.payment_intents.list({"created": {"gt": created + 60}}).data == []
    assert shop.v1.payment_intents.list({"created": {"lt": created - 3600}}).data == []


def test_books_that_do_not_add_up_are_refused() -> None:
    ledger = Ledger(Store(None))
    ledger.move("authorise", "pi_1", "ch_1", 1000, "usd", 0)
    with pytest.raises(ArithmeticError, match="do not add up"):
        ledger.move("capture", "pi_1", "ch_1", 1001, "usd", 0)


def test_the_books_of_the_whole_shop() -> None:
    with StripeStandIn() as stand_in:
        shop = stripe.StripeClient(stand_in.secret_key, base_addresses={"api": stand_in.base_url})
        intents = [new(shop, amount=amount) for amount in (1000, 2000, 4000, 8000)]
        for intent in intents[:3]:
            assert stand_in.pay(intent.client_secret or "")[0] == 200
        shop.v1.payment_intents.capture(intents[0].id)
        shop.v1.payment_intents.cancel(intents[1].id)
        shop.v1.refunds.create({"payment_intent": intents[0].id, "amount": 400})
        books = stand_in.ledger(intents=False)
        assert books["totals"]["usd"] == {
            "authorised": 7000,
            "captured": 1000,
            "voided": 2000,
            "refunded": 400,
            "disputed": 0,
            "waiting": 4000,
            "net": 600,
            "intents": 3,
        }
        assert books["intents_by_status"] == {
            "succeeded": 1,
            "canceled": 1,
            "requires_capture": 1,
            "requires_payment_method": 1,
        }
        assert shop.v1.balance.retrieve().pending[0].amount == 600
        assert shop.v1.accounts.retrieve_current().charges_enabled
