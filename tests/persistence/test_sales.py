"""The life of a sale: a product is in one sale at a time, the same file again changes nothing, and stock never falls
below what is promised.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import redis
from sqlalchemy import Engine, text

from engine import keys
from engine.shapes import Money, Stock
from persistence import sales
from persistence.refusals import Refusal
from persistence.salefile import FileProduct, SaleFile
from tests.sales import SaleUnderTest


def product(product_id: str, stock: int = 5, **changes: Any) -> FileProduct:
    made = FileProduct(product_id, product_id.title(), Money(1000, "usd"), None, stock, None)
    return msgspec.structs.replace(made, **changes)


def file(sale_id: str, *products: FileProduct, **changes: Any) -> SaleFile:
    return msgspec.structs.replace(SaleFile(sale_id, sale_id.upper(), None, None, 60, 120, products), **changes)


@pytest.fixture
def shop(db: Engine, client: redis.Redis) -> "Shop":
    return Shop(db, client)


class Shop:
    def __init__(self, db: Engine, client: redis.Redis) -> None:
        self.db, self.client = db, client

    def load(self, wanted: SaleFile) -> sales.LoadResult:
        return sales.load_sale(self.db, self.client, wanted)

    def refuse(self, wanted: SaleFile) -> Refusal:
        """A load that must be refused and must change nothing."""
        before = self.everything()
        with pytest.raises(Refusal) as raised:
            self.load(wanted)
        assert self.everything() == before
        return raised.value

    def set_state(self, sale_id: str, verb: sales.Verb) -> str:
        return sales.set_state(self.db, self.client, sale_id, verb).status

    def adjust(self, product_id: str, delta: int, command: str = "c1", reason: str = "found") -> Stock:
        return sales.adjust_stock(self.db, self.client, product_id, delta, reason, command).stock

    def sale(self, sale_id: str, *products: str) -> SaleUnderTest:
        return SaleUnderTest(self.client, sale_id, products=list(products))

    def rows(self, query: str) -> list[Any]:
        with self.db.connect() as conn:
            return [tuple(row) for row in conn.execute(text(query))]

    def published(self) -> dict[Any, Any]:
        return self.client.hgetall(keys.PRODUCTS)

    def everything(self) -> Any:
        tables = ("sales", "claims", "cursors", "products", "ledger", "audit")
        in_postgres = [self.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]
        return in_postgres, {key: self.client.dump(key) for key in self.client.keys("*")}


def test_a_loaded_sale_is_everywhere(shop: Shop) -> None:
    result = shop.load(
        file("bf", product("sneaker", 5, per_customer_limit=2), product("sock", 9, compare_at_price=Money(2000, "usd")))
    )

    assert result.changed
    assert (result.sale.id, result.sale.status, result.sale.fenced) == ("bf", "live", False)
    assert [(p.id, p.stock.available, p.per_customer_limit) for p in result.sale.products] == [
        ("sneaker", 5, 2),
        ("sock", 9, None),
    ]
    assert result.sale.products[1].compare_at_price == Money(2000, "usd")
    assert (result.sale.drain.seq, result.sale.drain.drained_seq, result.sale.drain.lag_seconds) == (1, 1, 0.0)
    assert shop.published() == {b"sneaker": b"bf", b"sock": b"bf"}
    assert shop.rows("SELECT id, total, loaded, per_customer_limit FROM products ORDER BY id") == [
        ("sneaker", 5, 5, 2),
        ("sock", 9, 9, None),
    ]
    assert shop.rows("SELECT action, subject FROM audit") == [("load", "bf")]


def test_the_same_file_again_changes_nothing_whatever_was_adjusted(shop: Shop) -> None:
    starts_at = datetime(2026, 1, 1, tzinfo=UTC)
    wanted = file("bf", product("sneaker", 5), starts_at=starts_at, ends_at=datetime(2999, 1, 1, tzinfo=UTC))
    shop.load(wanted)
    shop.adjust("sneaker", 3)
    before = shop.everything()

    again = shop.load(wanted)

    assert not again.changed
    assert again.sale.products[0].stock == Stock(8, 8, 0, 0)
    assert shop.everything() == before


def test_a_file_changes_stock_by_its_difference_and_the_window_at_once(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker", 5)))
    shop.adjust("sneaker", -2)
    ends_at = datetime(2030, 1, 1, tzinfo=UTC)
    result = shop.load(file("bf", product("sneaker", 7, price=Money(900, "usd")), product("hat", 1), ends_at=ends_at))

    assert [(p.id, p.stock.total, p.price.amount) for p in result.sale.products] == [
        ("hat", 1, 1000),
        ("sneaker", 5, 900),
    ]
    assert result.sale.ends_at == "2030-01-01T00:00:00Z"
    assert shop.rows("SELECT ends_at FROM sales") == [(ends_at,)]
    assert shop.rows("SELECT rev, price FROM labels WHERE product_id = 'sneaker' ORDER BY rev") == [(1, 1000), (2, 900)]
    assert shop.published() == {b"sneaker": b"bf", b"hat": b"bf"}


def test_stock_below_what_is_promised_is_refused_with_the_figures(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker", 5), product("sock", 5)))
    sale = shop.sale("bf", "sneaker", "sock")
    sale.hold("ann", sneaker=1)
    sale.pay("bob", sneaker=2)
    sales.load_sale(shop.db, shop.client, file("bf", product("sneaker", 5)))

    refusal = shop.refuse(file("bf", product("sock", 4), product("sneaker", 2), product("hat", 1)))
    assert (refusal.code, refusal.status) == ("stock_below_committed", 409)
    assert refusal.extra == {"product_id": "sneaker", "total": 2, "held": 1, "sold": 2}
    with pytest.raises(Refusal) as raised:
        shop.adjust("sneaker", -3)
    assert raised.value.extra == {"product_id": "sneaker", "total": 2, "held": 1, "sold": 2}
    assert shop.adjust("sneaker", -2) == Stock(3, 0, 1, 2)


def test_a_product_is_in_one_sale_that_has_not_ended(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker"), product("sock")))
    refusal = shop.refuse(file("cyber", product("hat"), product("sock"), product("sneaker")))
    assert (refusal.code, refusal.status) == ("product_in_other_sale", 409)
    assert refusal.extra == {"product_id": "sock", "sale_id": "bf"}
    shop.set_state("bf", "pause")
    assert shop.refuse(file("cyber", product("sock"))).code == "product_in_other_sale"

    shop.set_state("bf", "end")
    shop.load(file("cyber", product("sock", 7)))

    assert shop.published() == {b"sneaker": b"bf", b"sock": b"cyber"}
    assert shop.refuse(file("bf", product("sneaker"), product("sock"))).extra["sale_id"] == "cyber"
    assert shop.load(file("bf", product("sneaker", 6))).changed
    assert sales.show_sale(shop.db, shop.client, "cyber").products[0].stock.total == 7


def test_a_sale_that_ran_out_gives_its_products_free(shop: Shop) -> None:
    ended = file("bf", product("sneaker"), ends_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert shop.load(ended).sale.status == "ended"
    shop.load(file("cyber", product("sneaker")))

    longer = msgspec.structs.replace(ended, ends_at=datetime(2999, 1, 1, tzinfo=UTC))
    assert shop.refuse(longer).extra == {"product_id": "sneaker", "sale_id": "cyber"}
    assert shop.published() == {b"sneaker": b"cyber"}


def test_people_pause_resume_and_end_a_sale(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker")))
    assert shop.set_state("bf", "pause") == "paused"
    assert shop.set_state("bf", "pause") == "paused"
    assert shop.set_state("bf", "resume") == "live"
    assert shop.set_state("bf", "end") == "ended"
    assert shop.set_state("bf", "end") == "ended"
    for verb in ("pause", "resume"):
        with pytest.raises(Refusal) as raised:
            shop.set_state("bf", verb)
        assert (raised.value.code, raised.value.status) == ("sale_ended", 410)

    assert shop.rows("SELECT state, ended_at IS NOT NULL FROM sales") == [("ended", True)]
    assert [row[0] for row in shop.rows("SELECT action FROM audit ORDER BY id")] == ["load", "pause", "resume", "end"]
    assert [event.kind for event in shop.sale("bf").events()] == ["loaded", "state", "state", "state"]


def test_a_sale_that_ran_out_is_not_paused(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker"), ends_at=datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(Refusal, match="has ended"):
        shop.set_state("bf", "pause")
    assert shop.set_state("bf", "end") == "ended"


def test_what_does_not_exist_is_not_found(shop: Shop) -> None:
    with pytest.raises(Refusal) as raised:
        shop.set_state("nope", "pause")
    assert (raised.value.code, raised.value.status) == ("sale_not_found", 404)
    with pytest.raises(Refusal) as raised:
        shop.adjust("nope", 1)
    assert (raised.value.code, raised.value.status) == ("product_not_found", 404)


def test_an_adjustment_happens_once_for_each_command(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker")))
    assert shop.adjust("sneaker", 3, "c1").total == 8
    assert shop.adjust("sneaker", 3, "c1").total == 8
    assert shop.adjust("sneaker", -1, "c2").total == 7

    assert shop.rows(
        "SELECT qty, from_counter, to_counter, reason FROM ledger WHERE kind = 'adjusted' ORDER BY id"
    ) == [
        (3, None, "available", "found"),
        (1, "available", None, "found"),
    ]
    assert shop.rows("SELECT count(*) FROM audit WHERE action = 'adjust'") == [(2,)]


@pytest.mark.parametrize(("delta", "reason"), [(0, "x"), (10_000_001, "x"), (1, " "), (1, "x" * 501), (1, "a\0b")])
def test_an_adjustment_that_says_nothing_is_refused(shop: Shop, delta: int, reason: str) -> None:
    shop.load(file("bf", product("sneaker")))
    with pytest.raises(Refusal) as raised:
        shop.adjust("sneaker", delta, reason=reason)
    assert raised.value.code == "validation_error"
    assert [error["field"] for error in raised.value.extra["errors"]] == ["reason" if delta == 1 else "delta"]


@pytest.mark.parametrize("lost", [True, False])
def test_a_sale_that_redis_lost_or_that_is_fenced_is_not_loaded_anew(shop: Shop, lost: bool) -> None:
    shop.load(file("bf", product("sneaker")))
    if lost:
        shop.client.flushdb()
    else:
        shop.client.hset(keys.sale("bf"), "fenced", 1)

    refusal = shop.refuse(file("bf", product("sneaker", 6), product("hat")))
    assert (refusal.code, refusal.status) == ("sale_unavailable", 503)
    assert refusal.retry_after
    for change in (lambda: shop.set_state("bf", "pause"), lambda: shop.adjust("sneaker", 1)):
        with pytest.raises(Refusal) as raised:
            change()
        assert raised.value.code == "sale_unavailable"
    shown = sales.show_sale(shop.db, shop.client, "bf")
    assert (shown.status, shown.fenced, shown.products[0].stock) == ("live", True, Stock(5, 5, 0, 0))


def test_a_load_that_was_cut_off_after_redis_goes_on(shop: Shop) -> None:
    wanted = file("bf", product("sneaker"))
    shop.load(wanted)
    with shop.db.begin() as conn:
        for table in ("claims", "cursors", "ledger", "labels", "products", "audit", "sales"):
            conn.execute(text(f"DELETE FROM {table}"))
    shop.client.delete(keys.PRODUCTS)

    assert not shop.load(wanted).changed
    assert shop.rows("SELECT total FROM products") == [(5,)]
    assert shop.published() == {b"sneaker": b"bf"}


def test_a_listed_sale_says_how_far_postgres_follows(shop: Shop) -> None:
    shop.load(file("bf", product("sneaker")))
    shop.load(file("cyber", product("sock")))
    sale = shop.sale("bf", "sneaker")
    sale.hold("ann", sneaker=1)
    sale.hold("bob", sneaker=1)
    sale.pass_ms(5000)

    listed = sales.list_sales(shop.db, shop.client)

    assert [each.id for each in listed] == ["cyber", "bf"]
    drain = listed[1].drain
    assert (drain.seq, drain.drained_seq) == (3, 1)
    assert 5 <= drain.lag_seconds < 60
    assert listed[1].products[0].stock == Stock(5, 3, 2, 0)
