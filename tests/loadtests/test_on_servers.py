"""The bench's own pieces on real servers: breaches are seen, and what we compare with does what it says."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from engine import keys
from engine.commands import LoadItem
from loadtests import invariants, peer_postgres
from loadtests.fill import fill
from loadtests.lag import LagSampler, by_second
from loadtests.serving import served
from persistence import database
from tests.sales import SaleUnderTest


@pytest.fixture
def db(database_url: str) -> Iterator[Engine]:
    engine = database.connect(database_url)
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO sales (id, name, hold_ttl_ms, payment_ttl_ms) VALUES ('bf', '', 1, 1)"))
        conn.execute(text("INSERT INTO cursors (sale_id) VALUES ('bf')"))
    yield engine
    engine.dispose()


def test_a_filled_sale_keeps_every_promise_and_a_breach_is_seen(db: Engine, sale: SaleUnderTest) -> None:
    sale.load_items([LoadItem("sock", "Sock", 1000, 0, "usd", 700, 2)])
    with LagSampler(db, sale.id) as sampler:
        fill(sale.client, sale.id, "sock", 600, batch=256)
        sale.drain(db)
        time.sleep(0.05)
    lags = sampler.lag_seconds()
    assert len(lags) == 600
    assert 0 <= max(lags) < 60
    assert by_second(sampler.lags())[0][0] == 0.0
    assert invariants.redis_counters(sale.client, sale.id) == []
    assert invariants.stores_agree(sale.client, db, sale.id) == []

    with db.connect() as conn:
        named = list(conn.execute(text("SELECT id FROM holds")).scalars())
    assert invariants.holds_exist(sale.client, db, sale.id, named) == []
    assert len(invariants.holds_exist(sale.client, db, sale.id, [*named, "hold_bf_" + "x" * 20])) == 2
    assert invariants.holds_exist(sale.client, db, sale.id, [named[0], named[0]]) == ["two answers named one hold"]

    sale.client.hincrby(keys.stock(sale.id), "sock:available", 1)
    assert len(invariants.redis_counters(sale.client, sale.id)) == 1
    sale.client.hincrby(keys.stock(sale.id), "sock:held", -1)
    assert len(invariants.stores_agree(sale.client, db, sale.id)) == 1
    sale.client.hincrby(keys.stock(sale.id), "sock:available", -1)
    sale.client.hincrby(keys.stock(sale.id), "sock:held", 1)


def test_a_hold_that_is_refused_is_told(sale: SaleUnderTest) -> None:
    sale.load(sock=5)
    with pytest.raises(RuntimeError, match="only 5 of 6"):
        fill(sale.client, sale.id, "sock", 6)


def ask(port: int, method: str, path: str, body: object = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.slow
def test_the_yardstick_does_nothing_but_answer(tmp_path: Path) -> None:
    wanted = {"customer_id": "ann", "product_id": "sock", "qty": 1}
    with served("loadtests.yardstick", tmp_path, processes=1) as port:
        assert ask(port, "POST", "/typed", wanted) == 201
        assert ask(port, "GET", "/typed/sock") == 200
        assert ask(port, "POST", "/raw", wanted) == 200
    with pytest.raises(OSError, match="refused"):
        ask(port, "GET", "/raw")


@pytest.mark.slow
def test_the_peer_on_postgres_sells_what_it_has_and_no_more(tmp_path: Path, database_url: str, db: Engine) -> None:
    with db.begin() as conn:
        conn.exec_driver_sql(peer_postgres.SCHEMA)
        conn.exec_driver_sql("INSERT INTO peer.products VALUES ('hot', 1900, 'usd', 3, 3)")
    env = {"PEER_DATABASE_URL": database_url, "PEER_CONNECTIONS": "2"}
    with served("loadtests.peer_postgres", tmp_path, processes=1, env=env, probe="/health") as port:
        statuses = [
            ask(port, "POST", "/v1/holds", {"customer_id": f"c{n}", "product_id": "hot", "qty": 1}) for n in range(5)
        ]
        assert ask(port, "POST", "/v1/holds", {"customer_id": "c", "product_id": "hot", "qty": 0}) == 422
    assert statuses == [201, 201, 201, 409, 409]
    with db.connect() as conn:
        assert conn.exec_driver_sql("SELECT available FROM peer.products").scalar_one() == 0
        assert conn.exec_driver_sql("SELECT count(*) FROM peer.holds").scalar_one() == 3
