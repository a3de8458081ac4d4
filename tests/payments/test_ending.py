"""Ask, cancel, then release: orders that end by a deadline or by people, wherever the process dies."""

import dataclasses
from typing import Any

import pytest
from redis.exceptions import RedisError

from engine import commands, connections
from engine.command import run
from engine.settings import Settings
from persistence.rebuild import rebuild
from persistence.refusals import Refusal
from tests.payments.shop import Shop

EXPIRY = [
    "expiry recorded", "asked the provider", "cancelled at the provider", "intent recorded", "released in redis",
    "intent applied",
]  # fmt: skip


@pytest.mark.parametrize("step", [None, *EXPIRY])
def test_expire_ends_the_same_wherever_the_process_dies(shop: Shop, step: str | None) -> None:
    order = shop.order(shop.hold(sneaker=2))
    shop.drain()
    shop.pass_ms(61_000)
    if step:
        with shop.killed_at(step):
            shop.round()
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["because"], shown["payment"]) == ("cancelled", "expired", "canceled")
    assert shop.hold_status(order["id"]) == "expired"
    assert shop.stock() == (10, 0, 0)
    assert shop.confirm_refused(order)
    shop.check()


def test_money_that_came_in_time_is_settled_at_the_deadline(shop: Shop) -> None:
    shop.stripe.aim(None)
    order = shop.order()
    shop.drain()
    shop.confirm(order)
    shop.pass_ms(61_000)
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def test_a_bank_that_is_processing_is_waited_for_within_a_bound(shop: Shop) -> None:
    order = shop.order(card="pm_card_staysProcessing")
    shop.pass_ms(61_000)
    shop.round()
    assert shop.stock() == (9, 1, 0)
    shop.stripe.finish(order["payment"]["intent_id"])
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def test_a_bank_that_says_yes_after_the_bound_is_late_money(shop: Shop) -> None:
    order = shop.order(card="pm_card_staysProcessing")
    shop.pass_ms(61_000)
    shop.round()
    shop.pass_ms(31_000)
    shop.round()
    assert shop.stock() == (10, 0, 0)
    shop.stripe.finish(order["payment"]["intent_id"])
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def test_a_silent_provider_delays_the_release_by_the_grace_and_no_more(shop: Shop) -> None:
    order = shop.order()
    shop.drain()
    shop.stripe.chaos(down="closed")
    shop.pass_ms(61_000)
    shop.round()
    assert shop.stock() == (9, 1, 0)
    shop.pass_ms(30_000)
    shop.round()
    assert shop.stock() == (10, 0, 0)
    shop.stripe.calm()
    shop.work()
    assert shop.shown(order["id"])["payment"] == "canceled"
    shop.check()


def test_an_authorisation_that_slips_in_is_voided_and_shown(shop: Shop) -> None:
    order = shop.order()
    shop.drain()
    shop.pass_ms(61_000)
    with shop.meanwhile("asked the provider", lambda: shop.confirm(order)):
        shop.round()
    shop.work()
    shown = shop.shown(order["id"])
    assert (shown["status"], shown["because"], shown["payment"]) == ("cancelled", "late", "canceled")
    shop.check()


CANCELLING = [
    "cancellation recorded", "cancelled at the provider", "intent recorded", "released in redis", "intent applied",
]  # fmt: skip


@pytest.mark.parametrize("step", [None, *CANCELLING])
@pytest.mark.parametrize("paid", [False, True])
def test_cancel_ends_the_same_wherever_the_process_dies(shop: Shop, step: str | None, paid: bool) -> None:
    order = shop.order(card="pm_card_visa" if paid else None)
    if step:
        with shop.killed_at(step):
            shop.cancel(order["id"])
        shop.drain()
    cancelled = shop.cancel(order["id"])
    assert (cancelled["status"], cancelled["payment"]["status"]) == ("cancelled", "canceled")
    assert shop.cancel(order["id"]) == cancelled
    shop.work()
    assert shop.shown(order["id"])["because"] == "asked"
    assert shop.stock() == (10, 0, 0)
    shop.check()


@pytest.mark.parametrize("step", CANCELLING)
def test_a_cancellation_that_was_cut_off_is_finished_by_the_workers(shop: Shop, step: str) -> None:
    order = shop.order()
    with shop.killed_at(step):
        shop.cancel(order["id"])
    shop.work()
    assert shop.shown(order["id"])["status"] == "cancelled"
    assert shop.shown(order["id"])["because"] == "asked"
    shop.check()


def test_what_was_captured_is_not_cancelled(shop: Shop) -> None:
    order = shop.bought()
    with pytest.raises(Refusal) as refused:
        shop.cancel(order["id"])
    assert refused.value.code == "order_not_cancellable"
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def test_a_capture_that_was_faster_than_the_cancellation_wins(shop: Shop) -> None:
    order = shop.order(card="pm_card_visa")
    shop.stripe.aim(None)
    shop.ctx.provider.capture_intent(order["payment"]["intent_id"], "elsewhere")
    with pytest.raises(Refusal) as refused:
        shop.cancel(order["id"])
    assert refused.value.code == "order_not_cancellable"
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    assert shop.shown(order["id"])["because"] is None
    shop.check()


def test_a_cancellation_while_the_provider_is_silent_goes_on_by_itself(shop: Shop) -> None:
    order = shop.order()
    shop.stripe.chaos(down="closed")
    with pytest.raises(Refusal) as refused:
        shop.cancel(order["id"])
    assert refused.value.code == "payment_provider_unavailable"
    shop.stripe.calm()
    shop.work()
    assert shop.shown(order["id"])["status"] == "cancelled"
    shop.check()


def test_a_cancellation_while_redis_is_away_says_so_and_goes_on_by_itself(shop: Shop) -> None:
    order = shop.order()
    there, away = shop.ctx, dataclasses.replace(shop.ctx, redis=connections.connect("redis://127.0.0.1:1"))
    shop.ctx = away
    with pytest.raises(RedisError):
        shop.cancel(order["id"])
    shop.ctx = there
    shop.work()
    assert shop.shown(order["id"])["status"] == "cancelled"
    shop.check()


def test_an_order_that_ends_while_its_sale_is_restored_is_not_left_alone_for_long(shop: Shop) -> None:
    """A sale is restored within seconds, and so its units come back."""
    order = shop.order()
    with shop.killed_at("cancelled at the provider"):
        shop.cancel(order["id"])
    run(shop.ctx.redis, commands.fence(shop.sale, fenced=True))
    for _ in range(3):
        shop.round()
        [(due, seconds)] = shop.rows("SELECT due, extract(epoch FROM due_at - now())::float FROM payments")
        assert due == "release"
        assert seconds < 10
    run(shop.ctx.redis, commands.fence(shop.sale, fenced=False))
    shop.work()
    assert shop.shown(order["id"])["status"] == "cancelled"
    shop.check()


def test_what_a_dead_process_had_taken_up_is_free_again_after_its_calls_must_have_ended(shop: Shop) -> None:
    order = shop.order()
    with shop.killed_at("cancelled at the provider"):
        shop.cancel(order["id"])
    [(seconds,)] = shop.rows("SELECT extract(epoch FROM due_at - now())::float FROM payments")
    assert 2 * shop.ctx.settings.stripe_timeout_seconds < seconds <= shop.ctx.lease_seconds
    assert dataclasses.replace(shop.ctx, settings=Settings()).lease_seconds == 60


def test_a_cancellation_that_the_drain_cannot_bring_is_not_refused(shop: Shop) -> None:
    """Its money was not captured, and never will be."""
    order = shop.order(card="pm_card_visa")
    assert order["status"] == "paid"
    [(mark,)] = shop.rows("SELECT mark FROM cursors")
    shop.execute("UPDATE cursors SET mark = 'of another history'")
    with pytest.raises(Refusal) as refused:
        shop.cancel(order["id"])
    assert refused.value.code == "unavailable"
    shop.execute("UPDATE cursors SET mark = :mark", mark=mark)
    assert shop.cancel(order["id"])["status"] == "cancelled"
    shop.check()


def test_an_order_that_is_not_there(shop: Shop) -> None:
    for order_id in ("order_nonsense", f"order_{shop.sale}_AAAAAAAAAAAAAAAAAAAA"):
        for act in (shop.cancel, shop.pay, shop.refund):
            with pytest.raises(Refusal) as refused:
                act(order_id)
            assert refused.value.code == "order_not_found"


@pytest.mark.parametrize("step", ["order written", "intent created"])
def test_a_saved_card_is_not_charged_at_the_deadline_by_looking_for_its_intent(shop: Shop, step: str) -> None:
    with shop.killed_at(step):
        shop.order(card="pm_card_visa", key="k")
    shop.stripe.wait_delivered()
    shop.execute("DELETE FROM webhook_events")
    shop.drain()
    shop.execute("UPDATE payments SET due = NULL, due_at = NULL")
    shop.pass_ms(61_000)
    shop.work()
    [(status,)] = shop.rows("SELECT status FROM orders")
    assert status == ("paid" if step == "intent created" else "cancelled")
    shop.check()


def _ends(shop: Shop, order: dict[str, Any], *, paid: bool) -> None:
    """At its deadline at the latest, with its units and without."""
    shop.pass_ms(61_000)
    run(shop.ctx.redis, commands.expire(shop.sale, ["sneaker"], 100))
    shop.drain()
    shop.work()
    assert shop.shown(order["id"])["status"] == ("paid" if paid else "cancelled")
    assert shop.stock() == ((8, 0, 2) if paid else (10, 0, 0))
    shop.check()


@pytest.mark.parametrize("drained", ["nothing", "the hold", "everything"])
@pytest.mark.parametrize("paid", [True, False])
def test_an_order_outlives_a_redis_that_lost_its_data(shop: Shop, drained: str, paid: bool) -> None:
    hold_id = shop.hold(sneaker=2)
    if drained == "the hold":
        shop.drain()
    order = shop.order(hold_id)
    if drained == "everything":
        shop.drain()
    shop.ctx.redis.flushdb()
    rebuild(shop.ctx.db, shop.ctx.redis, shop.sale)
    if paid:
        shop.confirm(order)
        shop.work()
    _ends(shop, order, paid=paid)


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("drained", [False, True])
def test_an_order_that_is_written_after_the_rebuild_that_lost_its_hold_ends_too(
    shop: Shop, drained: bool, paid: bool
) -> None:
    hold_id = shop.hold(sneaker=2)
    if drained:
        shop.drain()

    def lose_and_rebuild() -> None:
        shop.ctx.redis.flushdb()
        rebuild(shop.ctx.db, shop.ctx.redis, shop.sale)

    with shop.meanwhile("checked out", lose_and_rebuild):
        order = shop.order(hold_id)
    if paid:
        shop.confirm(order)
    shop.work()
    _ends(shop, order, paid=paid)


# -- another card
def test_a_second_card_after_a_declined_one(shop: Shop) -> None:
    order = shop.order()
    for _ in range(2):  # the same request again is the same try, and answered the same
        with pytest.raises(Refusal) as refused:
            shop.pay(order["id"], "pm_card_chargeDeclined", key="first")
        assert (refused.value.code, refused.value.extra["decline_code"]) == ("card_declined", "generic_decline")
    assert shop.pay(order["id"], "pm_card_visa", key="second")["status"] == "paid"
    assert len(shop.rows("SELECT idempotency_key FROM attempts")) == 3
    with pytest.raises(Refusal) as refused:
        shop.pay(order["id"])
    assert refused.value.code == "order_not_payable"
    assert refused.value.extra["reason"] == "order_paid"
    shop.work()
    shop.check()


@pytest.mark.parametrize("step", ["attempt written", "intent confirmed", "intent applied"])
def test_another_try_that_was_cut_off_is_the_same_try(shop: Shop, step: str) -> None:
    order = shop.order()
    with shop.killed_at(step):
        shop.pay(order["id"], key="again")
    assert shop.pay(order["id"], key="again")["status"] == "paid"
    shop.work()
    shop.check()


def test_an_order_past_its_deadline_is_not_payable(shop: Shop) -> None:
    order = shop.order()
    shop.pass_ms(61_000)
    with pytest.raises(Refusal) as refused:
        shop.pay(order["id"])
    assert (refused.value.code, refused.value.extra["reason"]) == ("order_not_payable", "deadline_passed")


def test_a_card_that_is_none_is_refused_by_its_field(shop: Shop) -> None:
    order = shop.order()
    with pytest.raises(Refusal) as refused:
        shop.pay(order["id"], "pm_nonsense")
    assert (refused.value.code, refused.value.extra["errors"][0]["field"]) == ("validation_error", "payment_method_id")
    assert shop.pay(order["id"])["status"] == "paid"


def test_the_first_try_to_pay_may_come_before_the_intent(shop: Shop) -> None:
    with shop.killed_at("order written"):
        shop.order(key="k")
    shop.drain()
    [(order_id,)] = shop.rows("SELECT id FROM orders")
    assert shop.pay(order_id)["status"] == "paid"
    shop.work()
    shop.check()
