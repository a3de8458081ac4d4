"""Refunds, replays and the three-way reconcile from the command line."""

import pytest

from tests.cli.conftest import Run
from tests.payments.conftest import closed_shop, mailbox, settings, shop, stand_in
from tests.payments.shop import Shop
from tests.persistence.conftest import db

__all__ = ["closed_shop", "db", "mailbox", "settings", "shop", "stand_in"]  # fixtures


@pytest.fixture
def money(shop: Shop, redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The environment of an operator of that shop."""
    monkeypatch.setenv("FLASHSALE_REDIS_URL", redis_url)
    monkeypatch.setenv("FLASHSALE_DATABASE_URL", database_url)
    monkeypatch.setenv("FLASHSALE_STRIPE_SECRET_KEY", shop.stripe.secret_key)
    monkeypatch.setenv("FLASHSALE_STRIPE_API_BASE", shop.stripe.base_url)
    return shop


def test_an_order_is_refunded_in_part_and_then_whole(money: Shop, run: Run) -> None:
    order = money.bought(sneaker=2)["id"]
    part = run("refund", order, "--line", "sneaker=1", "--restock", "--reason", "too small", "--json").json
    assert (part["amount"]["amount"], part["restocked"], part["status"]) == (12_900, True, "succeeded")
    assert money.stock() == (9, 0, 1)
    assert "129.00 usd succeeded" in run("refund", order, "--amount", "12900").out
    result = run("refund", order)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "refund_exceeds_payment" in result.err


def test_the_same_key_is_the_same_refund(money: Shop, run: Run) -> None:
    order = money.bought(sneaker=2)["id"]
    first = run("refund", order, "--amount", "100", "--key", "again", "--json").json
    assert run("refund", order, "--amount", "100", "--key", "again", "--json").json == first


@pytest.mark.parametrize("order", ["order_nope_00000000000000000000", "nothing like an order"])
def test_a_refund_of_no_order(order: str, money: Shop, run: Run) -> None:
    result = run("refund", order)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "order_not_found" in result.err


def test_stored_events_are_processed_again_and_nothing_happens_twice(money: Shop, run: Run) -> None:
    money.bought(sneaker=1)
    replayed = run("webhooks", "replay", "--json").json["replayed"]
    assert replayed > 0
    assert money.stock() == (9, 0, 1)
    assert run("webhooks", "replay", "--pending").out == "0 events processed\n"


def test_disputes_are_listed(money: Shop, run: Run) -> None:
    assert run("disputes").out == "there is no dispute\n"
    order = money.bought(sneaker=1)
    money.stripe.dispute(order["intent"], "product_not_received")
    money.work()
    [dispute] = run("disputes", "--json").json
    assert (dispute["order_id"], dispute["intent"]) == (order["id"], order["intent"])
    assert dispute["amount"] == {"amount": 12_900, "currency": "usd"}
    assert (dispute["reason"], dispute["status"]) == ("product_not_received", "needs_response")
    out = run("disputes").out
    assert dispute["id"] in out
    assert "129.00 usd" in out


def test_events_that_were_not_handled_are_listed_with_their_reason(money: Shop, run: Run) -> None:
    money.bought(sneaker=1)
    money.work()
    assert run("webhooks", "list", "--json").json == []
    assert run("webhooks", "list").out == "there is no such event\n"
    money.execute(
        "INSERT INTO webhook_events (id, type, intent_id, payload, status, reason, tries, received_at, due_at) VALUES"
        " ('evt_2', 'charge.refunded', 'pi_2', '{}', 'parked', 'another amount', 3, '2026-01-02T00:00:00Z', NULL),"
        " ('evt_1', 'refund.failed', NULL, '{}', 'pending_order', NULL, 1, '2026-01-01T00:00:00Z', now())"
    )
    assert [each["id"] for each in run("webhooks", "list", "--json").json] == ["evt_1", "evt_2"]
    assert run("webhooks", "list", "--status", "stored", "--json").json == []
    assert run("webhooks", "list", "--status", "parked", "--json").json == [
        {
            "id": "evt_2",
            "type": "charge.refunded",
            "status": "parked",
            "reason": "another amount",
            "received_at": "2026-01-02T00:00:00Z",
            "intent": "pi_2",
            "tries": 3,
        }
    ]
    assert "another amount" in run("webhooks", "list").out
    assert run("webhooks", "list", "--status", "handled").code == 2


def test_reconcile_asks_the_payment_provider_too(money: Shop, run: Run) -> None:
    order = money.bought(sneaker=1)
    money.work()
    assert run("reconcile", money.sale).code == 0
    money.execute("UPDATE payments SET captured = 0")
    result = run("reconcile", money.sale, "--json")
    assert result.code == 1
    [drift] = [each for each in result.json["drift"] if each["stripe"] is not None]
    assert (drift["id"], drift["field"], drift["postgres"], drift["stripe"]) == (order["id"], "captured", 0, 12_900)


def test_a_provider_that_is_away_could_not_be_compared(money: Shop, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    money.bought(sneaker=1)
    monkeypatch.setenv("FLASHSALE_STRIPE_API_BASE", "http://127.0.0.1:1")
    result = run("reconcile", money.sale)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "does not answer" in result.err
