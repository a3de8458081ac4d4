"""What a shop shows: sales, products, pages."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx
import psycopg
import redis

from engine import keys
from engine.settings import Settings
from tests.api.server import Shop, check_problem, product, serving


def test_a_sale_as_a_shop_shows_it(shop: Shop) -> None:
    shop.load(product("sock", 1), starts_at="2020-01-01T00:00:00Z", ends_at="2099-01-01T00:00:00Z")
    assert shop.client.get("/v1/sales/bf").json() == {
        "id": "bf",
        "name": "Black Friday",
        "status": "live",
        "starts_at": "2020-01-01T00:00:00Z",
        "ends_at": "2099-01-01T00:00:00Z",
    }
    for name in ("nope", "a%20b", "%00"):
        check_problem(shop.client.get(f"/v1/sales/{name}"), 404, "sale_not_found")


def test_a_product_with_its_live_stock(shop: Shop) -> None:
    money = {"amount": 19900, "currency": "usd"}
    shop.load(product("shoe", 5, compare_at_price=money, per_customer_limit=2))
    shop.hold(shoe=2)
    assert shop.client.get("/v1/products/shoe").json() == {
        "id": "shoe",
        "sale_id": "bf",
        "name": "Shoe",
        "price": {"amount": 1000, "currency": "usd"},
        "compare_at_price": money,
        "stock": {"total": 5, "available": 3, "held": 2, "sold": 0},
        "sale": {"status": "live", "starts_at": None, "ends_at": None},
        "per_customer_limit": 2,
    }
    for name in ("nope", "a%20b", "%00", "x" * 65):
        check_problem(shop.client.get(f"/v1/products/{name}"), 404, "product_not_found")


def test_pages_of_products_show_each_once(shop: Shop) -> None:
    shop.load(*(product(f"p{number:03}", 1) for number in range(120)), sale_id="one")
    shop.load(product("a", 1), product("z", 1), sale_id="two")
    names = [f"p{number:03}" for number in range(120)]

    def walk(**params: str) -> tuple[list[str], list[int]]:
        found, sizes = [], []
        while True:
            page = shop.client.get("/v1/products", params=params).json()
            found += [each["id"] for each in page["data"]]
            sizes.append(len(page["data"]))
            if page["next_cursor"] is None:
                return found, sizes
            params["cursor"] = page["next_cursor"]

    assert walk() == (["a", *names, "z"], [50, 50, 22])
    assert walk(sale_id="one", limit="100") == (names, [100, 20])
    assert walk(sale_id="two", limit="2") == (["a", "z"], [2])
    assert walk(sale_id="two", limit="1") == (["a", "z"], [1, 1])
    check_problem(shop.client.get("/v1/products", params={"sale_id": "nope"}), 404, "sale_not_found")


def test_no_sale_is_an_empty_page(shop: Shop) -> None:
    assert shop.client.get("/v1/products").json() == {"data": [], "next_cursor": None}


def test_a_retired_sale_reads_as_ended_from_postgres(shop: Shop, settings: Settings, redis_client: redis.Redis) -> None:
    shop.load(product("sock", 3), ends_at="2099-01-01T00:00:00Z")
    shop.steer("end")
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("UPDATE sales SET retired_at = %s", [datetime.now(UTC)])
    redis_client.flushdb()

    found = shop.client.get("/v1/products/sock").json()
    assert (found["sale_id"], found["stock"]) == ("bf", {"total": 3, "available": 3, "held": 0, "sold": 0})
    assert found["sale"] == {"status": "ended", "starts_at": None, "ends_at": "2099-01-01T00:00:00Z"}
    assert shop.client.get("/v1/sales/bf").json()["status"] == "ended"
    assert shop.client.get("/v1/products", params={"sale_id": "bf"}).json()["data"] == [found]
    check_problem(shop.ask(sock=1), 410, "sale_ended")
    check_problem(shop.ask(sock=1), 410, "sale_ended")
    redis_client.hset(keys.PRODUCTS, "sock", "bf")
    check_problem(shop.ask(sock=1), 410, "sale_ended")


def test_an_answer_that_the_client_has_is_not_sent_again(shop: Shop) -> None:
    shop.load(product("shoe", 5))
    for path in ("/v1/products/shoe", "/v1/products?sale_id=bf", "/v1/sales/bf"):
        first = shop.client.get(path)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = shop.client.get(path, headers={"If-None-Match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert shop.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        assert shop.client.head(path).headers["etag"] == tag
    before = shop.client.get("/v1/products/shoe").headers["etag"]
    shop.hold(shoe=1)
    changed = shop.client.get("/v1/products/shoe", headers={"If-None-Match": before})
    assert (changed.status_code, changed.json()["stock"]["available"]) == (200, 4)


def test_stock_is_never_staler_than_configured(settings: Settings) -> None:
    with (
        serving(replace(settings, product_stale_ms=60_000)) as url,
        httpx.Client(base_url=url, timeout=15) as client,
    ):
        shop = Shop(client)
        shop.load(product("shoe", 5))
        first = client.get("/v1/products/shoe")
        shop.hold(shoe=1)
        again = client.get("/v1/products/shoe")
        assert again.json() == first.json()
        kept, left = (int(each.headers["cache-control"].removeprefix("public, max-age=")) for each in (first, again))
        assert 0 < left <= kept < 60
        known = client.get("/v1/products/shoe", headers={"If-None-Match": first.headers["etag"]})
        assert known.status_code == 304
