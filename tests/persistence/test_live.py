"""The live picture: what it says is what the stores say, and it is made without Postgres too."""

import pytest
import redis
from sqlalchemy import Engine, text

from engine import keys
from engine.shapes import Stock
from persistence import database, live, live_rows, sales
from persistence.drain import drain_once
from persistence.live import LiveSale, Promises
from persistence.salefile import SaleFile
from tests.persistence.test_sales import file, product
from tests.sales import SaleUnderTest

AWAY = "postgresql://nobody:nothing@127.0.0.1:1/none"


def load(db: Engine, client: redis.Redis, wanted: SaleFile) -> SaleUnderTest:
    sales.load_sale(db, client, wanted)
    return SaleUnderTest(client, wanted.id, products=[each.id for each in wanted.products])


def only(picture: live.Live) -> LiveSale:
    [sale] = picture.sales
    return sale


def test_counters_are_redis_s_and_lag_is_what_postgres_lacks(db: Engine, client: redis.Redis) -> None:
    sale = load(db, client, file("bf", product("shoe"), product("sock", 3)))
    sale.hold("ann", shoe=2)
    token = sale.hold("bob", shoe=1, sock=1)
    sale.checkout(token)
    sale.pay("cid", sock=1)
    shown = only(live.read(db, client))
    assert shown.stock == Stock(8, 3, 4, 1)
    assert {each.id: each.stock for each in shown.products} == {
        "shoe": Stock(5, 2, 3, 0),
        "sock": Stock(3, 1, 1, 1),
    }
    assert (shown.holds, shown.paying, shown.overdue, shown.unsound) == (3, 1, 0, 0)
    assert (shown.status, shown.seq, shown.lag_events) == ("live", 7, 6)
    assert shown.lag_seconds is not None
    assert [(each.status, each.units) for each in shown.expiries] == [("held", 2), ("paying", 2)]
    assert shown.expiries[0].at_ms > shown.now_ms

    while (drained := drain_once(db, client, "bf")) and drained.events:
        pass
    shown = only(live.read(db, client))
    assert (shown.lag_events, shown.lag_seconds) == (0, 0.0)
    assert shown.money
    assert shown.money.orders == {"paid": 1, "pending_payment": 1}


def test_what_is_overdue_is_counted_until_it_is_swept(db: Engine, client: redis.Redis) -> None:
    sale = load(db, client, file("bf", product("shoe")))
    sale.hold("ann", shoe=1)
    sale.checkout(sale.hold("bob", shoe=1))
    sale.pass_ms(60_000 + live.OVERDUE_MS + 1)
    assert (only(live.read(db, client)).overdue, only(live.read(db, client)).paying) == (1, 1)


def test_counters_that_do_not_add_up_break_the_first_promise(db: Engine, client: redis.Redis) -> None:
    load(db, client, file("bf", product("shoe")))
    assert live.read(db, client).promises == Promises(0, 0, 0, 0)
    client.hincrby(keys.stock("bf"), "shoe:available", 1)
    assert live.read(db, client).promises == Promises(1, 0, 0, 0)
    assert live.read(database.connect(AWAY), client).promises == Promises(1, None, None, None)
    client.hincrby(keys.stock("bf"), "shoe:available", -1)


def test_what_people_did_and_what_went_wrong_is_told_newest_first(db: Engine, client: redis.Redis) -> None:
    load(db, client, file("bf", product("shoe")))
    sales.adjust_stock(db, client, "shoe", 3, "found a box", "c1")
    sales.set_state(db, client, "bf", "pause")
    with db.begin() as conn:
        conn.execute(
            text("""INSERT INTO webhook_events (id, type, payload, status, reason, due_at)
                    VALUES ('evt_1', 'charge.refunded', '{}', 'parked', 'no such order', NULL)""")
        )
    notices = live.read(db, client).notices
    assert [(each.kind, each.subject, each.said, each.bad) for each in notices] == [
        ("event_parked", "evt_1", "charge.refunded: no such order", True),
        ("pause", "bf", "", False),
        ("adjust", "bf shoe", "3 found a box", False),
        ("load", "bf", "", False),
    ]


def test_without_postgres_the_rest_is_shown(db: Engine, client: redis.Redis) -> None:
    sale = load(db, client, file("bf", product("shoe")))
    sale.hold("ann", shoe=2)
    picture = live.read(database.connect(AWAY), client)
    assert not picture.postgres
    assert picture.promises == Promises(None, None, None, None)
    assert (picture.waiting, picture.notices) == (None, [])
    shown = only(picture)
    assert (shown.stock, shown.lag_events, shown.money) == (Stock(5, 3, 2, 0), None, None)


def test_a_sale_that_redis_lost_is_left_out_and_many_are_cut_to_the_newest(
    db: Engine, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        load(db, client, file(f"s{number}", product(f"shoe{number}")))
    for key in client.keys("fs:{s2}:*"):
        client.delete(key)
    assert [sale.id for sale in live.read(db, client).sales] == ["s3", "s1", "s0"]
    monkeypatch.setattr(live, "SALES_MAX", 2)
    assert [sale.id for sale in live.read(db, client).sales] == ["s3"]
    assert live_rows.read(db, client, 60).sales.keys() == {"s0", "s1", "s2", "s3"}
