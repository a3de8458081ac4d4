"""The drain: every event once, in one transaction with its ledger and the cursor; a Redis that lost data is noticed."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from engine import commands, ids, keys
from engine.commands import HoldRequest, LoadItem
from engine.outcomes import Outcome
from engine.records import Position
from persistence import database
from persistence.drain import Astray, NotDrained, drain_once, drain_to
from tests.sales import SaleUnderTest


@pytest.fixture
def db(database_url: str) -> Iterator[Engine]:
    engine = database.connect(database_url)
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO sales (id, name, hold_ttl_ms, payment_ttl_ms) VALUES ('bf', '', 1, 1)"))
        conn.execute(text("INSERT INTO cursors (sale_id) VALUES ('bf')"))
    yield engine
    engine.dispose()


def rows(db: Engine, query: str) -> list[Any]:
    with db.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def agree(db: Engine, sale: SaleUnderTest) -> None:
    """Postgres's counters are Redis's, and the ledger adds up to them."""
    redis = {p.id: (p.total, p.available, p.held, p.sold) for p in sale.show().products.values()}
    postgres = {row[0]: row[1:] for row in rows(db, "SELECT id, total, total - held - sold, held, sold FROM products")}
    assert redis == postgres
    for product, (_, available, held, sold) in redis.items():
        for counter, value in (("available", available), ("held", held), ("sold", sold)):
            [(ledger,)] = rows(
                db,
                f"""SELECT coalesce(sum(CASE WHEN to_counter = '{counter}' THEN qty ELSE 0 END
                          - CASE WHEN from_counter = '{counter}' THEN qty ELSE 0 END), 0)
                    FROM ledger WHERE product_id = '{product}'""",
            )
            assert ledger == value, (product, counter)


def test_a_whole_life_is_brought(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=9, sock=9)
    released = sale.hold("ann", sneaker=1, sock=2)
    sale.run(commands.release(sale.id, released, sale.products))
    paid = sale.pay("bob", sneaker=2, sock=1)
    sale.run(commands.restock(sale.id, sale.pay("cat", sneaker=3), "refund-1", [("sneaker", 1)]))
    abandoned = sale.hold("dan", sneaker=1)
    sale.pass_ms(60_000)
    sale.run(commands.expire(sale.id, sale.products, 10))
    sale.run(commands.adjust(sale.id, "sock", -2, "damp", "command-1"))
    sale.run(commands.control(sale.id, "paused"))
    sale.drain(db)
    agree(db, sale)
    statuses = dict(rows(db, "SELECT right(id, 20), status FROM holds"))
    assert (statuses[released], statuses[paid], statuses[abandoned]) == ("released", "sold", "expired")
    assert rows(db, "SELECT status, total FROM orders WHERE customer_id = 'bob'") == [("paid", 3000)]
    assert rows(db, "SELECT due FROM payments") == [("capture",), ("capture",)]
    assert rows(db, "SELECT returned FROM order_lines WHERE qty = 3") == [(1,)]
    assert rows(db, "SELECT state FROM sales") == [("paused",)]
    assert rows(db, "SELECT reason FROM ledger WHERE kind = 'adjusted'") == [("damp",)]
    positions = [position for (position,) in rows(db, "SELECT position FROM order_changes ORDER BY 1")]
    assert positions == list(range(1, len(positions) + 1))


def test_quantities_before_and_after_join_up(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=9)
    for customer in ("ann", "bob"):
        sale.pay(customer, sneaker=2)
    sale.drain(db)
    columns = "qty, from_counter, from_before, from_after, to_counter, to_before, to_after"
    assert rows(db, f"SELECT {columns} FROM ledger ORDER BY id") == [
        (9, None, None, None, "available", 0, 9),
        (2, "available", 9, 7, "held", 0, 2),
        (2, "held", 2, 0, "sold", 0, 2),
        (2, "available", 7, 5, "held", 0, 2),
        (2, "held", 2, 0, "sold", 2, 4),
    ]  # fmt: skip


def test_again_brings_nothing(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=9)
    sale.pay("ann", sneaker=1)
    sale.drain(db)
    before = rows(db, "SELECT count(*) FROM ledger")
    drained = drain_once(db, sale.client, sale.id)
    assert drained
    assert drained.events == 0
    assert rows(db, "SELECT count(*) FROM ledger") == before


def test_two_drainers_bring_each_event_once(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=500)
    stop = threading.Event()
    brought: list[int] = []

    def work() -> None:
        while not stop.is_set():
            drained = drain_once(db, sale.client, sale.id, wait=False, entries=3)
            if drained:
                brought.append(drained.events)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for n in range(100):
        sale.hold(f"c{n}", sneaker=1)
    sale.drain(db)
    stop.set()
    for worker in workers:
        worker.join()
    agree(db, sale)
    assert rows(db, "SELECT count(*) FROM ledger WHERE kind = 'held'") == [(100,)]


def test_large_events_are_read_no_further_than_one_transaction_brings_them(
    db: Engine, sale: SaleUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale.load(sneaker=9000)
    for batch in range(60):
        requests = [HoldRequest(ids.new_token(), f"c{batch}-{n}", (("sneaker", 1),)) for n in range(100)]
        sale.run(commands.hold(sale.id, requests))
    read: list[int] = []
    xrange = sale.client.xrange

    def counted(*args: Any, **options: Any) -> Any:
        found: Any = xrange(*args, **options)
        read.append(len(found))
        return found

    monkeypatch.setattr(sale.client, "xrange", counted)
    first = drain_once(db, sale.client, sale.id)
    assert first
    assert (first.holds, first.behind) == (4000, True)
    assert sum(read) < 1.5 * first.events, "Redis answers nobody else while it copies what is not wanted yet"
    rest = drain_once(db, sale.client, sale.id)
    assert rest
    assert (rest.holds, rest.behind) == (2000, False)
    agree(db, sale)


def test_small_events_fill_a_transaction_all_the_same(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=9000)
    for n in range(420):
        sale.hold(f"c{n}", sneaker=1)
    drained = [drain_once(db, sale.client, sale.id) for _ in range(2)]
    assert [(each.events, each.behind) for each in drained if each] == [(400, True), (21, False)]
    agree(db, sale)


def test_a_crash_before_the_commit_leaves_all_to_be_done_again(
    db: Engine, sale: SaleUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale.load(sneaker=9)
    sale.pay("ann", sneaker=1)

    def crash(*_: object) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as patch:
        patch.setattr("persistence.writes.move_cursor", crash)
        with pytest.raises(ConnectionAbortedError):
            drain_once(db, sale.client, sale.id)
    assert rows(db, "SELECT count(*) FROM ledger") == [(0,)]
    sale.drain(db)
    agree(db, sale)


class TestTheLastGuard:
    """Redis's counters were raised by hand: Postgres refuses what it cannot give, and goes on."""

    def test_no_order_is_paid_beyond_the_stock(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=2)
        sale.drain(db)
        sale.client.hincrby(keys.stock(sale.id), "sneaker:available", 3)
        tokens = [sale.pay(f"c{n}", sneaker=1) for n in range(5)]
        sale.drain(db)
        assert rows(db, "SELECT status, ended_because, count(*) FROM orders GROUP BY 1, 2 ORDER BY 1") == [
            ("cancelled", "refused", 3),
            ("paid", None, 2),
        ]
        assert rows(db, "SELECT due, count(*) FROM payments GROUP BY 1 ORDER BY 1") == [("capture", 2), ("void", 3)]
        assert rows(db, "SELECT total, held, sold FROM products") == [(2, 0, 2)]
        refused = [token for token in tokens if self.order(db, token) == "cancelled"]
        for token in refused:  # what the worker does once the money is voided
            sale.run(commands.cancel(sale.id, token, sale.products, "released"))
        sale.drain(db)
        assert rows(db, "SELECT total, held, sold FROM products") == [(2, 0, 2)]
        sale.run(commands.mend(sale.id, 0, [("sneaker", "available", -3)]))
        agree(db, sale)

    def order(self, db: Engine, token: str) -> str:
        [(status,)] = rows(db, f"SELECT status FROM orders WHERE id = '{ids.order_id('bf', token)}'")
        assert isinstance(status, str)
        return status


class TestTheFence:
    def test_an_empty_redis_is_noticed(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9)
        sale.drain(db)
        sale.client.flushall()
        sale.products = []
        with pytest.raises(Astray):
            drain_once(db, sale.client, sale.id)

    def test_another_history_under_the_same_numbers_is_noticed(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9)
        sale.hold("ann", sneaker=1)
        sale.drain(db)
        sale.client.flushall()
        sale.load(sneaker=9)
        for n in range(5):
            sale.hold(f"c{n}", sneaker=1)
        with pytest.raises(Astray):
            drain_once(db, sale.client, sale.id)
        assert rows(db, "SELECT count(*) FROM holds") == [(1,)]

    def test_a_gap_is_noticed(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9)
        sale.drain(db)
        for n in range(3):
            sale.hold(f"c{n}", sneaker=1)
        sale.client.xdel(keys.events(sale.id), "1-3")
        sale.products = []
        with pytest.raises(Astray):
            drain_once(db, sale.client, sale.id)


class TestWhatCannotBeWritten:
    def test_is_set_aside_alone_and_the_rest_goes_on(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9)
        sale.hold("ann", sneaker=1)
        sale.hold("nul\0", sneaker=1)  # the API lets none through
        sale.hold("bob", sneaker=1)
        sale.drain(db)
        assert rows(db, "SELECT customer_id FROM holds ORDER BY 1") == [("ann",), ("bob",)]
        [(seq, error)] = rows(db, "SELECT seq, error FROM set_aside")
        assert seq == 3
        assert error

    def test_an_unreadable_one_too(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9)
        seq = sale.show().position.seq + 1
        sale.client.xadd(keys.events(sale.id), {"kind": "nonsense", "mark": "m", "at": 1}, id=f"1-{seq}")
        sale.client.hset(keys.sale(sale.id), mapping={"seq": seq, "mark": "m"})
        sale.hold("ann", sneaker=1)
        sale.drain(db)
        agree(db, sale)
        assert rows(db, "SELECT seq FROM set_aside") == [(seq,)]
        sale.products = []


def test_the_stream_is_trimmed_behind_the_cursor(
    db: Engine, sale: SaleUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.drain.KEEP_ENTRIES", 10)
    monkeypatch.setattr("persistence.drain.TRIM_EVERY", 16)
    sale.load(sneaker=200)
    for n in range(100):
        sale.hold(f"c{n}", sneaker=1)
        drain_once(db, sale.client, sale.id)
    assert 10 <= sale.client.xlen(keys.events(sale.id)) <= 40
    agree(db, sale)
    sale.products = []


def test_waiting_for_what_never_comes_ends(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=9)
    with pytest.raises(NotDrained):
        drain_to(db, sale.client, sale.id, Position(1, 99), timeout_seconds=0.1)


def test_a_price_of_the_moment_of_the_hold_is_the_orders(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=9)
    token = sale.hold("ann", sneaker=2)
    sale.load_items([LoadItem("sneaker", "Dearer", 9900, 0, "usd", 9, 0)])
    assert sale.checkout(token).outcome is Outcome.PAYING
    sale.drain(db)
    assert rows(db, "SELECT name, unit_price FROM order_lines") == [("Sneaker", 1000)]
