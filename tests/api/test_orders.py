"""Orders, their payment and their end over HTTP, with the payment stand-in as the provider."""

import json
import time
from typing import Any

import psycopg
import pytest
import redis
import stripe

from engine.settings import Settings
from sandbox.stripe.process import StripeStandIn
from tests.api.server import Shop, check_problem, fields, product


@pytest.fixture
def hold(shop: Shop) -> dict[str, Any]:
    shop.load(product("sock", 5))
    return shop.hold("ann", sock=2)


def _signed(settings: Settings, event: dict[str, Any], at: int | None = None) -> dict[str, Any]:
    payload = json.dumps(event)
    header = stripe.WebhookSignature.generate_signature_header(
        payload, settings.stripe_webhook_secret, timestamp=int(time.time()) if at is None else at
    )
    return {"content": payload.encode(), "headers": {"Stripe-Signature": header}}


def test_an_order_is_what_the_contract_says(shop: Shop, hold: dict[str, Any]) -> None:
    answer = shop.client.post("/v1/orders", json={"hold_id": hold["id"], "metadata": {"cart": "7"}})
    order = answer.json()
    assert answer.status_code == 201
    assert set(order) >= {
        "id", "hold_id", "sale_id", "customer_id", "status",
        "lines", "total", "payment", "amount_refunded", "created_at",
    }  # fmt: skip
    assert order["id"] == hold["id"].replace("hold_", "order_", 1)
    assert (order["status"], order["hold_id"], order["metadata"]) == ("pending_payment", hold["id"], {"cart": "7"})
    assert order["lines"] == [
        {"product_id": "sock", "name": "Sock", "qty": 2, "unit_price": {"amount": 1000, "currency": "usd"}}
    ]
    assert order["total"] == {"amount": 2000, "currency": "usd"}
    assert order["payment"]["provider"] == "stripe"
    assert order["payment"]["status"] == "requires_payment_method"
    assert order["payment"]["client_secret"].startswith(order["payment"]["intent_id"])
    assert shop.client.get(f"/v1/orders/{order['id']}").json() == order
    assert shop.client.get(f"/v1/holds/{hold['id']}").json()["status"] == "paying"


def test_a_second_order_of_a_hold_and_the_same_order_again(shop: Shop, hold: dict[str, Any]) -> None:
    first = shop.order(hold, headers={"Idempotency-Key": "k"})
    again = shop.order(hold, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    for key in ({}, {"Idempotency-Key": "other"}):
        check_problem(shop.order(hold, headers=key), 409, "hold_already_used", order_id=first.json()["id"])
    body = {"hold_id": hold["id"], "metadata": {"a": "b"}}
    answer = shop.client.post("/v1/orders", json=body, headers={"Idempotency-Key": "k"})
    check_problem(answer, 422, "idempotency_mismatch")


def test_a_declined_card_leaves_the_order_payable_with_another(shop: Shop, hold: dict[str, Any]) -> None:
    body = {"hold_id": hold["id"], "payment_method_id": "pm_card_visa_chargeDeclined"}
    problem = check_problem(shop.client.post("/v1/orders", json=body), 402, "card_declined")
    assert problem["decline_code"]
    order_id = hold["id"].replace("hold_", "order_", 1)
    assert shop.client.get(f"/v1/orders/{order_id}").json()["status"] == "pending_payment"
    answer = shop.client.post(f"/v1/orders/{order_id}/pay", json={"payment_method_id": "pm_card_visa"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["payment"]["status"] in ("requires_capture", "succeeded")
    check_problem(
        shop.client.post(f"/v1/orders/{order_id}/pay", json={"payment_method_id": "pm_card_visa"}),
        409,
        "order_not_payable",
    )


def test_cancelling_gives_the_units_back_and_again_is_the_same(shop: Shop, hold: dict[str, Any]) -> None:
    order = shop.order(hold).json()
    first = shop.client.post(f"/v1/orders/{order['id']}/cancel", headers={"Idempotency-Key": "k"})
    assert (first.status_code, first.json()["status"]) == (200, "cancelled")
    again = shop.client.post(f"/v1/orders/{order['id']}/cancel", json={}, headers={"Idempotency-Key": "k"})
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert shop.client.post(f"/v1/orders/{order['id']}/cancel").json()["status"] == "cancelled"
    assert shop.stock("sock") == {"total": 5, "available": 5, "held": 0, "sold": 0}
    check_problem(
        shop.client.post(f"/v1/orders/{order['id']}/pay", json={"payment_method_id": "pm_card_visa"}),
        409,
        "order_not_payable",
    )
    assert fields(
        check_problem(shop.client.post(f"/v1/orders/{order['id']}/cancel", json={"x": 1}), 422, "validation_error")
    ) == ["x"]


@pytest.mark.parametrize("order_id", ["order_bf_AAAAAAAAAAAAAAAAAAAA", "x", "order_%00_AAAAAAAAAAAAAAAAAAAA"])
def test_orders_that_are_not_there(shop: Shop, order_id: str) -> None:
    check_problem(shop.client.get(f"/v1/orders/{order_id}"), 404, "order_not_found")
    check_problem(shop.client.post(f"/v1/orders/{order_id}/cancel"), 404, "order_not_found")
    pay = {"payment_method_id": "pm_card_visa"}
    check_problem(shop.client.post(f"/v1/orders/{order_id}/pay", json=pay), 404, "order_not_found")
    check_problem(shop.admin("POST", f"/v1/admin/orders/{order_id}/refunds"), 404, "order_not_found")


def test_null_is_a_field_left_out(shop: Shop, hold: dict[str, Any]) -> None:
    nulls = dict.fromkeys(("payment_method_id", "payment_customer_id", "metadata"))
    answer = shop.client.post("/v1/orders", json={"hold_id": hold["id"], **nulls})
    assert (answer.status_code, answer.json()["metadata"]) == (201, {})
    refunds = f"/v1/admin/orders/{answer.json()['id']}/refunds"
    nulls = dict.fromkeys(("amount", "reason", "lines", "restock"))
    check_problem(shop.admin("POST", refunds, json=nulls), 409, "order_not_paid")


def test_refunds(shop: Shop, hold: dict[str, Any]) -> None:
    order = shop.order(hold).json()
    refunds = f"/v1/admin/orders/{order['id']}/refunds"
    check_problem(shop.admin("POST", refunds, json={}), 409, "order_not_paid")
    for body, wanted in (
        ({"amount": 0}, ["amount"]), ({"amount": "5"}, ["amount"]), ({"amount": 1.5}, ["amount"]), ({"x": 1}, ["x"]),
        ({"lines": [{"product_id": "sock", "qty": 0}]}, ["lines[0].qty"]), ({"restock": "yes"}, ["restock"]),
        ({"lines": []}, ["lines"]),
    ):  # fmt: skip
        assert fields(check_problem(shop.admin("POST", refunds, json=body), 422, "validation_error")) == wanted, body


def test_an_order_of_a_provider_that_is_away_may_be_asked_for_again(
    shop: Shop, hold: dict[str, Any], stripe_stand_in: StripeStandIn
) -> None:
    stripe_stand_in.kill()
    try:
        answer = shop.order(hold, headers={"Idempotency-Key": "k"})
        check_problem(answer, 502, "payment_provider_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        stripe_stand_in.start()
    answer = shop.order(hold, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["payment"]["intent_id"]


def test_webhooks_are_stored_once_and_wake_the_workers(
    shop: Shop, settings: Settings, redis_client: redis.Redis
) -> None:
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "payment_intent.succeeded",
        "data": {"object": {"id": "pi_1", "object": "payment_intent"}},
    }
    for _ in range(2):
        answer = shop.client.post("/v1/payments/webhook", **_signed(settings, event))
        assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert redis_client.llen("fs:wake:payments") == 1
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT id, status FROM webhook_events").fetchall() == [("evt_1", "stored")]


def test_webhooks_that_are_not_the_providers_store_nothing(shop: Shop, settings: Settings) -> None:
    event = {"id": "evt_1", "type": "x", "data": {"object": {}}}
    good = _signed(settings, event)
    headers = [
        {},
        {"Stripe-Signature": ""},
        {"Stripe-Signature": "t=1,v1=00"},
        {"Stripe-Signature": "é"},
        _signed(settings, event, int(time.time()) - 301)["headers"],
        _signed(settings, event, int(time.time()) + 400)["headers"],
        _signed(settings, event | {"id": "evt_2"})["headers"],
    ]
    for header in headers:
        raw = {name: value.encode() for name, value in header.items()}
        answer = shop.client.post("/v1/payments/webhook", content=good["content"], headers=raw)
        check_problem(answer, 400, "invalid_signature")
    answer = shop.client.post("/v1/payments/webhook", content=b"\xff" + good["content"], headers=good["headers"])
    check_problem(answer, 400, "invalid_signature")
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM webhook_events").fetchone() == (0,)
