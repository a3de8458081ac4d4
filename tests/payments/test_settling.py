"""Authorise, commit, capture: what an intent means for its order, also late, also when the process dies between any
two steps.
"""

import pytest

from engine import commands
from engine.command import run
from tests.payments.shop import Shop


@pytest.mark.parametrize(
    "step",
    [
        "intent read", "intent recorded", "settled in redis", "intent applied", "event done", "captured",
    ],
)  # fmt: skip
def test_settle_ends_the_same_wherever_the_process_dies(shop: Shop, step: str) -> None:
    order = shop.order(shop.hold(sneaker=2))
    shop.confirm(order)
    with shop.killed_at(step):
        shop.work(3)
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["payment"], shown["captured"]) == ("paid", "succeeded", 25_800)
    assert shop.stock() == (8, 0, 2)
    shop.check()


def test_it_is_captured_only_after_postgres_has_the_sale(shop: Shop) -> None:
    order = shop.order(card="pm_card_visa")
    assert shop.books(order["payment"]["intent_id"])["captured"] == 0
    shop.work()
    assert shop.books(order["payment"]["intent_id"])["captured"] == 12_900


def test_a_declined_card_then_another_in_the_browser(shop: Shop) -> None:
    order = shop.order()
    shop.confirm(order, "pm_card_chargeDeclined")
    shop.work()
    assert shop.shown(order["id"])["status"] == "pending_payment"
    shop.confirm(order)
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def test_3d_secure_is_shown_and_then_pays(shop: Shop) -> None:
    order = shop.order(card="pm_card_threeDSecureRequired")
    assert order["payment"]["status"] == "requires_action"
    assert order["payment"]["client_secret"]
    shop.stripe.authenticate(order["payment"]["intent_id"])
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def late(shop: Shop) -> dict[str, str]:
    """An order whose hold ran out while the provider was silent, and whose customer pays afterwards."""
    order = shop.order(shop.hold(sneaker=2))
    shop.stripe.chaos(down="unavailable")
    shop.pass_ms(91_000)
    shop.round()  # asks in vain
    shop.round()  # the grace is over
    shop.drain()
    shop.stripe.calm()
    assert shop.shown(order["id"])["status"] == "cancelled"
    assert shop.stock() == (10, 0, 0)
    shop.confirm(order)
    return order


@pytest.mark.parametrize("step", [None, "late money", "settled in redis", "intent applied", "captured"])
def test_late_money_takes_its_units_again(shop: Shop, step: str | None) -> None:
    order = late(shop)
    if step:
        with shop.killed_at(step):
            shop.work(3)
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["because"], shown["captured"]) == ("paid", None, 25_800)
    assert shop.stock() == (8, 0, 2)
    shop.check()


@pytest.mark.parametrize(
    "step",
    [
        None, "late money", "settled in redis", "intent applied", "voided at the provider",
    ],
)  # fmt: skip
def test_late_money_for_units_that_are_gone_is_voided(shop: Shop, step: str | None) -> None:
    order = late(shop)
    shop.order(shop.hold("bob", sneaker=9), "pm_card_visa")
    if step:
        with shop.killed_at(step):
            shop.work(3)
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["because"], shown["payment"]) == ("cancelled", "late", "canceled")
    assert shop.books(order["payment"]["intent_id"])["voided"] == 25_800  # type: ignore[index]
    shop.check()


@pytest.mark.parametrize(
    "step",
    [None, "intent applied", "refund recorded", "refunded at the provider", "refund known"],
)
def test_late_money_that_was_captured_is_refunded(shop: Shop, step: str | None) -> None:
    object.__setattr__(shop.ctx.settings, "capture_method", "automatic")
    order = late(shop)
    shop.order(shop.hold("bob", sneaker=9), "pm_card_visa")
    if step:
        with shop.killed_at(step):
            shop.work(3)
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["because"]) == ("cancelled", "late")
    assert (shown["captured"], shown["refunded"]) == (25_800, 25_800)
    assert shop.books(order["payment"]["intent_id"])["net"] == 0  # type: ignore[index]
    shop.check()


def test_an_order_that_has_ended_for_good_never_touches_redis_again(shop: Shop) -> None:
    order = late(shop)
    shop.order(shop.hold("bob", sneaker=9), "pm_card_visa")
    shop.work()
    shop.refund(shop.rows("SELECT id FROM orders WHERE status = 'paid'")[0][0], lines={"sneaker": 9}, restock=True)
    assert shop.stock() == (10, 0, 0)
    before = run(shop.ctx.redis, commands.show(shop.sale)).position
    shop.execute(
        "UPDATE webhook_events SET status = 'stored', handled_at = NULL, due_at = now() WHERE status = 'handled'"
    )
    shop.work()
    assert run(shop.ctx.redis, commands.show(shop.sale)).position == before
    assert shop.shown(order["id"])["status"] == "cancelled"
    shop.check()


def test_an_authorisation_that_lapses_ends_a_paid_order(shop: Shop) -> None:
    order = shop.order(card="pm_card_visa")
    shop.execute("UPDATE payments SET due = NULL, due_at = NULL")
    shop.stripe.lapse(order["payment"]["intent_id"])
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["because"], shown["payment"]) == ("cancelled", "lapsed", "canceled")
    assert shop.stock() == (10, 0, 0)
    shop.check()


@pytest.mark.parametrize("step", [None, "captured", "intent recorded", "released in redis", "intent applied"])
def test_a_capture_that_fails_for_good_gives_the_units_back(shop: Shop, step: str | None) -> None:
    order = shop.order(card="pm_card_visa")
    shop.stripe.aim(None)
    shop.stripe.lapse(order["payment"]["intent_id"])
    if step:
        with shop.killed_at(step):
            shop.work(3)
    shop.work()
    assert shop.shown(order["id"])["because"] == "lapsed"
    assert shop.stock() == (10, 0, 0)
    shop.check()


def test_the_last_guard_voids_what_redis_should_not_have_sold(shop: Shop) -> None:
    order = shop.order(shop.hold(sneaker=2))
    shop.drain()
    shop.execute("UPDATE products SET total = 1 WHERE id = 'sneaker'")
    shop.confirm(order)
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["because"], shown["payment"]) == ("cancelled", "refused", "canceled")
    assert shop.books(order["payment"]["intent_id"])["voided"] == 25_800


def test_redis_away_at_the_moment_of_payment_only_delays(shop: Shop) -> None:
    order = shop.order()
    shop.drain()
    shop.confirm(order)
    shop.ctx.redis.hset(f"fs:{{{shop.sale}}}:sale", "fenced", "1")
    shop.work(2)
    assert shop.shown(order["id"])["status"] == "pending_payment"
    assert shop.shown(order["id"])["payment"] == "requires_capture"
    shop.ctx.redis.hset(f"fs:{{{shop.sale}}}:sale", "fenced", "0")
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()
