"""Reconcile finds what was changed behind the engine's back, names it with both values and repairs it; lag is no
drift.
"""

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from engine import commands, ids, keys
from engine.command import Command, run
from engine.outcomes import Outcome
from persistence import reconcile as reconciling
from persistence.drain import drain_once
from persistence.drift import Drift, Report
from persistence.rebuild import rebuild
from persistence.reconcile import CannotCompare, apply, reconcile
from persistence.refusals import Refusal
from tests.persistence.test_sales import Shop, file, product, shop
from tests.sales import SaleUnderTest

__all__ = ["shop"]  # a fixture


@pytest.fixture
def sale(shop: Shop) -> SaleUnderTest:
    """Of nine sneakers and socks each: ann holds, bob pays, cat bought, dan gave back; all but the last event
    drained.
    """
    shop.load(file("bf", product("sneaker", 9), product("sock", 9)))
    sale = shop.sale("bf", "sneaker", "sock")
    sale.hold("ann", sneaker=1, sock=2)
    sale.checkout(sale.hold("bob", sneaker=2))
    sale.pay("cat", sneaker=3)
    released = sale.hold("dan", sock=1)
    sale.drain(shop.db)
    sale.run(commands.release("bf", released, sale.products))
    return sale


def compare(shop: Shop) -> Report:
    return reconcile(shop.db, shop.client, "bf")


def token_of(shop: Shop, customer: str) -> str:
    [[hold_id]] = shop.rows(f"SELECT id FROM holds WHERE customer_id = '{customer}'")
    return str(hold_id)[-ids.TOKEN_LENGTH :]


def promised(drift: list[Drift]) -> list[tuple[Any, ...]]:
    return [(each.promise, each.kind, each.id, each.field, each.redis, each.postgres) for each in drift]


def repair(shop: Shop) -> Report:
    """Repaired, found consistent, and still so once all is drained."""
    repaired = apply(shop.db, shop.client, "bf")
    assert not repaired.before.consistent
    assert repaired.after.consistent, repaired.after.drift
    shop.sale("bf").drain(shop.db)
    assert compare(shop).consistent
    return repaired.before


def test_a_sale_in_the_middle_of_everything_is_consistent(shop: Shop, sale: SaleUnderTest) -> None:
    report = compare(shop)
    assert report.drift == []
    assert report.consistent
    assert report.seq == sale.show().position.seq
    encoded = msgspec.to_builtins(report)
    assert list(encoded) == ["sale_id", "consistent", "seq", "checked_at", "drift"]

    sale.drain(shop.db)
    assert compare(shop).consistent


@pytest.mark.parametrize(
    ("field", "by", "promise"),
    [
        ("available", 1, "never_oversold"),
        ("available", -1, "no_stranded_stock"),
        ("held", 2, "no_stranded_stock"),
        ("sold", -3, "never_oversold"),
        ("total", 5, "never_oversold"),
    ],
)
def test_a_counter_changed_by_hand(shop: Shop, sale: SaleUnderTest, field: str, by: int, promise: str) -> None:
    was = getattr(sale.show().products["sneaker"], field)
    sale.client.hincrby(keys.stock("bf"), f"sneaker:{field}", by)

    report = compare(shop)

    assert not report.consistent
    assert msgspec.to_builtins(report.drift) == [
        {
            "promise": promise,
            "kind": "product",
            "id": "sneaker",
            "field": field,
            "redis": was + by,
            "postgres": was,
            "stripe": None,
        }
    ]
    assert repair(shop).drift == report.drift
    sale.check()
    assert shop.rows("SELECT subject FROM audit WHERE action = 'repair'") == [("bf",)]


def test_a_counter_is_repaired_by_its_difference_while_people_buy(shop: Shop, sale: SaleUnderTest) -> None:
    sale.client.hincrby(keys.stock("bf"), "sneaker:available", -2)
    _, findings, repairs = reconciling._compare(shop.db, shop.client, "bf", None)
    sale.hold("eve", sneaker=1)

    for _ in range(2):  # the second one has been overtaken
        reconciling._repair(shop.db, shop.client, "bf", findings, repairs)

    assert sale.counters("sneaker") == (9, 2, 4, 3)
    assert compare(shop).consistent


@pytest.mark.parametrize("customer", ["ann", "bob", "cat"])
@pytest.mark.parametrize("value", ["9", "0", "", "junk"])
def test_what_a_customer_has_was_changed_by_hand(shop: Shop, sale: SaleUnderTest, customer: str, value: str) -> None:
    field = f"sneaker:{customer}"
    seen = sale.customer("sneaker", customer)
    if value:
        sale.client.hset(keys.customers("bf"), field, value)
    else:
        sale.client.hdel(keys.customers("bf"), field)

    [drift] = compare(shop).drift

    assert (drift.kind, drift.id, drift.field) == ("customer", field, "held_or_bought")
    assert (drift.redis, drift.postgres) == (value or None, seen)
    assert drift.promise == ("no_stranded_stock" if value == "9" else "never_oversold")
    repair(shop)
    assert sale.customer("sneaker", customer) == seen


def test_a_live_hold_that_no_sweep_would_find(shop: Shop, sale: SaleUnderTest) -> None:
    ann, bob = token_of(shop, "ann"), token_of(shop, "bob")
    sale.client.zrem(keys.deadlines("bf", "sock"), ann)
    sale.client.zadd(keys.payments("bf"), {bob: 1})
    sale.client.zadd(keys.deadlines("bf", "sock"), {bob: 5})  # stale: whoever meets it drops it
    record, paying = sale.record(ann), sale.record(bob)
    assert record
    assert paying

    assert promised(compare(shop).drift) == [
        ("no_stranded_stock", "deadline", ids.hold_id("bf", ann), "sock", None, record.expires_ms),
        ("no_stranded_stock", "deadline", ids.hold_id("bf", bob), "payment", 1, paying.pay_by_ms),
    ]
    repair(shop)
    assert sale.client.zscore(keys.payments("bf"), bob) == paying.pay_by_ms


@pytest.mark.parametrize(
    ("customer", "status", "promise"),
    [
        ("ann", "expired", "never_oversold"),
        ("cat", "released", "no_money_without_a_thing"),
        ("ann", "sold", "no_money_without_a_thing"),
        ("dan", "held", "no_stranded_stock"),
    ],
)
def test_a_hold_changed_by_hand(shop: Shop, sale: SaleUnderTest, customer: str, status: str, promise: str) -> None:
    sale.drain(shop.db)
    token = token_of(shop, customer)
    record = sale.record(token)
    assert record
    changed = msgspec.structs.replace(record, status=status)
    sale.client.hset(keys.holds("bf"), token, msgspec.msgpack.encode(changed))

    found = [each for each in compare(shop).drift if each.kind == "hold"]

    assert promised(found) == [(promise, "hold", ids.hold_id("bf", token), "status", status, record.status)]
    sale.client.hset(keys.holds("bf"), token, msgspec.msgpack.encode(record))


def test_holds_that_only_one_side_has(shop: Shop, sale: SaleUnderTest) -> None:
    ann, cat = token_of(shop, "ann"), token_of(shop, "cat")
    lost = sale.client.hget(keys.holds("bf"), ann)
    sale.client.hdel(keys.holds("bf"), ann)
    sale.client.hset(keys.holds("bf"), "x" * 20, sale.client.hget(keys.holds("bf"), cat) or b"")
    sale.client.hset(keys.holds("bf"), "y" * 20, b"junk")

    found = [each for each in compare(shop).drift if each.kind == "hold"]

    assert sorted(promised(found)) == sorted(
        [
            ("never_oversold", "hold", ids.hold_id("bf", ann), "status", None, "held"),
            ("no_money_without_a_thing", "hold", ids.hold_id("bf", "x" * 20), "status", "sold", None),
            ("never_oversold", "hold", ids.hold_id("bf", "y" * 20), "status", "unreadable", None),
        ]
    )
    sale.client.hset(keys.holds("bf"), ann, lost or b"")
    sale.client.hdel(keys.holds("bf"), "x" * 20, "y" * 20)


def test_a_line_changed_by_hand(shop: Shop, sale: SaleUnderTest) -> None:
    token = token_of(shop, "cat")
    record = sale.record(token)
    assert record
    cheaper = msgspec.structs.replace(record, lines=(msgspec.structs.replace(record.lines[0], unit_price=1),))
    sale.client.hset(keys.holds("bf"), token, msgspec.msgpack.encode(cheaper))

    [drift] = compare(shop).drift
    assert (drift.kind, drift.field) == ("hold", "lines")
    assert (drift.redis[0][2], drift.postgres[0][2]) == (1, 1000)


def test_a_counter_changed_by_hand_in_postgres(shop: Shop, sale: SaleUnderTest) -> None:
    with shop.db.begin() as conn:
        conn.execute(text("UPDATE products SET sold = sold + 1, held = held - 1 WHERE id = 'sneaker'"))

    assert promised(compare(shop).drift) == [
        ("never_oversold", "ledger", "sneaker", "held", None, {"products": 2, "ledger": 3}),
        ("never_oversold", "ledger", "sneaker", "sold", None, {"products": 4, "ledger": 3}),
    ]
    repair(shop)
    assert shop.rows("SELECT total, held, sold FROM products WHERE id = 'sneaker'") == [(9, 3, 3)]


def test_orders_that_their_hold_contradicts(shop: Shop, sale: SaleUnderTest) -> None:
    bob, cat = (ids.order_id("bf", token_of(shop, customer)) for customer in ("bob", "cat"))
    with shop.db.begin() as conn:
        conn.execute(text("UPDATE orders SET status = 'paid' WHERE id = :id"), {"id": bob})
        conn.execute(text("UPDATE orders SET status = 'cancelled' WHERE id = :id"), {"id": cat})

    assert sorted(promised(compare(shop).drift)) == sorted(
        [
            ("no_money_without_a_thing", "order", bob, "status", "paying", "paid"),
            ("no_money_without_a_thing", "order", cat, "status", "sold", "cancelled"),
        ]
    )


def test_a_movement_that_was_written_twice(shop: Shop, sale: SaleUnderTest) -> None:
    columns = "sale_id, product_id, epoch, seq, kind, hold_id, qty, from_counter, to_counter, at"
    with shop.db.begin() as conn:
        conn.execute(text(f"INSERT INTO ledger ({columns}) SELECT {columns} FROM ledger WHERE kind = 'settled'"))
    once = [each for each in compare(shop).drift if each.promise == "once"]
    assert [(each.kind, each.field, each.postgres) for each in once] == [("ledger", "settled", 2)]


def test_a_hold_that_the_last_guard_refused_is_no_drift(shop: Shop, sale: SaleUnderTest) -> None:
    with shop.db.begin() as conn:
        # A Redis that went back in time sold what Postgres has no stock for.
        conn.execute(text("UPDATE products SET total = 3 WHERE id = 'sneaker'"))
        conn.execute(text("UPDATE ledger SET qty = 3, to_after = 3 WHERE kind = 'loaded' AND product_id = 'sneaker'"))
    sale.client.hset(keys.stock("bf"), mapping={"sneaker:total": 3, "sneaker:available": -3})
    bob = token_of(shop, "bob")
    [settled] = sale.run(commands.settle("bf", [bob], sale.products))
    assert settled.outcome is Outcome.SETTLED

    assert compare(shop).consistent
    sale.drain(shop.db)
    assert shop.rows("SELECT refused FROM holds WHERE customer_id = 'bob'") == [(True,)]
    assert compare(shop).consistent
    sale.run(commands.cancel("bf", bob, sale.products, "released"))
    assert compare(shop).consistent
    sale.drain(shop.db)
    assert compare(shop).consistent


def test_a_sale_that_redis_does_not_have_is_reported(shop: Shop, sale: SaleUnderTest) -> None:
    shop.client.flushdb()
    report = compare(shop)
    [[seq]] = shop.rows("SELECT seq FROM cursors")
    assert promised(report.drift) == [("no_stranded_stock", "sale", "bf", "position", None, f"1-{seq}")]
    assert apply(shop.db, shop.client, "bf").after.drift == report.drift


def test_a_rebuilt_sale_is_consistent(shop: Shop, sale: SaleUnderTest) -> None:
    sale.drain(shop.db)
    shop.client.flushdb()
    rebuild(shop.db, shop.client, "bf")
    assert compare(shop).consistent

    sale.pay("eve", sneaker=1)
    assert compare(shop).drift == []
    sale.drain(shop.db)
    assert compare(shop).drift == []


def test_another_history_is_reported(shop: Shop, sale: SaleUnderTest) -> None:
    with shop.db.begin() as conn:
        conn.execute(text("UPDATE cursors SET mark = 'other'"))
    [drift] = compare(shop).drift
    assert (drift.kind, drift.field) == ("sale", "position")


def test_what_cannot_be_compared(shop: Shop, sale: SaleUnderTest) -> None:
    with pytest.raises(Refusal, match="no sale 'nope'"):
        reconcile(shop.db, shop.client, "nope")
    was = sale.client.hget(keys.stock("bf"), "sneaker:held")
    sale.client.hset(keys.stock("bf"), "sneaker:held", "many")
    with pytest.raises(CannotCompare, match="no whole number"):
        compare(shop)
    sale.client.hset(keys.stock("bf"), "sneaker:held", was or 0)


def test_the_payment_side_adds_what_it_finds(shop: Shop, sale: SaleUnderTest) -> None:
    odd = Drift("no_money_without_a_thing", "intent", "pi_1", "status", stripe="succeeded")
    report = reconcile(shop.db, shop.client, "bf", lambda sale_id: [odd] if sale_id == "bf" else [])
    assert report.drift == [odd]
    assert not report.consistent


def test_lag_is_no_drift_while_everybody_buys(shop: Shop) -> None:
    """Buyers, and the drain behind them, go on while the sale is compared, again and again."""
    shop.load(file("bf", product("sneaker", 3000), product("sock", 3000)))
    stop = threading.Event()
    threads = [GoOn(stop, partial(buy_something, shop, random.Random(seed))) for seed in range(3)]
    threads.append(GoOn(stop, lambda: drain_once(shop.db, shop.client, "bf", entries=50)))
    try:
        reports = [compare(shop) for _ in range(12)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [thread.failure for thread in threads] == [None] * 4
    assert [report.drift for report in reports] == [[]] * 12
    assert reports[-1].seq > reports[0].seq
    shop.sale("bf").drain(shop.db)
    assert compare(shop).consistent


class GoOn(threading.Thread):
    """Does a step over and over until it is told to stop."""

    def __init__(self, stop: threading.Event, step: Callable[[], Any]) -> None:
        super().__init__()
        self.stop, self.step = stop, step
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.step()
        except Exception as error:
            self.failure = error
            raise


def buy_something(shop: Shop, rng: random.Random) -> None:
    """One hold, and one of the things that may become of it."""
    names = ["sneaker", "sock"]
    token = ids.new_token()
    lines = tuple((name, rng.randint(1, 3)) for name in rng.sample(names, rng.randint(1, 2)))
    request = commands.HoldRequest(token, f"customer-{rng.randint(1, 50)}", lines)
    [answer] = run(shop.client, commands.hold("bf", [request]))
    if answer.outcome is not Outcome.HELD:
        return
    checkout = commands.checkout("bf", [token], names, ["first"])
    settle = commands.settle("bf", [token], names)
    restock = commands.restock("bf", token, f"refund_{token}", [(lines[0][0], 1)])
    cancel = commands.cancel("bf", token, names, "expired")
    release = commands.release("bf", token, names)
    lives: list[list[Command[Any]]] = [
        [],
        [release],
        [checkout],
        [checkout, cancel],
        [checkout, settle],
        [checkout, settle, restock],
        [checkout, settle, cancel],
    ]
    for step in rng.choice(lives):
        run(shop.client, step)
