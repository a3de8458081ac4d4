"""Lists of sales, and the schema of a sale file."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from api.bodies import FileProductBody, SaleFileBody
from engine.settings import Settings
from persistence import database
from persistence.audit import list_entries
from persistence.saleschema import schema
from tests.api.server import Shop, product


def ids(answer: Any) -> list[str]:
    return [each["id"] for each in answer.json()["data"]]


def load_three(shop: Shop) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    shop.load(product("sneaker", 5))
    shop.load(product("boot", 5), sale_id="a-later", starts_at=ahead)
    shop.load(product("sock", 5), sale_id="over")
    assert shop.admin("POST", "/v1/admin/sales/over/end").status_code == 200


def test_a_shop_is_shown_the_sales_that_have_not_ended(shop: Shop) -> None:
    load_three(shop)
    answer = shop.client.get("/v1/sales")
    assert answer.status_code == 200
    assert [(each["id"], each["status"]) for each in answer.json()["data"]] == [
        ("a-later", "scheduled"),
        ("bf", "live"),
    ]
    assert answer.json()["data"][1] == shop.client.get("/v1/sales/bf").json()
    assert answer.json()["next_cursor"] is None
    assert shop.client.get("/v1/sales", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_a_parameter_without_a_name_is_refused_by_a_field_that_has_one(shop: Shop) -> None:
    answer = shop.client.get("/v1/sales?=&x=1")
    assert [error["field"] for error in answer.json()["errors"]] == ["query", "x"]


def test_operators_see_every_sale_with_its_lag(shop: Shop) -> None:
    load_three(shop)
    answer = shop.admin("GET", "/v1/admin/sales")
    assert [(each["id"], each["status"]) for each in answer.json()["data"]] == [
        ("a-later", "scheduled"), ("bf", "live"), ("over", "ended")]  # fmt: skip
    [_, live, _] = answer.json()["data"]
    whole = shop.admin("GET", "/v1/admin/sales/bf").json()
    assert live == {name: value for name, value in whole.items() if name != "products"}
    assert shop.client.get("/v1/admin/sales").status_code == 401


def test_lists_come_in_pages(shop: Shop) -> None:
    load_three(shop)
    first = shop.client.get("/v1/sales", params={"limit": 1})
    assert ids(first) == ["a-later"]
    second = shop.client.get("/v1/sales", params={"limit": 1, "cursor": first.json()["next_cursor"]})
    assert (ids(second), second.json()["next_cursor"]) == (["bf"], None)
    page, seen = shop.admin("GET", "/v1/admin/sales?limit=1").json(), []
    while True:
        seen += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        page = shop.admin("GET", f"/v1/admin/sales?limit=1&cursor={page['next_cursor']}").json()
    assert seen == ["a-later", "bf", "over"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=!", "cursor=LXg", "colour=red"])
def test_a_parameter_that_cannot_be_used_is_named(shop: Shop, query: str) -> None:
    for answer in (shop.client.get(f"/v1/sales?{query}"), shop.admin("GET", f"/v1/admin/sales?{query}")):
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


def test_the_schema_of_a_sale_file_is_served(shop: Shop) -> None:
    answer = shop.client.get("/schema/sale-file.json")
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json() == schema()


def test_the_schema_has_the_fields_of_the_route_that_takes_a_sale_file() -> None:
    whole = schema()
    products = whole["$defs"]["product"]["properties"]
    assert whole["properties"].keys() == {field.encode_name for field in msgspec.structs.fields(SaleFileBody)}
    assert products.keys() == {field.encode_name for field in msgspec.structs.fields(FileProductBody)}


def test_what_an_operator_did_by_routes_is_in_the_audit(shop: Shop, settings: Settings) -> None:
    shop.load(product("sneaker", 5))
    assert shop.admin("POST", "/v1/admin/sales/bf/pause").status_code == 200
    db = database.connect(settings.database_url, 1)
    entries = list_entries(db, 10)
    db.dispose()
    assert [(each.action, each.detail["by"]) for each in entries] == [("pause", "admin token"), ("load", "admin token")]
