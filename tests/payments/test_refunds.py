"""Refunds: whole or partial, never more than was captured, once for each request, restocked only when asked."""

import pytest

from engine.ids import order_id
from payments import inbox, refunds
from persistence.refusals import Refusal
from tests.payments.shop import Shop
from tests.payments.test_settling import late


def refused(shop: Shop, order: str, **request: object) -> Refusal:
    with pytest.raises(Refusal) as raised:
        shop.refund(order, **request)  # type: ignore[arg-type]
    return raised.value


def test_the_whole_amount(shop: Shop) -> None:
    order = shop.bought(sneaker=2)
    refund = shop.refund(order["id"], reason="requested_by_customer")
    assert (refund["status"], refund["amount"]["amount"], refund["restocked"]) == ("succeeded", 25_800, False)
    assert shop.shown(order["id"])["status"] == "refunded"
    assert shop.stock() == (8, 0, 2)
    assert refused(shop, order["id"]).code == "refund_exceeds_payment"
    shop.work()
    shop.check()


def test_a_part_with_its_lines_restocked(shop: Shop) -> None:
    order = shop.bought(sneaker=2, sock=3)
    refund = shop.refund(order["id"], lines={"sneaker": 1, "sock": 2}, restock=True, reason="too small, sorry")
    assert refund["amount"]["amount"] == 14_700
    assert refund["lines"] == [{"product_id": "sneaker", "qty": 1}, {"product_id": "sock", "qty": 2}]
    assert refund["restocked"] is True
    assert shop.shown(order["id"])["status"] == "paid"
    assert (shop.stock(), shop.stock("sock")) == ((9, 0, 1), (9, 0, 1))
    assert shop.rows("SELECT qty FROM ledger WHERE kind = 'restocked' ORDER BY qty") == [(1,), (2,)]

    rest = shop.refund(order["id"], restock=True)
    assert rest["amount"]["amount"] == 13_800
    assert shop.stock() == (10, 0, 0)
    assert shop.shown(order["id"])["status"] == "refunded"
    shop.work()
    shop.check()


def test_returned_units_count_no_more_against_the_customer(shop: Shop) -> None:
    order = shop.bought(sneaker=2)
    assert shop.ctx.redis.hget(f"fs:{{{shop.sale}}}:customers", "sneaker:ann") == b"2"
    shop.refund(order["id"], lines={"sneaker": 1}, restock=True)
    assert shop.ctx.redis.hget(f"fs:{{{shop.sale}}}:customers", "sneaker:ann") == b"1"


def test_what_may_not_be_refunded(shop: Shop) -> None:
    unpaid = shop.order()
    assert refused(shop, unpaid["id"]).code == "order_not_paid"
    order = shop.bought(sneaker=2)
    too_much = refused(shop, order["id"], amount=25_801)
    assert too_much.code == "refund_exceeds_payment"
    assert too_much.extra["refundable"] == 25_800
    for request, field in (
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"lines": {"sneaker": 3}}, "lines[0].qty"),
        ({"lines": {"sneaker": 0}}, "lines[0].qty"),
        ({"lines": {"sock": 1}}, "lines[0].product_id"),
        ({"amount": 100, "restock": True}, "lines"),
    ):
        raised = refused(shop, order["id"], **request)
        assert (raised.code, raised.extra["errors"][0]["field"]) == ("validation_error", field)
    assert refused(shop, order_id(shop.sale, "A" * 20)).code == "order_not_found"
    assert shop.rows("SELECT id FROM refunds") == []


def test_once_for_each_request(shop: Shop) -> None:
    order = shop.bought(sneaker=2)
    first = shop.refund(order["id"], "key-1", amount=100)
    assert shop.refund(order["id"], "key-1", amount=100) == first
    assert refused(shop, order["id"], key="key-1", amount=200).code == "idempotency_mismatch"
    assert shop.refund(order["id"], "key-2", amount=100)["id"] != first["id"]
    assert shop.shown(order["id"])["refunded"] == 200


STEPS = ["refund recorded", "refunded at the provider", "refund known", "restocked in redis"]


@pytest.mark.parametrize("again", [True, False], ids=["the same request again", "the workers"])
@pytest.mark.parametrize("step", STEPS)
def test_a_refund_ends_the_same_wherever_the_process_dies(shop: Shop, step: str, again: bool) -> None:
    order = shop.bought(sneaker=2)
    with shop.killed_at(step):
        shop.refund(order["id"], "key-1", lines={"sneaker": 1}, restock=True)
    if again:
        shop.refund(order["id"], "key-1", lines={"sneaker": 1}, restock=True)
    shop.work()
    assert shop.shown(order["id"])["refunded"] == 12_900
    assert shop.stock() == (9, 0, 1)
    assert shop.rows("SELECT status, restocked FROM refunds") == [("succeeded", True)]
    shop.check()


def test_a_failure_that_the_provider_repeats_refunds_once(shop: Shop) -> None:
    order = shop.bought()
    shop.stripe.chaos(sticky_fail_ratio=1.0)
    assert refused(shop, order["id"], key="k").code == "payment_provider_unavailable"
    shop.stripe.calm()
    shop.work()
    assert shop.refund(order["id"], "k")["status"] == "succeeded"
    shop.check()


def test_a_refund_that_fails_later_gives_the_amount_back(shop: Shop) -> None:
    order = shop.bought("pm_card_refundFail")
    shop.refund(order["id"])
    assert shop.shown(order["id"])["status"] == "refunded"
    [(provider_id,)] = shop.rows("SELECT provider_id FROM refunds")
    shop.stripe.fail_refund(provider_id)
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    assert shop.shown(order["id"])["refunded"] == 0
    assert shop.rows("SELECT status FROM refunds") == [("failed",)]
    shop.check()


def voided(shop: Shop) -> tuple[str, str]:
    """An order whose captured money came too late and went back, and the provider's id of that refund."""
    object.__setattr__(shop.ctx.settings, "capture_method", "automatic")
    order = late(shop)
    shop.order(shop.hold("bob", sneaker=9), "pm_card_visa")
    shop.work()
    [(provider_id,)] = shop.rows("SELECT provider_id FROM refunds")
    return str(order["id"]), str(provider_id)


@pytest.mark.parametrize("step", [None, "refunded at the provider", "refund known"])
def test_money_for_nothing_that_the_bank_fails_to_give_back_is_sent_again(shop: Shop, step: str | None) -> None:
    order_id, first = voided(shop)
    shop.stripe.fail_refund(first)
    if step:
        with shop.killed_at(step):
            shop.work()
    shop.work()
    [(status, second)] = shop.rows("SELECT status, provider_id FROM refunds")
    assert (status, second != first) == ("succeeded", True)
    assert shop.shown(order_id)["refunded"] == shop.shown(order_id)["captured"] > 0
    # Whatever tells of the first one again, in whatever order, the second one stands.
    inbox.replay(shop.ctx, shop.pool)
    shop.work()
    assert shop.rows("SELECT status, provider_id, due FROM refunds") == [("succeeded", second, False)]
    shop.check()


def test_money_for_nothing_that_never_goes_back_is_for_people_in_the_end(shop: Shop) -> None:
    _, last = voided(shop)
    for _ in range(refunds.RESEND_TRIES_MAX + 1):
        shop.stripe.fail_refund(last)
        shop.work()
        [(status, last, due)] = shop.rows("SELECT status, provider_id, due FROM refunds")
        if status == "failed":
            break
    assert (status, due) == ("failed", False)


def test_a_refund_that_the_bank_is_slow_to_pay_counts_meanwhile(shop: Shop) -> None:
    order = shop.bought("pm_card_pendingRefund", sneaker=2)
    assert shop.refund(order["id"], amount=25_000)["status"] == "pending"
    assert refused(shop, order["id"], amount=801).code == "refund_exceeds_payment"


def test_a_refund_made_at_the_provider_itself_is_taken_over(shop: Shop) -> None:
    order = shop.bought(sneaker=2)
    shop.ctx.provider.create_refund({"payment_intent": order["intent"], "amount": 500}, f"{order['intent']}-by-hand")
    shop.work()
    assert shop.shown(order["id"])["refunded"] == 500
    assert refused(shop, order["id"], amount=25_301).extra["refundable"] == 25_300
    shop.check()


def test_a_refund_that_the_provider_will_not_do_is_answered_with_the_figures(shop: Shop) -> None:
    order = shop.bought(sneaker=2)
    shop.stripe.aim(None)
    shop.ctx.provider.create_refund({"payment_intent": order["intent"], "amount": 25_000}, f"{order['intent']}-by-hand")
    raised = refused(shop, order["id"], key="k", amount=25_000)
    assert raised.code == "refund_exceeds_payment"
    assert raised.extra["captured"] == 25_800
    assert refused(shop, order["id"], key="k", amount=25_000).code == "refund_exceeds_payment"
    assert shop.refund(order["id"], "other", amount=800)["status"] == "succeeded"
