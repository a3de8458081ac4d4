"""Bad input: the contract's code with the field at fault, nothing changed, and never a 500."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.server import Shop, check_problem, fields, product

LINE = {"product_id": "sock", "qty": 1}
KEY = "Idempotency-Key"


@pytest.fixture
def shop(shop: Shop) -> Iterator[Shop]:
    shop.load(product("sock", 1000))
    yield shop
    assert shop.stock("sock")["held"] == 0, "a refused request took something"


def _with(**fields: Any) -> dict[str, Any]:
    return {"customer_id": "ann", "lines": [LINE]} | fields


def _line(**fields: Any) -> dict[str, Any]:
    return _with(lines=[LINE | fields])


def test_hold_bodies_of_the_wrong_shape(shop: Shop) -> None:
    cases: list[tuple[Any, list[str]]] = [
        ([], ["body"]),
        ("text", ["body"]),
        (7, ["body"]),
        ({}, ["customer_id", "lines"]),
        (_line(qty=0), ["lines[0].qty"]),
        (_line(qty=-1), ["lines[0].qty"]),
        (_line(qty=100), ["lines[0].qty"]),
        (_line(qty=10**30), ["lines[0].qty"]),
        (_line(qty=True), ["lines[0].qty"]),
        (_line(qty=1.0), ["lines[0].qty"]),
        (_line(qty=1.5), ["lines[0].qty"]),
        (_line(qty="1"), ["lines[0].qty"]),
        (_line(qty=None), ["lines[0].qty"]),
        (_line(qty=[1]), ["lines[0].qty"]),
        (_line(product_id=7), ["lines[0].product_id"]),
        (_line(product_id=""), ["lines[0].product_id"]),
        (_line(product_id="so\0ck"), ["lines[0].product_id"]),
        (_line(colour="red"), ["lines[0].colour"]),
        (_with(lines=[]), ["lines"]),
        (_with(lines={}), ["lines"]),
        (_with(lines=None), ["lines"]),
        (_with(lines=[LINE] * 21), ["lines"]),
        (_with(lines=[LINE, 5]), ["lines[1]"]),
        (_with(lines=[{}]), ["lines[0].product_id", "lines[0].qty"]),
        (_with(customer_id=""), ["customer_id"]),
        (_with(customer_id="a" * 129), ["customer_id"]),
        (_with(customer_id="a\0b"), ["customer_id"]),
        (_with(customer_id=5), ["customer_id"]),
        (_with(customer_id=None), ["customer_id"]),
        *((_with(customer_id=odd), ["customer_id"]) for odd in (" ", " ann", "ann ", "ann\n", "\u00a0ann", "ann\u3000",
          "a\tb", "a\x1b[31mb", "a\x7fb", "a\u0085b", "a\u2028b", "a\x1fb")),
        (_with(discount=50), ["discount"]),
        (_with(product_id="sock"), ["product_id"]),
        (_with(product_id="sock", qty=1), ["product_id", "qty"]),
        ({"customer_id": "ann", "product_id": "sock"}, ["qty"]),
        ({"customer_id": "ann", "qty": 1}, ["product_id"]),
        ({"customer_id": "ann", "product_id": "sock", "qty": "1"}, ["qty"]),
        ({"customer_id": 1, "lines": [{"product_id": "sock", "qty": 0}, {"qty": 1}], "x": 1},
         ["customer_id", "lines[0].qty", "lines[1].product_id", "x"]),
    ]  # fmt: skip
    for body, wanted in cases:
        answer = shop.client.post("/v1/holds", json=body)
        assert fields(check_problem(answer, 422, "validation_error")) == wanted, body


def test_bodies_that_are_no_json(shop: Shop) -> None:
    good = json.dumps(_with()).encode()
    for raw in (
        b"", b"{", b"nonsense", good + b"x", b"\xef\xbb\xbf" + good, good.replace(b"ann", b"\xff\xfe"),
        good.replace(b"ann", b"\\ud800"), good.replace(b"ann", b"a\x00n"), b"[" * 60_000, b'{"a":' * 10_000,
        good.replace(b'"qty": 1', b'"qty": NaN'), good.replace(b'"qty": 1', b'"qty": 0x1'),
    ):  # fmt: skip
        answer = shop.client.post("/v1/holds", content=raw, headers={"Content-Type": "application/json"})
        check_problem(answer, 400, "validation_error")


def test_content_types(shop: Shop) -> None:
    good = json.dumps(_with(customer_id="")).encode()
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "",
        "application/json-patch+json",
    ):
        answer = shop.client.post("/v1/holds", content=good, headers={"Content-Type": kind})
        check_problem(answer, 415, "unsupported_media_type")
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        answer = shop.client.post("/v1/holds", content=good, headers={"Content-Type": kind})
        check_problem(answer, 422, "validation_error")


def test_bodies_that_are_too_large(shop: Shop) -> None:
    headers = {"Content-Type": "application/json"}
    padded = json.dumps(_with(customer_id="")).encode().ljust(64 * 1024)
    check_problem(shop.client.post("/v1/holds", content=padded, headers=headers), 422, "validation_error")
    check_problem(shop.client.post("/v1/holds", content=padded + b" ", headers=headers), 413, "body_too_large")
    check_problem(shop.client.post("/v1/holds", content=b" " * 10_000_000, headers=headers), 413, "body_too_large")

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    for path in ("/v1/holds", "/v1/orders", "/v1/payments/webhook"):
        check_problem(shop.client.post(path, content=chunks(), headers=headers), 413, "body_too_large")
    check_problem(shop.client.get("/v1/products/none"), 404, "product_not_found")


def test_idempotency_keys(shop: Shop) -> None:
    for key in ("", "k" * 256, "k" * 300):
        answer = shop.client.post("/v1/holds", json=_with(), headers={KEY: key})
        assert fields(check_problem(answer, 422, "validation_error")) == [KEY]
        answer = shop.client.post("/v1/orders", json={"hold_id": "hold_x"}, headers={KEY: key})
        assert fields(check_problem(answer, 422, "validation_error")) == [KEY]
    answer = shop.client.post("/v1/holds", json=_with(), headers={KEY: "k" * 255})
    assert answer.status_code == 201
    shop.client.delete(f"/v1/holds/{answer.json()['id']}")


def test_order_bodies(shop: Shop) -> None:
    hold = {"hold_id": "hold_bf_AAAAAAAAAAAAAAAAAAAA"}
    cases: list[tuple[Any, list[str]]] = [
        ({}, ["hold_id"]),
        ({"hold_id": 5}, ["hold_id"]),
        (hold | {"amount": 1}, ["amount"]),
        (hold | {"payment_method_id": ""}, ["payment_method_id"]),
        (hold | {"metadata": []}, ["metadata"]),
        (hold | {"metadata": {"k": 1}}, ["metadata.k"]),
        (hold | {"metadata": {"k" * 41: "v"}}, ["metadata." + "k" * 40]),
        (hold | {"metadata": {"k": "v" * 501}}, ["metadata.k"]),
        (hold | {"metadata": {"k": "v\0"}}, ["metadata.k"]),
        (hold | {"metadata": {str(i): "" for i in range(21)}}, ["metadata"]),
    ]
    for body, wanted in cases:
        answer = shop.client.post("/v1/orders", json=body)
        assert fields(check_problem(answer, 422, "validation_error")) == wanted, body
    check_problem(shop.client.post("/v1/orders", json=hold), 404, "hold_not_found")
    check_problem(shop.client.post("/v1/orders", json={"hold_id": "x"}), 404, "hold_not_found")


def test_paths_that_are_no_route_and_methods_that_are_none(shop: Shop) -> None:
    client = shop.client
    for path in ("/v1", "/v1/nope", "/v1/holds/a/b", "/v2/holds", "/schema", "/schema/swagger", "/%00", "/é"):
        check_problem(client.get(path), 404, "not_found")
    for method, path, allow in (
        ("GET", "/v1/holds", "POST"), ("PUT", "/v1/holds", "POST"), ("POST", "/v1/products", "GET"),
        ("DELETE", "/v1/orders/x", "GET"), ("PATCH", "/v1/admin/sales/x", "PUT"),
    ):  # fmt: skip
        answer = client.request(method, path)
        check_problem(answer, 405, "method_not_allowed")
        assert allow in answer.headers["allow"]
    answer = client.request("BREW", "/v1/holds")
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")


def test_head_and_options(shop: Shop) -> None:
    head, get = shop.client.head("/v1/products/sock"), shop.client.get("/v1/products/sock")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert shop.client.head("/v1/products/nope").status_code == 404
    for path, allow in (
        ("/v1/holds", {"POST"}), ("/v1/holds/x", {"GET", "HEAD", "DELETE"}), ("/v1/products/sock", {"GET", "HEAD"}),
        ("/v1/admin/sales/bf", {"GET", "HEAD", "PUT"}),
    ):  # fmt: skip
        answer = shop.client.options(path)
        assert answer.status_code == 204
        assert set(answer.headers["allow"].split(", ")) == {"OPTIONS", *allow}
        assert "content-length" not in answer.headers
        refused = shop.client.patch(path)
        assert set(refused.headers["allow"].split(", ")) == {"OPTIONS", *allow}


def test_limits_and_cursors(shop: Shop) -> None:
    for limit in ("0", "101", "-1", "ten", "1.0", "٣", "99999999999999999999"):
        answer = shop.client.get("/v1/products", params={"limit": limit})
        assert fields(check_problem(answer, 422, "validation_error")) == ["limit"]
    for cursor in ("!", "%%%", "AA", "é", "YQ==="):
        answer = shop.client.get("/v1/products", params={"cursor": cursor})
        if cursor != "YQ===":
            assert fields(check_problem(answer, 422, "validation_error")) == ["cursor"]


def test_request_ids(shop: Shop) -> None:
    sent = "shop-7/4:a_b.c"
    assert shop.client.get("/health/live", headers={"X-Request-Id": sent}).headers["x-request-id"] == sent
    for odd in ("a b", "x" * 200, '"<script>'):
        assert shop.client.get("/health/live", headers={"X-Request-Id": odd}).headers["x-request-id"] != odd
    ids = {shop.client.get("/health/live").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_headers_that_are_too_large_are_refused(shop: Shop) -> None:
    answer = shop.client.get("/health/live", headers={"X-Padding": "x" * 20_000})
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert shop.client.get("/health/live", headers={"X-Padding": "x" * 10_000}).status_code == 200
