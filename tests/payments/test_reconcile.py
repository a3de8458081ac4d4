"""The provider's side of reconcile names money without a paid order and a paid order without money, and repairs
both.
"""

import pytest

from payments import reconcile
from tests.payments.shop import Shop


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "SETTLE_SECONDS", 0.05)


def found(shop: Shop) -> list[tuple[str, str, object, object]]:
    return sorted(
        (each.kind, each.field, each.postgres, each.stripe) for each in reconcile.stripe_drift(shop.ctx, shop.sale)
    )


def repaired(shop: Shop) -> bool:
    shop.drain()
    after = reconcile.apply(shop.ctx, shop.sale).after
    assert found(shop) == []
    shop.work()
    shop.check()
    return after.consistent


def forget_what_is_due(shop: Shop) -> None:
    """As if all that is underway had been lost."""
    shop.stripe.wait_delivered()
    shop.stripe.aim(None)
    shop.execute("UPDATE payments SET due = NULL, due_at = NULL")
    shop.execute("DELETE FROM webhook_events")


def test_a_sale_in_order_is_consistent(shop: Shop) -> None:
    shop.bought(sneaker=2)
    shop.cancel(shop.order()["id"])
    shop.order()
    shop.work()
    assert found(shop) == []


def test_an_authorisation_that_nobody_was_told_of(shop: Shop) -> None:
    shop.stripe.aim(None)
    order = shop.order()
    shop.confirm(order)
    assert found(shop) == [("intent", "status", "pending_payment", "requires_capture")]
    assert repaired(shop)
    assert shop.shown(order["id"])["status"] == "paid"


def test_an_intent_of_no_order(shop: Shop) -> None:
    shop.order()
    shop.stripe.aim(None)
    lost = shop.ctx.provider.create_intent(
        {
            "amount": 500,
            "currency": "usd",
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"sale_id": shop.sale, "order_id": f"order_{shop.sale}_{'A' * 20}"},
            "payment_method": "pm_card_visa",
            "confirm": True,
        },
        f"lost-{shop.sale}",
    )
    assert found(shop) == [("intent", "status", "no order", "succeeded")]
    assert repaired(shop)
    assert shop.books(lost.id)["net"] == 0


def test_a_paid_order_whose_authorisation_lapsed_unheard(shop: Shop) -> None:
    order = shop.order(card="pm_card_visa")
    forget_what_is_due(shop)
    shop.stripe.lapse(order["payment"]["intent_id"])
    assert found(shop) == [("order", "payment", "requires_capture", "canceled")]
    assert repaired(shop)
    assert shop.shown(order["id"])["because"] == "lapsed"
    assert shop.stock() == (10, 0, 0)


def test_a_capture_and_a_refund_that_nobody_was_told_of(shop: Shop) -> None:
    order = shop.order(card="pm_card_visa")
    intent = order["payment"]["intent_id"]
    forget_what_is_due(shop)
    shop.ctx.provider.capture_intent(intent, f"{intent}-elsewhere")
    shop.ctx.provider.create_refund({"payment_intent": intent, "amount": 900}, f"{intent}-refunded-elsewhere")
    assert found(shop) == [("order", "captured", 0, 12_900), ("order", "refunded", 0, 900)]
    assert repaired(shop)
    assert shop.shown(order["id"])["refunded"] == 900


def test_a_paid_order_that_forgot_its_intent_finds_it(shop: Shop) -> None:
    order = shop.bought()
    shop.execute("UPDATE payments SET intent_id = NULL, status = 'requires_payment_method', captured = 0")
    assert found(shop)[1] == ("order", "payment", "requires_payment_method", None)
    assert repaired(shop)
    assert shop.shown(order["id"])["captured"] == 12_900


def test_what_a_restored_postgres_forgot_of_a_payment_is_named_at_once_though_it_is_due(shop: Shop) -> None:
    order = shop.bought()
    shop.stripe.aim(None)
    shop.execute("DELETE FROM webhook_events")
    shop.execute("DELETE FROM attempts")
    shop.execute(
        "UPDATE payments SET intent_id = NULL, status = 'requires_payment_method', captured = 0, due = 'capture',"
        " due_at = now()"
    )
    shop.round()
    assert "reconcile --apply" in shop.rows("SELECT last_error FROM payments")[0][0]
    assert found(shop)[0] == ("intent", "status", "no order", "succeeded")
    assert repaired(shop)
    assert shop.shown(order["id"])["captured"] == 12_900


def test_money_of_a_sale_whose_every_order_was_forgotten_is_found(shop: Shop) -> None:
    intent = shop.bought()["intent"]
    for table in ("webhook_events", "attempts", "payments", "order_lines", "order_changes", "orders"):
        shop.execute(f"DELETE FROM {table}")
    assert ("intent", "status", "no order", "succeeded") in found(shop)
    reconcile.apply(shop.ctx, shop.sale)
    assert shop.books(intent)["net"] == 0


def test_a_paid_order_without_any_intent_ends(shop: Shop) -> None:
    order = shop.bought()
    shop.refund(order["id"])
    shop.work()
    shop.execute("UPDATE orders SET status = 'paid'")
    shop.execute("UPDATE payments SET intent_id = 'pi_none', status = 'requires_capture', captured = 0, refunded = 0")
    assert found(shop) == [("order", "payment", "requires_capture", None)]
    reconcile.apply(shop.ctx, shop.sale)
    shop.drain()
    assert shop.shown(order["id"])["status"] == "cancelled"
    assert shop.stock() == (10, 0, 0)
