"""The fence and the rebuild: a Redis that lost data is told from a Postgres that did, and the sale goes on as Postgres
knows it.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from engine import commands, keys
from engine.outcomes import Outcome
from engine.records import Position
from persistence import database, orders
from persistence import rebuild as module
from persistence.rebuild import Lineage, RebuildRefused, lineage, rebuild, rebuild_if_lost
from tests.persistence.test_drain import agree, rows
from tests.sales import SaleUnderTest


@pytest.fixture
def db(database_url: str) -> Iterator[Engine]:
    engine = database.connect(database_url)
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO sales (id, name, hold_ttl_ms, payment_ttl_ms) VALUES ('bf', '', 1, 1)"))
        conn.execute(text("INSERT INTO cursors (sale_id) VALUES ('bf')"))
        conn.execute(text("INSERT INTO claims (sale_id, product_id) VALUES ('bf', 'sneaker')"))
    yield engine
    engine.dispose()


def cursor(db: Engine) -> tuple[Position, str]:
    [(epoch, seq, mark)] = rows(db, "SELECT epoch, seq, mark FROM cursors")
    return Position(epoch, seq), mark


def seen(db: Engine, sale: SaleUnderTest) -> Lineage:
    return lineage(sale.client, sale.id, *cursor(db))


def sell_some(sale: SaleUnderTest) -> dict[str, str]:
    sale.load(sneaker=20, sock=20)
    released = sale.hold("rob", sneaker=1)
    sale.run(commands.release(sale.id, released, sale.products))
    paying = sale.hold("pam", sneaker=2, sock=1)
    sale.checkout(paying, "pams-request")
    sold = sale.pay("sam", sneaker=3)
    sale.run(commands.restock(sale.id, sold, "refund-1", [("sneaker", 1)]))
    return {"released": released, "paying": paying, "sold": sold, "held": sale.hold("hal", sneaker=4)}


def state(sale: SaleUnderTest) -> object:
    shown = sale.show()
    hashes = [sale.client.hkeys(keys.holds(sale.id)).sort(), sale.client.hgetall(keys.customers(sale.id))]
    deadlines = [sale.client.zrange(keys.deadlines(sale.id, p), 0, -1, withscores=True) for p in sale.products]
    return shown.products, hashes, deadlines, sale.client.zrange(keys.payments(sale.id), 0, -1, withscores=True)


def test_an_empty_redis_comes_back_as_it_was(db: Engine, sale: SaleUnderTest) -> None:
    tokens = sell_some(sale)
    sale.drain(db)
    assert seen(db, sale) is Lineage.INTACT
    before, records = state(sale), {name: sale.record(token) for name, token in tokens.items()}
    sale.client.flushall()
    assert seen(db, sale) is Lineage.REDIS_LOST_DATA
    rebuilt = rebuild(db, sale.client, sale.id)
    assert (rebuilt.epoch, rebuilt.sold, rebuilt.paying, rebuilt.held, rebuilt.ended, rebuilt.expired) == (
        2,
        1,
        1,
        1,
        1,
        0,
    )
    assert {name: sale.record(token) for name, token in tokens.items()} == records
    assert state(sale) == before
    assert seen(db, sale) is Lineage.INTACT
    assert sale.client.hget(keys.PRODUCTS, "sneaker") == b"bf"
    sale.hold("new", sneaker=1)
    [settled] = sale.run(commands.settle(sale.id, [tokens["paying"]], sale.products))
    assert settled.outcome is Outcome.SETTLED
    assert sale.run(commands.restock(sale.id, tokens["sold"], "refund-1", [("sneaker", 1)])).outcome is Outcome.REPLAYED
    sale.drain(db)
    agree(db, sale)


def test_what_postgres_does_not_know_is_lost_and_for_sale(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    known = sale.hold("ann", sneaker=1)
    sale.drain(db)
    unknown = sale.hold("bob", sneaker=4)
    sale.client.flushall()
    assert seen(db, sale) is Lineage.REDIS_LOST_DATA
    rebuild(db, sale.client, sale.id)
    assert (sale.status(known), sale.status(unknown)) == ("held", "none")
    sale.hold("cat", sneaker=4)
    sale.drain(db)
    agree(db, sale)


def test_a_redis_that_grew_past_the_cursor_again_is_noticed(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=50)
    sale.hold("ann", sneaker=1)
    sale.drain(db)
    sale.client.flushall()
    sale.load(sneaker=50)
    for n in range(10):
        sale.hold(f"c{n}", sneaker=1)
    assert seen(db, sale) is Lineage.REDIS_LOST_DATA
    rebuild(db, sale.client, sale.id)
    assert sale.counters("sneaker") == (50, 49, 1, 0)
    sale.hold("new", sneaker=1)
    sale.drain(db)
    agree(db, sale)


def test_by_hand_on_an_intact_sale_nothing_is_lost(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=5)
    sale.drain(db)
    token = sale.hold("ann", sneaker=2)
    assert rebuild(db, sale.client, sale.id).held == 1
    assert sale.status(token) == "held"
    assert sale.counters("sneaker") == (5, 3, 2, 0)


@pytest.mark.parametrize("state_", ["paused", "ended"])
def test_what_people_set_stays(db: Engine, sale: SaleUnderTest, state_: str) -> None:
    sale.load(sneaker=5)
    sale.run(commands.control(sale.id, state_))
    sale.drain(db)
    sale.client.flushall()
    rebuild(db, sale.client, sale.id)
    shown = sale.show().sale
    assert shown
    assert (shown.state, shown.fenced) == (state_, False)
    sale.products = []


def test_holds_that_do_not_fit_expire_last_come_first(db: Engine, sale: SaleUnderTest) -> None:
    sale.load(sneaker=2)
    sale.drain(db)
    sale.client.hincrby(keys.stock(sale.id), "sneaker:available", 3)
    sold, paying = sale.pay("sam", sneaker=1), sale.hold("pam", sneaker=1)
    sale.checkout(paying)
    held = [sale.hold(f"h{n}", sneaker=1) for n in range(3)]
    sale.drain(db)
    rebuilt = rebuild(db, sale.client, sale.id)
    assert rebuilt.expired == 3
    assert [sale.status(token) for token in (sold, paying, *held)] == ["sold", "paying", *["expired"] * 3]
    sale.drain(db)
    agree(db, sale)
    sale.check()


@pytest.mark.parametrize("fits", [True, False])
def test_an_order_whose_hold_was_lost_gets_its_units_if_they_fit(db: Engine, sale: SaleUnderTest, fits: bool) -> None:
    sale.load(sneaker=3)
    sale.drain(db)
    token = sale.hold("ann", sneaker=2)
    change = sale.checkout(token)
    assert change.hold
    with db.begin() as conn:  # as the API does, before anything is drained
        orders.insert_order(conn, sale.id, orders.NewOrder(token, change.hold, change.now_ms))
    if not fits:
        with db.begin() as conn:
            conn.execute(text("UPDATE products SET total = 1"))
    sale.client.flushall()
    rebuilt = rebuild(db, sale.client, sale.id)
    assert (rebuilt.paying, rebuilt.expired) == ((1, 0) if fits else (1, 1))
    assert sale.status(token) == ("paying" if fits else "expired")
    if fits:
        [settled] = sale.run(commands.settle(sale.id, [token], sale.products))
        assert settled.outcome is Outcome.SETTLED
    sale.drain(db)
    assert rows(db, "SELECT status FROM orders") == [("paid" if fits else "cancelled",)]
    if fits:
        agree(db, sale)


def test_only_what_was_lost_is_rebuilt(db: Engine, sale: SaleUnderTest) -> None:
    sell_some(sale)
    sale.drain(db)
    assert rebuild_if_lost(db, sale.client, sale.id) is None
    with db.begin() as conn:
        conn.execute(text("SELECT 1 FROM cursors FOR UPDATE"))
        sale.client.flushall()
        assert rebuild_if_lost(db, sale.client, sale.id) is None  # another is at it
    rebuilt = rebuild_if_lost(db, sale.client, sale.id)
    assert rebuilt
    assert rebuilt.epoch == 2


def test_those_who_lock_the_cursor_for_a_moment_do_not_keep_a_lost_sale_from_its_rebuild(
    db: Engine, sale: SaleUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_WAIT_MS", 30_000)  # however slow the machine is
    sell_some(sale)
    sale.drain(db)
    sale.client.flushall()
    locked, conn = threading.Event(), db.connect()

    def drain_in_vain() -> None:
        with conn.begin():
            conn.execute(text("SELECT 1 FROM cursors FOR UPDATE"))
            locked.set()
            time.sleep(0.2)
        conn.close()

    thread = threading.Thread(target=drain_in_vain)
    thread.start()
    locked.wait()
    assert rebuild_if_lost(db, sale.client, sale.id)
    thread.join()


@pytest.mark.parametrize("found_lost", [False, True])
def test_what_is_sold_after_another_rebuild_is_not_lost_by_this_one(
    db: Engine, sale: SaleUnderTest, monkeypatch: pytest.MonkeyPatch, found_lost: bool
) -> None:
    tokens = sell_some(sale)
    sale.drain(db)
    sale.client.flushall()
    drain_the_rest = module._drain_the_rest
    sold: list[str] = []

    def another_was_faster(*of: Any) -> None:
        drain_the_rest(*of)
        if not sold:
            sold.append("")
            rebuild(*of)
            sold.append(sale.hold("zoe", sneaker=1))

    monkeypatch.setattr(module, "_drain_the_rest", another_was_faster)
    if found_lost:
        with pytest.raises(RebuildRefused, match="another rebuild"):
            rebuild_if_lost(db, sale.client, sale.id)
        sale.drain(db)
    else:
        assert rebuild(db, sale.client, sale.id).epoch == 3
    assert [sale.status(token) for token in (tokens["held"], sold[1])] == ["held", "held"]
    shown = sale.show().sale
    assert shown
    assert not shown.fenced


@pytest.mark.parametrize("calls", range(1, 8))
def test_stopped_anywhere_and_begun_again(
    db: Engine, sale: SaleUnderTest, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    tokens = sell_some(sale)
    sale.drain(db)
    records = {name: sale.record(token) for name, token in tokens.items()}
    before = sale.show().products
    done = 0

    def run_then_die(client: object, call: object) -> object:
        nonlocal done
        if done == calls:
            raise ConnectionAbortedError
        done += 1
        return sale.run(call)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("persistence.rebuild.run", run_then_die)
        try:
            rebuild(db, sale.client, sale.id, batch=1)
        except ConnectionAbortedError:
            shown = sale.show().sale
            assert shown
            assert shown.fenced
            assert seen(db, sale) is Lineage.REDIS_LOST_DATA
            patch.undo()
            rebuild(db, sale.client, sale.id)
    assert {name: sale.record(token) for name, token in tokens.items()} == records
    assert sale.show().products == before
    assert seen(db, sale) is Lineage.INTACT


class TestPostgresWentBack:
    def back_to(self, db: Engine, position: Position, mark: str) -> None:
        """As a Postgres that was restored to an earlier moment."""
        with db.begin() as conn:
            for table in ("ledger", "holds", "labels", "products"):
                conn.execute(text(f"TRUNCATE {table} CASCADE"))
            conn.execute(
                text("UPDATE cursors SET epoch = :epoch, seq = :seq, mark = :mark"),
                {"epoch": position.epoch, "seq": position.seq, "mark": mark},
            )

    def test_within_the_kept_stretch_it_is_drained_again(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9)
        for n in range(5):
            sale.hold(f"c{n}", sneaker=1)
        sale.drain(db)
        self.back_to(db, Position(1, 0), "")
        assert seen(db, sale) is Lineage.INTACT
        sale.drain(db)
        agree(db, sale)

    def test_past_it_people_decide(self, db: Engine, sale: SaleUnderTest) -> None:
        sale.load(sneaker=9)
        early, mark = Position(1, 1), sale.events()[0].mark
        for n in range(5):
            sale.hold(f"c{n}", sneaker=1)
        sale.drain(db)
        sale.run(commands.trim(sale.id, *cursor(db), keep=1))
        assert lineage(sale.client, sale.id, early, mark) is Lineage.POSTGRES_WENT_BACK
        assert lineage(sale.client, sale.id, Position(0, 9), mark) is Lineage.POSTGRES_WENT_BACK
        sale.products = []


def test_an_unknown_sale_is_refused(db: Engine, sale: SaleUnderTest) -> None:
    with pytest.raises(RebuildRefused, match="there is no sale nope"):
        rebuild(db, sale.client, "nope")


def test_two_at_once_end_well(db: Engine, sale: SaleUnderTest) -> None:
    sell_some(sale)
    sale.drain(db)
    before = sale.show().products
    sale.run(commands.fence(sale.id, fenced=True))
    epoch = rebuild(db, sale.client, sale.id).epoch
    assert sale.run(commands.reset(sale.id, epoch, {}, [])).outcome is Outcome.OVERTAKEN
    assert sale.run(commands.restore(sale.id, epoch - 1, [])).outcome is Outcome.OVERTAKEN
    assert sale.show().products == before
