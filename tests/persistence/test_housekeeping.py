"""Redis's list of products follows Postgres's claims, and a sale leaves Redis a day after its end, when nothing is
open.
"""

from collections.abc import Callable

import pytest
import redis
from sqlalchemy import Engine, text

from engine import commands, ids, keys
from engine.shapes import Stock
from persistence import orders, sales
from persistence.answers import Wanted, claim
from persistence.reconcile import reconcile
from persistence.refusals import Refusal
from tests.persistence.test_sales import Shop, file, product, shop
from tests.sales import SaleUnderTest

__all__ = ["shop"]  # a fixture


def test_the_list_of_products_is_brought_back(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker"), product("sock")))
    assert sales.republish(shop.db, shop.client) == 0

    shop.client.hset(keys.PRODUCTS, mapping={"sock": "other", "ghost": "bf"})
    shop.client.hdel(keys.PRODUCTS, "sneaker")

    assert sales.republish(shop.db, shop.client) == 3
    assert shop.published() == {b"sneaker": b"bf", b"sock": b"bf"}
    assert sales.republish(shop.db, shop.client) == 0


@pytest.fixture
def old(shop: Shop) -> SaleUnderTest:
    """A sale that ended a day ago, with one order paid."""
    shop.load(file("bf", product("sneaker"), product("sock")))
    sale = shop.sale("bf", "sneaker", "sock")
    token = sale.pay("ann", sneaker=2)
    with shop.db.begin() as conn:
        claim(conn, [Wanted("POST /v1/orders", "k", "d", "bf")])
    shop.set_state("bf", "end")
    a_day_later(shop)
    with shop.db.begin() as conn:
        conn.execute(text("UPDATE payments SET due = NULL, due_at = NULL, status = 'succeeded'"))
        assert orders.read_order(conn, ids.order_id("bf", token))
    return sale


def a_day_later(shop: Shop) -> None:
    with shop.db.begin() as conn:
        conn.execute(text("UPDATE sales SET ended_at = ended_at - interval '24 hours 1 second'"))


def test_a_sale_leaves_redis_a_day_after_its_end(shop: Shop, old: SaleUnderTest) -> None:
    shop.load(file("cyber", product("sock")))
    assert sales.retire(shop.db, shop.client) == ["bf"]

    assert not shop.client.keys("fs:{bf}*")
    assert shop.published() == {b"sock": b"cyber"}
    assert shop.rows("SELECT id FROM sales WHERE retired_at IS NOT NULL") == [("bf",)]
    assert shop.rows("SELECT count(*) FROM answers") == [(0,)]
    assert sales.retire(shop.db, shop.client) == []
    assert sales.republish(shop.db, shop.client) == 0
    old.products = []

    shown = sales.show_sale(shop.db, shop.client, "bf")
    assert (shown.status, shown.fenced) == ("ended", False)
    assert [(each.id, each.stock) for each in shown.products] == [
        ("sneaker", Stock(5, 3, 0, 2)),
        ("sock", Stock(5, 5, 0, 0)),
    ]
    assert shop.set_state("bf", "end") == "ended"
    with pytest.raises(Refusal) as raised:
        shop.set_state("bf", "resume")
    assert raised.value.code == "sale_ended"
    assert shop.refuse(file("bf", product("sneaker"))).code == "sale_ended"
    shop.load(file("bf-2", product("sneaker")))
    assert reconcile(shop.db, shop.client, "bf").consistent


def live_hold(shop: Shop, sale: SaleUnderTest) -> None:
    """Won before the end, and not drained before this call."""
    shop.load(file("late", product("hat")))
    late = shop.sale("late", "hat")
    late.hold("ann", hat=1)
    shop.set_state("late", "end")
    a_day_later(shop)


def undrained(shop: Shop, sale: SaleUnderTest) -> None:
    token = next(iter(sale.client.hkeys(keys.holds("bf")))).decode()
    sale.run(commands.restock("bf", token, "refund_1", [("sneaker", 1)]))


def owed(shop: Shop, sale: SaleUnderTest) -> None:
    with shop.db.begin() as conn:
        conn.execute(text("UPDATE payments SET due = 'capture', due_at = now()"))


def too_early(shop: Shop, sale: SaleUnderTest) -> None:
    with shop.db.begin() as conn:
        conn.execute(text("UPDATE sales SET ended_at = ended_at + interval '2 seconds'"))


def fenced(shop: Shop, sale: SaleUnderTest) -> None:
    sale.client.hset(keys.sale("bf"), "fenced", 1)


@pytest.mark.parametrize("open_end", [undrained, owed, too_early, fenced])
def test_a_sale_with_something_open_stays(
    shop: Shop, old: SaleUnderTest, open_end: Callable[[Shop, SaleUnderTest], None]
) -> None:
    open_end(shop, old)
    before = shop.everything()
    assert sales.retire(shop.db, shop.client) == []
    assert shop.everything() == before


def test_a_live_hold_keeps_its_sale(shop: Shop, old: SaleUnderTest) -> None:
    live_hold(shop, old)
    assert sales.retire(shop.db, shop.client, "late") == []
    late = shop.sale("late", "hat")
    late.pass_ms(61_000)
    late.run(commands.expire("late", ["hat"], 10))
    late.drain(shop.db)
    assert sales.retire(shop.db, shop.client, "late") == ["late"]


def test_a_retirement_that_was_cut_off_goes_on(shop: Shop, old: SaleUnderTest, client: redis.Redis, db: Engine) -> None:
    client.delete(*keys.of_sale("bf", ["sneaker", "sock"]))
    old.products = []
    assert sales.retire(db, client) == ["bf"]
    assert shop.published() == {}
