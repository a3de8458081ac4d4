"""The other people of a sale, and what Redis says of it."""

from dataclasses import dataclass
from typing import Any

import httpx
import redis

from engine import keys

COUNTERS = ("total", "available", "held", "sold")


@dataclass
class Shop:
    """Speaks to the API as others do, and looks into Redis past it."""

    client: httpx.Client
    redis: redis.Redis
    admin_token: str

    def load(self, sale_id: str, stock: dict[str, int], **more: Any) -> None:
        products = [
            {"id": each, "name": each.title(), "price": {"amount": 12900, "currency": "usd"}, "stock": units}
            for each, units in stock.items()
        ]
        file = {"name": sale_id.title(), "products": products, "hold_ttl_seconds": 600} | more
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        answer = self.client.put(f"/v1/admin/sales/{sale_id}", json=file, headers=headers)
        assert answer.status_code == 200, answer.text

    def hold(self, customer: str, product: str, qty: int = 1) -> str:
        body = {"customer_id": customer, "product_id": product, "qty": qty}
        answer = self.client.post("/v1/holds", json=body)
        assert answer.status_code == 201, answer.text
        hold_id: str = answer.json()["id"]
        return hold_id

    def buy(self, customer: str, product: str, qty: int = 1) -> None:
        body = {"hold_id": self.hold(customer, product, qty), "payment_method_id": "pm_card_visa"}
        assert self.client.post("/v1/orders", json=body).status_code == 201

    def release(self, hold_id: str) -> None:
        assert self.client.delete(f"/v1/holds/{hold_id}").status_code == 200

    def counters(self, sale_id: str, product: str) -> dict[str, int]:
        """What Redis says."""
        values: Any = self.redis.hmget(keys.stock(sale_id), [f"{product}:{name}" for name in COUNTERS])
        return {name: int(value) for name, value in zip(COUNTERS, values, strict=True)}

    def state(self, sale_id: str) -> str:
        state: Any = self.redis.hget(keys.sale(sale_id), "state")
        return str(state)
