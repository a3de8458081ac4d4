"""A hold becomes an order once, whatever is repeated and whoever crashes; the same request learns the same intent."""

import pytest
import stripe

from engine import keys
from payments.checkout import OrderRequest, place_order
from persistence.refusals import Refusal
from tests.payments.shop import Shop


def refusal(shop: Shop, hold_id: str, **more: str) -> Refusal:
    with pytest.raises(Refusal) as refused:
        shop.order(hold_id, **more)
    return refused.value


def stripe_of(shop: Shop) -> stripe.StripeClient:
    return stripe.StripeClient(shop.stripe.secret_key, base_addresses={"api": shop.stripe.base_url})


def test_an_order_is_made_and_paid_in_the_browser(shop: Shop) -> None:
    order = shop.order(shop.hold(sneaker=2, sock=1), metadata={"cart": "8812"})
    assert order["status"] == "pending_payment"
    assert order["total"] == {"amount": 26_700, "currency": "usd"}
    assert order["payment"]["status"] == "requires_payment_method"
    assert order["metadata"] == {"cart": "8812"}

    shop.confirm(order)
    shop.work()

    assert shop.shown(order["id"])["status"] == "paid"
    assert shop.shown(order["id"])["payment"] == "succeeded"
    shop.check()


def test_a_saved_card_pays_at_once(shop: Shop) -> None:
    order = shop.order(card="pm_card_visa")
    assert (order["status"], order["payment"]["status"]) == ("paid", "requires_capture")
    shop.work()
    assert shop.shown(order["id"])["captured"] == 12_900
    shop.check()


def test_a_declined_saved_card_leaves_the_order_payable(shop: Shop) -> None:
    hold_id = shop.hold()
    refused = refusal(shop, hold_id, card="pm_card_chargeDeclinedInsufficientFunds", key="once")
    assert (refused.code, refused.extra["decline_code"]) == ("card_declined", "insufficient_funds")
    again = refusal(shop, hold_id, card="pm_card_chargeDeclinedInsufficientFunds", key="once")
    assert (again.code, again.extra) == (refused.code, refused.extra)

    paid = shop.pay(refused.extra["order_id"])
    assert paid["status"] == "paid"
    shop.work()
    shop.check()


def test_a_card_that_is_none_is_named_and_the_order_stays_payable(shop: Shop) -> None:
    refused = refusal(shop, shop.hold(), card="pm_nonsense")
    assert (refused.code, refused.status) == ("validation_error", 422)
    assert refused.extra["errors"][0]["field"] == "payment_method_id"
    assert shop.pay(refused.extra["order_id"])["status"] == "paid"
    shop.work()
    shop.check()


@pytest.mark.parametrize("card", [{}, {"card": "pm_card_visa"}])
def test_a_customer_who_is_none_is_named_and_the_order_stays_payable(shop: Shop, card: dict[str, str]) -> None:
    refused = refusal(shop, shop.hold(), payment_customer_id="cus_nonsense", **card)
    assert (refused.code, refused.status) == ("validation_error", 422)
    assert "payment_customer_id" in [each["field"] for each in refused.extra["errors"]]
    assert shop.pay(refused.extra["order_id"])["status"] == "paid"
    shop.work()
    shop.check()


def test_a_card_that_is_none_does_not_cost_the_order_its_customer(shop: Shop) -> None:
    v1 = stripe_of(shop).v1
    customer = v1.customers.create()
    refused = refusal(shop, shop.hold(), card="pm_nonsense", payment_customer_id=customer.id)
    saved = v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    assert shop.pay(refused.extra["order_id"], saved.id)["status"] == "paid"


def test_an_order_that_the_provider_never_takes_says_so_again(shop: Shop) -> None:
    shop.ctx.redis.hset(keys.stock(shop.sale), "sock:price", 1)  # less than Stripe charges
    refused = refusal(shop, shop.hold(sock=1))
    assert (refused.code, refused.extra["reason"]) == ("order_not_payable", "amount_too_small")
    with pytest.raises(Refusal) as again:
        shop.pay(refused.extra["order_id"])
    assert (again.value.code, again.value.extra) == (refused.code, refused.extra)


def test_an_amount_that_the_provider_never_takes_is_no_fault_of_the_card(shop: Shop) -> None:
    shop.ctx.redis.hset(keys.stock(shop.sale), "sock:price", 1)
    refused = refusal(shop, shop.hold(sock=1), card="pm_card_visa")
    assert (refused.code, refused.extra["reason"]) == ("order_not_payable", "amount_too_small")


def test_the_same_request_again_gets_the_first_answer_byte_for_byte(shop: Shop) -> None:
    request = OrderRequest(hold_id=shop.hold())
    first = place_order(shop.ctx, request, "key-1")
    shop.confirm(shop.read(first.body))
    shop.work()
    again = place_order(shop.ctx, request, "key-1")
    assert (again.status, again.body, again.replayed) == (201, first.body, True)
    assert not first.replayed
    with pytest.raises(Refusal, match="another body"):
        place_order(shop.ctx, OrderRequest(hold_id=shop.hold()), "key-1")


@pytest.mark.parametrize("key", [None, "another"])
def test_a_second_order_for_a_hold_is_told_the_first(shop: Shop, key: str | None) -> None:
    hold_id = shop.hold()
    order = shop.order(hold_id, key="first")
    refused = refusal(shop, hold_id) if key is None else refusal(shop, hold_id, key=key)
    assert (refused.code, refused.extra["order_id"]) == ("hold_already_used", order["id"])


@pytest.mark.parametrize(
    "step", ["checked out", "order written", "intent created", "intent recorded", "intent applied"]
)
@pytest.mark.parametrize("card", [None, "pm_card_visa"])
def test_whoever_crashes_the_same_request_learns_the_same_intent(shop: Shop, step: str, card: str | None) -> None:
    hold_id = shop.hold()
    with shop.killed_at(step):
        shop.order(hold_id, card, "key-1")
    order = shop.order(hold_id, card, "key-1")
    assert order["payment"]["intent_id"]
    if card is None:
        shop.confirm(order)
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    assert len([each for each in shop.stripe.ledger()["intents"] if each["metadata"].get("sale_id") == shop.sale]) == 1
    shop.check()


@pytest.mark.parametrize("step", ["checked out", "order written", "intent created", "intent recorded"])
def test_an_order_whose_client_never_came_back_is_finished_and_then_ends(shop: Shop, step: str) -> None:
    with shop.killed_at(step):
        shop.order(key="key-1")
    shop.drain()
    shop.work()
    shop.pass_ms(61_000)
    shop.work()
    [(order_id,)] = shop.rows("SELECT id FROM orders")
    assert shop.shown(order_id)["status"] == "cancelled"
    assert shop.stock() == (10, 0, 0)


def test_holds_that_cannot_be_ordered(shop: Shop) -> None:
    assert refusal(shop, "hold_nonsense").code == "hold_not_found"
    assert refusal(shop, f"hold_{shop.sale}_AAAAAAAAAAAAAAAAAAAA").code == "hold_not_found"
    assert refusal(shop, "hold_nosale_AAAAAAAAAAAAAAAAAAAA").code == "hold_not_found"
    hold_id = shop.hold()
    shop.pass_ms(61_000)
    assert refusal(shop, hold_id).code == "hold_expired"


def test_a_fenced_sale_takes_no_order_and_says_so(shop: Shop) -> None:
    hold_id = shop.hold()
    shop.drain()
    shop.ctx.redis.hset(f"fs:{{{shop.sale}}}:sale", "fenced", "1")
    assert refusal(shop, hold_id).code == "sale_unavailable"
    shop.ctx.redis.flushdb()
    assert refusal(shop, hold_id).code == "sale_unavailable"


def test_a_silent_provider_is_502_and_the_same_request_is_safe(shop: Shop) -> None:
    hold_id = shop.hold()
    shop.stripe.chaos(down="closed")
    refused = refusal(shop, hold_id, key="key-1")
    assert (refused.code, refused.status) == ("payment_provider_unavailable", 502)
    assert refused.retry_after
    shop.stripe.calm()
    assert shop.order(hold_id, key="key-1")["payment"]["intent_id"]


def test_without_a_key_the_workers_finish_what_a_silent_provider_left(shop: Shop) -> None:
    hold_id = shop.hold()
    shop.stripe.chaos(down="unavailable")
    refusal(shop, hold_id)
    shop.stripe.calm()
    order_id = refusal(shop, hold_id).extra["order_id"]
    shop.work()
    assert shop.shown(order_id)["intent"]


def test_a_failure_that_the_provider_repeats_leads_to_the_same_one_intent(shop: Shop) -> None:
    hold_id = shop.hold()
    shop.stripe.chaos(sticky_fail_ratio=1.0)
    refusal(shop, hold_id, key="key-1")
    shop.stripe.calm()
    order = shop.order(hold_id, key="key-1")
    shop.confirm(order)
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def test_automatic_capture_is_paid_at_once(shop: Shop) -> None:
    object.__setattr__(shop.ctx.settings, "capture_method", "automatic")
    order = shop.order(card="pm_card_visa")
    assert (order["status"], order["payment"]["status"]) == ("paid", "succeeded")
    shop.work()
    shop.check()
