"""Each promise's figure is zero while it is kept, and tells of the breach when somebody breaks it by hand."""

import time

import pytest
import redis
from sqlalchemy import Engine, text

from engine import commands, keys
from persistence import promises, sales
from persistence.drift import Promise
from persistence.salefile import parse
from tests.sales import SaleUnderTest

FILE = b"""{"id": "bf", "name": "Black Friday", "products": [
    {"id": "sneaker", "name": "Sneaker", "price": {"amount": 1000, "currency": "usd"}, "stock": 9},
    {"id": "sock", "name": "Sock", "price": {"amount": 1000, "currency": "usd"}, "stock": 9}]}"""
KEPT = dict.fromkeys(promises.PROMISES, 0)
GRACE_SECONDS = 60


@pytest.fixture
def sale(db: Engine, client: redis.Redis) -> SaleUnderTest:
    """One with every kind of hold, and of order."""
    sales.load_sale(db, client, parse(FILE, format="json"))
    sale = SaleUnderTest(client, products=["sneaker", "sock"])
    sale.hold("ann", sneaker=1, sock=1)
    sale.checkout(sale.hold("bob", sneaker=1))
    sale.pay("carl", sneaker=2)
    sale.run(commands.restock(sale.id, sale.pay("dora", sneaker=2), "refund-1", [("sneaker", 1)]))
    sale.run(commands.release(sale.id, sale.hold("erik", sock=2), sale.products))
    sale.run(commands.adjust(sale.id, "sock", -2, "damp", "command-1"))
    sale.drain(db)
    execute(db, "UPDATE payments SET status = 'succeeded', captured = amount, due = NULL, due_at = NULL")
    execute(db, "UPDATE payments SET updated_at = now() - interval '1 hour'")
    assert look(db, client) == KEPT
    return sale


def execute(db: Engine, *queries: str) -> None:
    with db.begin() as conn:
        for query in queries:
            conn.execute(text(query))


def look(db: Engine, client: redis.Redis) -> dict[Promise, int]:
    return promises.read(db, client, now_seconds=time.time(), grace_seconds=GRACE_SECONDS)


def broken(db: Engine, client: redis.Redis) -> dict[Promise, int]:
    return {promise: number for promise, number in look(db, client).items() if number}


def tokens(client: redis.Redis, key: str) -> list[str]:
    return [token.decode() for token, _ in client.zscan_iter(key)]


def test_a_counter_that_was_raised_by_hand(db: Engine, client: redis.Redis, sale: SaleUnderTest) -> None:
    client.hincrby(keys.stock(sale.id), "sneaker:available", 5)
    assert broken(db, client) == {"never_oversold": 1}
    client.hset(keys.stock(sale.id), "sock:held", "many")
    assert broken(db, client) == {"never_oversold": 2}


def test_more_held_and_sold_in_postgres_than_there_is(db: Engine, client: redis.Redis, sale: SaleUnderTest) -> None:
    execute(db, "UPDATE products SET held = total WHERE id = 'sneaker'")
    assert broken(db, client) == {"never_oversold": 1, "once": 1}


@pytest.mark.parametrize(
    "query",
    [
        "UPDATE orders SET status = 'cancelled' WHERE customer_id = 'carl'",
        """UPDATE payments SET status = 'requires_capture', captured = 0
            WHERE order_id = (SELECT id FROM orders WHERE customer_id = 'carl')""",
    ],
    ids=["captured money of a cancelled order", "money of a paid order that nobody will capture"],
)
def test_money_that_fits_no_order(db: Engine, client: redis.Redis, sale: SaleUnderTest, query: str) -> None:
    execute(db, query)
    assert broken(db, client) == {"no_money_without_a_thing": 1}
    execute(db, "UPDATE payments SET due = 'void', due_at = now()")
    assert broken(db, client) == {}, "it is on its way back"


def test_holds_that_nobody_ends(db: Engine, client: redis.Redis, sale: SaleUnderTest) -> None:
    late = int((time.time() - promises.LATE_SECONDS - 1) * 1000)
    [token] = tokens(client, keys.deadlines(sale.id, "sock"))
    client.zadd(keys.deadlines(sale.id, "sock"), {token: late})
    assert broken(db, client) == {"no_stranded_stock": 1}
    [token] = tokens(client, keys.payments(sale.id))
    client.zadd(keys.payments(sale.id), {token: late})
    assert broken(db, client) == {"no_stranded_stock": 1}, "a silent provider may delay it"
    client.zadd(keys.payments(sale.id), {token: late - GRACE_SECONDS * 1000})
    assert broken(db, client) == {"no_stranded_stock": 2}


def test_a_movement_that_counted_twice(db: Engine, client: redis.Redis, sale: SaleUnderTest) -> None:
    execute(db, "UPDATE products SET sold = sold + 1 WHERE id = 'sneaker'")
    assert broken(db, client) == {"once": 1}


def test_more_refunded_than_was_captured(db: Engine, client: redis.Redis, sale: SaleUnderTest) -> None:
    twice = """INSERT INTO refunds (id, order_id, amount, status, due, created_at)
               SELECT orders.id || n, orders.id, total, 'succeeded', false, now() - interval '1 hour'
                 FROM orders, generate_series(1, 2) n WHERE customer_id = 'carl'"""
    execute(db, twice)
    assert broken(db, client) == {"once": 1}


def test_a_sale_that_redis_does_not_have_sells_nothing(db: Engine, client: redis.Redis, sale: SaleUnderTest) -> None:
    client.flushdb()
    assert look(db, client) == KEPT
