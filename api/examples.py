"""One sale, told in examples: what the OpenAPI document shows of each shape."""

from typing import Any, Final

TOKEN: Final = "Zk3vQ0bq7Xw2T9mLr5Ya"  # noqa: S105 - an example
SALE_ID: Final = "black-friday"
PRODUCT_ID: Final = "sneaker-42"
HOLD_ID: Final = f"hold_{SALE_ID}_{TOKEN}"
ORDER_ID: Final = f"order_{SALE_ID}_{TOKEN}"

Json = dict[str, Any]


def _money(amount: int) -> Json:
    return {"amount": amount, "currency": "usd"}


PUBLIC_SALE: Final[Json] = {
    "id": SALE_ID,
    "name": "Black Friday",
    "status": "live",
    "starts_at": "2026-11-27T08:00:00Z",
    "ends_at": "2026-11-28T00:00:00Z",
}
PRODUCT: Final[Json] = {
    "id": PRODUCT_ID,
    "sale_id": SALE_ID,
    "name": "Sneaker 42",
    "price": _money(12900),
    "compare_at_price": _money(19900),
    "stock": {"total": 500, "available": 321, "held": 40, "sold": 139},
    "sale": {"status": "live", "starts_at": "2026-11-27T08:00:00Z", "ends_at": "2026-11-28T00:00:00Z"},
    "per_customer_limit": 2,
}
PRODUCTS: Final[Json] = {"data": [PRODUCT], "next_cursor": None}
SALE: Final[Json] = {
    **PUBLIC_SALE,
    "fenced": False,
    "products": [PRODUCT],
    "drain": {"seq": 1042, "drained_seq": 1040, "lag_seconds": 0.004},
}
SALE_SUMMARY: Final[Json] = {name: value for name, value in SALE.items() if name != "products"}
HOLD: Final[Json] = {
    "id": HOLD_ID,
    "sale_id": SALE_ID,
    "customer_id": "customer-7",
    "status": "held",
    "lines": [{"product_id": PRODUCT_ID, "qty": 1, "unit_price": _money(12900)}],
    "total": _money(12900),
    "expires_at": "2026-11-27T08:02:03.412Z",
    "created_at": "2026-11-27T08:00:03.412Z",
}
ORDER: Final[Json] = {
    "id": ORDER_ID,
    "hold_id": HOLD_ID,
    "sale_id": SALE_ID,
    "customer_id": "customer-7",
    "status": "pending_payment",
    "lines": [{"product_id": PRODUCT_ID, "name": "Sneaker 42", "qty": 1, "unit_price": _money(12900)}],
    "total": _money(12900),
    "payment": {
        "provider": "stripe",
        "intent_id": "pi_3PqT0bLkdIwHu7ix0vN1a2Bc",
        "client_secret": "pi_3PqT0bLkdIwHu7ix0vN1a2Bc_secret_9xYz",
        "status": "requires_payment_method",
    },
    "amount_refunded": _money(0),
    "metadata": {"cart": "8812"},
    "created_at": "2026-11-27T08:00:40.020Z",
}
PAID_ORDER: Final[Json] = {**ORDER, "status": "paid", "payment": {**ORDER["payment"], "status": "succeeded"}}
CANCELLED_ORDER: Final[Json] = {**ORDER, "status": "cancelled", "payment": {**ORDER["payment"], "status": "canceled"}}
REFUND: Final[Json] = {
    "id": f"refund_{SALE_ID}_Qm8cV1nB4kT6wX0zJ2hS",
    "order_id": ORDER_ID,
    "amount": _money(12900),
    "status": "succeeded",
    "reason": "arrived broken",
    "lines": [{"product_id": PRODUCT_ID, "qty": 1}],
    "restocked": False,
    "created_at": "2026-12-01T10:12:00Z",
}
CHANGES: Final[Json] = {
    "data": [{"cursor": "17", "order": PAID_ORDER, "changed_at": "2026-11-27T08:01:02.100Z"}],
    "next": "17",
}
REPORT: Final[Json] = {
    "sale_id": SALE_ID,
    "consistent": False,
    "seq": 1042,
    "checked_at": "2026-11-27T09:00:00Z",
    "drift": [
        {
            "promise": "never_oversold",
            "kind": "product",
            "id": PRODUCT_ID,
            "field": "available",
            "redis": 320,
            "postgres": 321,
            "stripe": None,
        }
    ],
}
SALE_FILE: Final[Json] = {
    "id": SALE_ID,
    "name": "Black Friday",
    "starts_at": "2026-11-27T08:00:00Z",
    "ends_at": "2026-11-28T00:00:00Z",
    "hold_ttl_seconds": 120,
    "payment_ttl_seconds": 300,
    "products": [
        {
            "id": PRODUCT_ID,
            "name": "Sneaker 42",
            "price": _money(12900),
            "compare_at_price": _money(19900),
            "stock": 500,
            "per_customer_limit": 2,
        }
    ],
}
READY: Final[Json] = {"status": "ready", "checks": {"redis": "ok", "postgres": "ok"}}
EVENT: Final[Json] = {
    "id": "evt_1PqT0bLkdIwHu7ix",
    "object": "event",
    "type": "payment_intent.amount_capturable_updated",
    "data": {"object": {"id": "pi_3PqT0bLkdIwHu7ix0vN1a2Bc", "object": "payment_intent"}},
}

EXTRAS: Final[dict[str, Json]] = {
    "validation_error": {"errors": [{"field": "lines[0].qty", "message": "Expected `int` <= 99"}]},
    "sold_out": {"product_id": PRODUCT_ID, "available": 0, "held": 40},
    "limit_exceeded": {"product_id": PRODUCT_ID, "limit": 2, "held_or_bought": 2, "hold_ids": [HOLD_ID]},
    "sale_not_started": {"starts_at": "2026-11-27T08:00:00Z"},
    "hold_in_payment": {"order_id": ORDER_ID},
    "hold_already_used": {"order_id": ORDER_ID},
    "order_not_cancellable": {"payment_status": "succeeded", "reason": "payment_captured"},
    "order_not_payable": {"reason": "order_cancelled", "order_status": "cancelled", "payment_status": "canceled"},
    "order_not_paid": {"order_status": "pending_payment", "payment_status": "requires_payment_method"},
    "refund_exceeds_payment": {
        "amount": 12900,
        "currency": "usd",
        "captured": 12900,
        "refunded": 8000,
        "refundable": 4900,
    },
    "stock_below_committed": {"product_id": PRODUCT_ID, "total": 100, "held": 40, "sold": 139},
    "product_in_other_sale": {"product_id": PRODUCT_ID, "sale_id": "cyber-monday"},
    "card_declined": {"decline_code": "insufficient_funds"},
    "internal_error": {"request_id": "5f0c9a1b2c3d-1a"},
}
"""What a problem of each code also carries."""
