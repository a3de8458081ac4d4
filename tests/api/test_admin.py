"""Operators' routes: tokens, loading, steering, stock, the orders feed, reconciliation; and the shop's token."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
import structlog

from engine.settings import Settings
from tests.api.server import ADMIN_TOKEN, Shop, check_problem, fields, product, serving

ADMIN_ROUTES = [
    ("PUT", "/v1/admin/sales/bf"), ("GET", "/v1/admin/sales/bf"), ("POST", "/v1/admin/sales/bf/pause"),
    ("POST", "/v1/admin/sales/bf/resume"), ("POST", "/v1/admin/sales/bf/end"),
    ("POST", "/v1/admin/products/sock/stock"), ("POST", "/v1/admin/orders/x/refunds"), ("GET", "/v1/admin/orders"),
    ("GET", "/v1/admin/sales/bf/reconciliation"),
]  # fmt: skip
SHOP_ROUTES = [
    ("POST", "/v1/holds"), ("GET", "/v1/holds/x"), ("DELETE", "/v1/holds/x"), ("POST", "/v1/orders"),
    ("GET", "/v1/orders/x"), ("POST", "/v1/orders/x/pay"), ("POST", "/v1/orders/x/cancel"),
]  # fmt: skip


def _check_guarded(client: httpx.Client, routes: list[tuple[str, str]]) -> None:
    for method, path in routes:
        for header in (
            {},
            {"Authorization": "Basic YTpi"},
            {"Authorization": "Bearer"},
            {"Authorization": ADMIN_TOKEN},
        ):
            answer = client.request(method, path, headers=header)
            check_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        for token in (b"wrong", b"\xff\xfe", ADMIN_TOKEN.encode() + b"x", ADMIN_TOKEN[:-1].encode()):
            raw = {b"Authorization": b"Bearer " + token}
            check_problem(client.request(method, path, headers=raw), 403, "forbidden")


def test_admin_routes_want_the_admin_token(shop: Shop) -> None:
    _check_guarded(shop.client, ADMIN_ROUTES)
    answer = shop.client.get("/v1/admin/orders", headers={"Authorization": f"bearer  {ADMIN_TOKEN}"})
    assert answer.status_code == 200


def test_where_no_admin_token_is_set_all_are_refused(settings: Settings) -> None:
    with serving(replace(settings, admin_token="")) as url, httpx.Client(base_url=url) as client:
        _check_guarded(client, ADMIN_ROUTES[:2])


def test_where_a_shop_token_is_set_holds_and_orders_want_it(settings: Settings) -> None:
    with serving(replace(settings, shop_token="shop-s3cret")) as url, httpx.Client(base_url=url) as client:
        _check_guarded(client, SHOP_ROUTES)
        assert client.get("/v1/products").status_code == 200
        Shop(client).load(product("sock", 1))
        client.headers["Authorization"] = "Bearer shop-s3cret"
        assert Shop(client).hold(sock=1)["status"] == "held"


@pytest.mark.parametrize(("token", "said"), [("", 1), ("shop-s3cret", 0)])
def test_the_log_says_once_at_the_start_that_holds_and_orders_are_open(
    settings: Settings, token: str, said: int
) -> None:
    with structlog.testing.capture_logs() as lines, serving(replace(settings, shop_token=token)) as url:
        httpx.get(f"{url}/health/live")
    found = [line for line in lines if line["event"] == "holds_and_orders_are_open"]
    assert len(found) == said
    assert all(line["log_level"] == "warning" and "FLASHSALE_SHOP_TOKEN" in line["why"] for line in found)


def test_a_loaded_sale_with_its_live_counters(shop: Shop) -> None:
    loaded = shop.load(product("sock", 5))
    assert loaded == shop.load(product("sock", 5)), "the same file again changes nothing"
    shop.hold(sock=2)
    sale = shop.admin("GET", "/v1/admin/sales/bf").json()
    assert (sale["id"], sale["name"], sale["status"], sale["fenced"]) == ("bf", "Black Friday", "live", False)
    assert sale["products"][0]["stock"] == {"total": 5, "available": 3, "held": 2, "sold": 0}
    assert set(sale["drain"]) == {"seq", "drained_seq", "lag_seconds"}
    assert sale["drain"]["seq"] == 2
    check_problem(shop.admin("GET", "/v1/admin/sales/nope"), 404, "sale_not_found")
    check_problem(shop.admin("GET", "/v1/admin/sales/%00"), 404, "sale_not_found")


@pytest.mark.parametrize("start", ["", '"id": "bf", '])
def test_a_field_given_twice_is_refused_with_and_without_an_id(shop: Shop, start: str) -> None:
    body = (
        f'{{{start}"name": "One", "name": "Two", "products": [{{"id": "sock", "name": "Sock", '
        '"price": {"amount": 1, "currency": "usd"}, "stock": 5, "stock": 500}]}'
    )
    answer = shop.admin("PUT", "/v1/admin/sales/bf", content=body, headers={"Content-Type": "application/json"})
    assert fields(check_problem(answer, 422, "validation_error")) == ["name", "products[0].stock"]
    check_problem(shop.client.get("/v1/sales/bf"), 404, "sale_not_found")


def test_the_path_says_which_sale_it_is(shop: Shop) -> None:
    file = {"name": "Sale", "products": [product("sock", 5)]}
    assert shop.admin("PUT", "/v1/admin/sales/bf", json=file).json()["id"] == "bf"
    answer = shop.admin("PUT", "/v1/admin/sales/bf", json={"id": "other"} | file)
    assert fields(check_problem(answer, 422, "validation_error")) == ["id"]
    answer = shop.admin("PUT", "/v1/admin/sales/a%20b", json=file)
    assert fields(check_problem(answer, 422, "validation_error")) == ["id"]


def test_malformed_sale_files_name_each_field(shop: Shop) -> None:
    def put(file: Any, **more: Any) -> httpx.Response:
        return shop.admin("PUT", "/v1/admin/sales/bf", **({"json": file} | more))

    bad = product("sock", -1, price={"amount": "5", "currency": "USD"}, colour="red")
    body = check_problem(put({"name": "", "products": [bad], "x": 1}), 422, "validation_error")
    assert fields(body) == [
        "name", "products[0].colour", "products[0].price.amount",
        "products[0].price.currency", "products[0].stock", "x",
    ]  # fmt: skip
    assert check_problem(put([]), 422, "validation_error")["errors"]
    check_problem(put(None, content=b"{", headers={"Content-Type": "application/json"}), 400, "validation_error")
    check_problem(put({"name": "N\0", "products": [product("sock", 1)]}), 422, "validation_error")
    check_problem(shop.client.get("/v1/sales/bf"), 404, "sale_not_found")


def test_loads_that_are_refused(shop: Shop) -> None:
    shop.load(product("sock", 5))
    shop.hold(sock=3)
    file = {"name": "Black Friday", "products": [product("sock", 2)]}
    check_problem(shop.admin("PUT", "/v1/admin/sales/bf", json=file), 409, "stock_below_committed", product_id="sock")
    answer = shop.admin("PUT", "/v1/admin/sales/other", json=file)
    check_problem(answer, 409, "product_in_other_sale", product_id="sock", sale_id="bf")


def test_steering_a_sale(shop: Shop) -> None:
    shop.load(product("sock", 5))
    for verb, status in (("pause", "paused"), ("resume", "live"), ("end", "ended"), ("end", "ended")):
        answer = shop.admin("POST", f"/v1/admin/sales/bf/{verb}")
        assert (answer.status_code, answer.json()["status"]) == (200, status)
    check_problem(shop.admin("POST", "/v1/admin/sales/bf/resume"), 410, "sale_ended")
    check_problem(shop.admin("POST", "/v1/admin/sales/nope/pause"), 404, "sale_not_found")
    answer = shop.admin("POST", "/v1/admin/sales/bf/pause", json={"why": "?"})
    assert fields(check_problem(answer, 422, "validation_error")) == ["why"]


def test_the_same_key_steers_once(shop: Shop) -> None:
    shop.load(product("sock", 5))
    key = {"Idempotency-Key": "k"}
    first = shop.admin("POST", "/v1/admin/sales/bf/pause", headers=key)
    shop.steer("resume")
    again = shop.admin("POST", "/v1/admin/sales/bf/pause", headers=key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert shop.client.get("/v1/sales/bf").json()["status"] == "live"
    assert shop.admin("POST", "/v1/admin/sales/bf/end", headers=key).json()["status"] == "ended", "another route"


def test_adjusting_stock_once_for_each_key(shop: Shop) -> None:
    shop.load(product("sock", 5))
    path, body = "/v1/admin/products/sock/stock", {"delta": 3, "reason": "found"}
    first = shop.admin("POST", path, json=body, headers={"Idempotency-Key": "k"})
    again = shop.admin("POST", path, json=body, headers={"Idempotency-Key": "k"})
    assert first.json()["stock"]["total"] == 8
    assert (again.status_code, again.content) == (200, first.content)
    answer = shop.admin("POST", path, json=body | {"delta": 4}, headers={"Idempotency-Key": "k"})
    check_problem(answer, 422, "idempotency_mismatch")
    assert shop.admin("POST", path, json=body).json()["stock"]["total"] == 11
    shop.hold(sock=6)
    answer = shop.admin("POST", path, json={"delta": -6, "reason": "lost"})
    check_problem(answer, 409, "stock_below_committed", product_id="sock", held=6, sold=0)
    assert shop.stock("sock")["total"] == 11


def test_adjustments_that_are_refused(shop: Shop) -> None:
    shop.load(product("sock", 5))
    path = "/v1/admin/products/sock/stock"
    for body, wanted in (
        ({}, ["delta", "reason"]), ({"delta": 0, "reason": "x"}, ["delta"]), ({"delta": "1", "reason": "x"}, ["delta"]),
        ({"delta": True, "reason": "x"}, ["delta"]), ({"delta": 1.0, "reason": "x"}, ["delta"]),
        ({"delta": 10**20, "reason": "x"}, ["delta"]), ({"delta": 1, "reason": ""}, ["reason"]),
        ({"delta": 1, "reason": "a\0"}, ["reason"]), ({"delta": 1, "reason": "x", "y": 1}, ["y"]),
    ):  # fmt: skip
        assert fields(check_problem(shop.admin("POST", path, json=body), 422, "validation_error")) == wanted, body
    for name in ("nope", "%00", "a%20b"):
        answer = shop.admin("POST", f"/v1/admin/products/{name}/stock", json={"delta": 1, "reason": "x"})
        check_problem(answer, 404, "product_not_found")


def test_the_orders_feed_is_followed_without_a_gap(shop: Shop) -> None:
    shop.load(product("sock", 5))
    assert shop.admin("GET", "/v1/admin/orders").json() == {"data": [], "next": "0"}
    orders = [shop.order(shop.hold(f"c{number}", sock=1)).json()["id"] for number in range(3)]
    seen, after = [], "0"
    while page := shop.admin("GET", "/v1/admin/orders", params={"after": after, "limit": "2"}).json()["data"]:
        seen += page
        after = page[-1]["cursor"]
    assert [change["cursor"] for change in seen] == [str(number) for number in range(1, len(seen) + 1)]
    assert {change["order"]["id"] for change in seen} == set(orders)
    last = shop.admin("GET", "/v1/admin/orders", params={"after": after}).json()
    assert last == {"data": [], "next": after}


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"after": "-1"}, {"after": "9" * 30}, {"limit": "0"}, {"limit": "1001"}]
)
def test_cursors_of_the_feed_that_are_none(shop: Shop, query: dict[str, str]) -> None:
    answer = shop.admin("GET", "/v1/admin/orders", params=query)
    assert fields(check_problem(answer, 422, "validation_error")) == list(query)


def test_the_reconciliation_of_a_sale(shop: Shop) -> None:
    shop.load(product("sock", 5))
    shop.hold(sock=1)
    report = shop.admin("GET", "/v1/admin/sales/bf/reconciliation").json()
    assert (report["sale_id"], report["consistent"], report["seq"], report["drift"]) == ("bf", True, 2, [])
    assert report["checked_at"].endswith("Z")
    check_problem(shop.admin("GET", "/v1/admin/sales/nope/reconciliation"), 404, "sale_not_found")
