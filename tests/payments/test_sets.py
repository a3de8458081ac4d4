"""Orders are settled and captured in sets: each decided by itself, and no fault of one is its neighbours'."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from engine import keys
from engine.events import Kind, read_event
from payments import dues, inbox, sets
from tests.payments.shop import Shop

CUSTOMERS = ("ann", "bob", "cid")


def authorised(shop: Shop, *customers: str) -> list[dict[str, Any]]:
    """Orders whose money is authorised and whose events are stored and not handled."""
    orders = [shop.order(shop.hold(customer)) for customer in customers]
    shop.drain()
    for order in orders:
        shop.confirm(order)
    shop.stripe.wait_delivered()
    return orders


def statuses(shop: Shop) -> list[tuple[str, str]]:
    return shop.rows("SELECT o.status, p.status FROM orders o JOIN payments p ON p.order_id = o.id ORDER BY o.id")


def settled_events(shop: Shop) -> list[set[str]]:
    found: Any = shop.ctx.redis.xrange(keys.events(shop.sale))
    events = [read_event(entry, fields) for entry, fields in found]
    return [set(event.holds) for event in events if event.kind is Kind.SETTLED]


def test_a_set_is_settled_by_one_event_and_captured(shop: Shop) -> None:
    orders = authorised(shop, *CUSTOMERS)
    assert inbox.handle_once(shop.ctx, 100, shop.pool) == len(CUSTOMERS)
    assert settled_events(shop) == [{order["id"][-20:] for order in orders}]
    assert [status for _, status, _ in shop.events()] == ["handled"] * len(CUSTOMERS)
    shop.drain()
    assert dues.run_once(shop.ctx, 100, shop.pool) == len(CUSTOMERS)
    assert statuses(shop) == [("paid", "succeeded")] * len(CUSTOMERS)
    shop.work()
    shop.check()


@pytest.mark.parametrize(
    "step", ["intent read", "intent recorded", "settled in redis", "intent applied", "event done", "captured"]
)
def test_a_set_ends_the_same_wherever_the_process_dies(shop: Shop, step: str) -> None:
    authorised(shop, *CUSTOMERS)
    with shop.killed_at(step):
        shop.work(3)
    shop.work()
    assert statuses(shop) == [("paid", "succeeded")] * len(CUSTOMERS)
    assert shop.stock() == (7, 0, 3)
    shop.check()


def test_each_of_a_set_ends_in_its_own_way(shop: Shop) -> None:
    paid, other_amount, asked = authorised(shop, *CUSTOMERS)
    shop.execute("UPDATE orders SET total = 500 WHERE id = :id", id=other_amount["id"])
    shop.execute("UPDATE orders SET ended_because = 'asked' WHERE id = :id", id=asked["id"])
    shop.execute("UPDATE payments SET due = 'cancel', due_at = now() WHERE order_id = :id", id=asked["id"])
    shop.work()
    assert shop.shown(paid["id"])["status"] == "paid"
    assert (shop.shown(asked["id"])["status"], shop.shown(asked["id"])["payment"]) == ("cancelled", "canceled")
    assert shop.shown(other_amount["id"])["status"] == "pending_payment"
    assert sorted(status for kind, status, _ in shop.events() if kind.endswith("capturable_updated")) == [
        "handled", "handled", "parked",
    ]  # fmt: skip


def test_an_order_that_cannot_be_written_does_not_fail_its_neighbours(shop: Shop) -> None:
    object.__setattr__(shop.ctx.settings, "capture_method", "automatic")
    _, broken, _ = authorised(shop, *CUSTOMERS)
    shop.execute("UPDATE payments SET amount = 1 WHERE order_id = :id", id=broken["id"])
    inbox.handle_once(shop.ctx, 100, shop.pool)
    waits = shop.rows("SELECT intent_id, reason FROM webhook_events WHERE status = 'stored'")
    assert [intent for intent, _ in waits] == [broken["payment"]["intent_id"]]
    assert "violates check constraint" in waits[0][1]
    shop.execute("UPDATE payments SET amount = 12900 WHERE order_id = :id", id=broken["id"])
    shop.work()
    assert statuses(shop) == [("paid", "succeeded")] * len(CUSTOMERS)
    shop.check()


def test_a_hold_that_redis_cannot_read_does_not_fail_its_neighbours(shop: Shop) -> None:
    _, broken, _ = authorised(shop, *CUSTOMERS)
    holds, token = keys.holds(shop.sale), broken["id"][-20:]
    record: Any = shop.ctx.redis.hget(holds, token)
    shop.ctx.redis.hset(holds, token, b"\x95")
    inbox.handle_once(shop.ctx, 100, shop.pool)
    assert sorted(status for _, status, _ in shop.events()) == ["handled", "handled", "stored"]
    shop.ctx.redis.hset(holds, token, record)
    shop.work()
    assert statuses(shop) == [("paid", "succeeded")] * len(CUSTOMERS)
    shop.check()


def test_a_capture_that_fails_does_not_fail_its_neighbours(shop: Shop) -> None:
    _, broken, _ = authorised(shop, *CUSTOMERS)
    inbox.handle_once(shop.ctx, 100, shop.pool)
    shop.drain()
    shop.execute("UPDATE payments SET intent_id = 'pi_nobodys' WHERE order_id = :id", id=broken["id"])
    dues.run_once(shop.ctx, 100, shop.pool)
    assert sorted(payment for _, payment in statuses(shop)) == ["requires_capture", "succeeded", "succeeded"]
    [(due, error)] = shop.rows("SELECT due, last_error FROM payments WHERE status = 'requires_capture'")
    assert due == "capture"
    assert "ProviderRefused" in error


def test_two_events_about_one_intent_ask_for_it_once(shop: Shop) -> None:
    [order] = authorised(shop, "ann")
    shop.execute(
        "INSERT INTO webhook_events (id, type, intent_id, payload) SELECT 'evt_again', type, intent_id, payload"
        " FROM webhook_events WHERE intent_id = :intent AND status = 'stored'",
        intent=order["payment"]["intent_id"],
    )
    read: list[str] = []
    shop.ctx = replace(shop.ctx, checkpoint=lambda step: read.append(step) if step == "intent read" else None)
    assert inbox.handle_once(shop.ctx, 100, shop.pool) == 2
    assert read == ["intent read"]
    assert [status for _, status, _ in shop.events()] == ["handled", "handled"]


def test_a_call_that_takes_long_holds_up_nobody_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "PATIENCE_SECONDS", 0.05)
    answers = threading.Event()

    def slow() -> str:
        answers.wait()
        return "late"

    def broken() -> str:
        raise ValueError

    with ThreadPoolExecutor(3) as pool:
        calls = {pool.submit(str, 1): "one", pool.submit(broken): "broken", pool.submit(slow): "slow"}
        ended = sets.as_they_end(calls)
        first = dict(next(ended))
        assert first.pop("one") == "1"
        assert isinstance(first.pop("broken"), ValueError)
        assert first == {}
        answers.set()
        assert list(ended) == [[("slow", "late")]]
