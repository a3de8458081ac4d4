"""The OpenAPI document describes every route, body and problem of the contract, and the answers are as it says."""

import re
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest

from api.app import ROUTES
from api.openapi import document
from engine.shapes import Money
from persistence import salefile
from persistence.refusals import PROBLEMS
from tests.api.server import Shop, product

CONTRACT = {
    "GET /v1/sales",
    "GET /v1/admin/sales",
    "GET /v1/sales/{sale_id}",
    "GET /v1/products",
    "GET /v1/products/{product_id}",
    "POST /v1/holds",
    "GET /v1/holds/{hold_id}",
    "DELETE /v1/holds/{hold_id}",
    "POST /v1/orders",
    "GET /v1/orders/{order_id}",
    "POST /v1/orders/{order_id}/pay",
    "POST /v1/orders/{order_id}/cancel",
    "POST /v1/payments/webhook",
    "PUT /v1/admin/sales/{sale_id}",
    "POST /v1/admin/sales/{sale_id}/pause",
    "POST /v1/admin/sales/{sale_id}/resume",
    "POST /v1/admin/sales/{sale_id}/end",
    "GET /v1/admin/sales/{sale_id}",
    "POST /v1/admin/products/{product_id}/stock",
    "POST /v1/admin/orders/{order_id}/refunds",
    "GET /v1/admin/orders",
    "GET /v1/admin/sales/{sale_id}/reconciliation",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
}

Json = dict[str, Any]


@pytest.fixture(scope="module")
def spec() -> Json:
    found: Json = msgspec.json.decode(document(ROUTES))
    return found


def _operations(spec: Json) -> dict[str, Json]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in spec["paths"].items()
        for method, operation in operations.items()
    }


def _check(spec: Json, schema: Json, value: Any) -> None:
    whole = schema | {"components": spec["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def test_every_route_of_the_contract_is_described(spec: Json) -> None:
    assert set(_operations(spec)) >= CONTRACT
    ids = [operation["operationId"] for operation in _operations(spec).values()]
    assert len(ids) == len(set(ids))


def test_every_problem_of_the_contract_is_answered_by_some_route_and_described(spec: Json) -> None:
    named = set()
    for operation in _operations(spec).values():
        for response in operation["responses"].values():
            named |= set(re.findall(r"`(\w+)`:", response["description"]))
    assert set(PROBLEMS) == named
    problems = [name for name in spec["components"]["schemas"] if name.endswith("Problem")]
    consts = {spec["components"]["schemas"][name]["properties"]["code"]["const"] for name in problems}
    assert consts == set(PROBLEMS)


def test_every_example_is_valid(spec: Json) -> None:
    for name, operation in _operations(spec).items():
        contents = [response.get("content", {}) for response in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for content in contents:
            for media in content.values():
                examples = [each["value"] for each in media.get("examples", {}).values()]
                examples += [media["example"]] if "example" in media else []
                for example in examples:
                    try:
                        _check(spec, media["schema"], example)
                    except jsonschema.ValidationError as error:
                        raise AssertionError(f"{name}: {error.message}") from error


def test_the_bounds_of_a_sale_file_and_of_stock_are_those_of_the_code(spec: Json) -> None:
    schemas = spec["components"]["schemas"]
    sale, item = schemas["SaleFileBody"]["properties"], schemas["FileProductBody"]["properties"]
    assert sale["name"]["maxLength"] == item["name"]["maxLength"] == salefile.NAME_MAX_CHARACTERS
    assert sale["products"]["maxItems"] == salefile.PRODUCTS_MAX
    assert sale["hold_ttl_seconds"]["maximum"] == sale["payment_ttl_seconds"]["maximum"] == salefile.TTL_MAX_SECONDS
    assert item["stock"]["maximum"] == salefile.STOCK_MAX
    assert item["per_customer_limit"]["anyOf"][0]["maximum"] == salefile.LIMIT_MAX
    assert schemas["MoneyBody"]["properties"]["amount"]["maximum"] == salefile.PRICE_MAX
    assert re.search(item["id"]["pattern"], "a.b-c_d")
    assert not re.search(item["id"]["pattern"], "-a")
    delta = schemas["StockBody"]["properties"]["delta"]
    assert (delta["minimum"], delta["maximum"]) == (-salefile.STOCK_MAX, salefile.STOCK_MAX)


def test_what_waits_for_a_thread_says_that_it_may_be_too_much(spec: Json) -> None:
    for route in (
        "GET /v1/sales/{sale_id}", "GET /v1/products", "GET /v1/products/{product_id}", "GET /v1/holds/{hold_id}",
        "DELETE /v1/holds/{hold_id}", "GET /v1/orders/{order_id}", "GET /v1/admin/orders",
    ):  # fmt: skip
        assert "`overloaded`" in _operations(spec)[route]["responses"]["503"]["description"], route
    reconciliation = _operations(spec)["GET /v1/admin/sales/{sale_id}/reconciliation"]["responses"]
    assert "`payment_provider_unavailable`" in reconciliation["502"]["description"]
    health = spec["components"]["schemas"]["Health"]["properties"]["status"]["enum"]
    assert set(health) == {"live", "ready", "degraded", "not_ready", "leaving"}


def test_every_reference_leads_somewhere(spec: Json) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].removeprefix("#/components/schemas/") in spec["components"]["schemas"]
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(spec)
    assert Money.__name__ in spec["components"]["schemas"]


def test_answers_are_as_the_document_says(shop: Shop, spec: Json) -> None:
    served = shop.client.get("/schema/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert served.json() == spec

    def check(route: str, answer: httpx.Response) -> None:
        response = _operations(spec)[route]["responses"][str(answer.status_code)]
        media = response["content"][answer.headers["content-type"]]
        _check(spec, media["schema"], answer.json())

    shop.load(product("sock", 5, per_customer_limit=2))
    hold = shop.hold(sock=1)
    check("POST /v1/holds", shop.ask("bob", sock=1))
    check("POST /v1/holds", shop.ask("ann", sock=2))
    check("POST /v1/holds", shop.ask("ann", sock=200))
    check("POST /v1/holds", shop.ask("ann", nope=1))
    check("GET /v1/holds/{hold_id}", shop.client.get(f"/v1/holds/{hold['id']}"))
    check("GET /v1/products", shop.client.get("/v1/products"))
    check("GET /v1/products/{product_id}", shop.client.get("/v1/products/sock"))
    check("GET /v1/sales", shop.client.get("/v1/sales"))
    check("GET /v1/admin/sales", shop.admin("GET", "/v1/admin/sales"))
    check("GET /v1/sales/{sale_id}", shop.client.get("/v1/sales/bf"))
    check("GET /v1/sales/{sale_id}", shop.client.get("/v1/sales/nope"))
    order = shop.order(hold)
    check("POST /v1/orders", order)
    check("POST /v1/orders", shop.order(hold))
    check("GET /v1/orders/{order_id}", shop.client.get(f"/v1/orders/{order.json()['id']}"))
    check("GET /v1/admin/sales/{sale_id}", shop.admin("GET", "/v1/admin/sales/bf"))
    check("GET /v1/admin/orders", shop.admin("GET", "/v1/admin/orders"))
    check("GET /v1/admin/sales/{sale_id}/reconciliation", shop.admin("GET", "/v1/admin/sales/bf/reconciliation"))
    check("GET /health/ready", shop.client.get("/health/ready"))
    check("POST /v1/orders/{order_id}/cancel", shop.client.post(f"/v1/orders/{order.json()['id']}/cancel"))


def test_a_problems_type_leads_to_what_it_means(shop: Shop) -> None:
    for code, problem in PROBLEMS.items():
        page = shop.client.get(f"/problems/{code}").json()
        assert (page["code"], page["status"]) == (code, problem.status)
    assert shop.client.get("/problems/none").status_code == 404


def test_metrics_have_bounded_labels(shop: Shop) -> None:
    shop.load(product("sock", 1))
    shop.hold(sock=1)
    shop.ask(sock=1)
    for path in ("/v1/products/a", "/v1/products/b", "/made/up", "/made/up/2"):
        shop.client.get(path)
    text = shop.client.get("/metrics").text
    for line in (
        'flashsale_http_responses_total{code="",method="POST",route="/v1/holds",status="201"} 1.0',
        'flashsale_http_responses_total{code="sold_out",method="POST",route="/v1/holds",status="409"} 1.0',
        'total{code="product_not_found",method="GET",route="/v1/products/{product_id}",status="404"} 2.0',
        'flashsale_http_responses_total{code="not_found",method="GET",route="none",status="404"} 2.0',
        "flashsale_hold_batch_size_count 2.0",
    ):
        assert line in text, text
    assert 'flashsale_http_request_duration_seconds_bucket{le="0.001",method="POST",route="/v1/holds"}' in text
