"""The sale that Locust's crowd comes to, and where its users find the shop and the payment provider."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from engine import shapes
from sandbox.stack import find_running_stack

SALE: Final = "loadtest"
SNEAKER: Final = "loadtest-sneaker"
"""What everybody came for: too few, one each."""
SOCKS: Final = "loadtest-socks"
"""Enough for all who pay or abandon."""
POSTER: Final = "loadtest-poster"
"""Sold out from the first moment on."""
STOCK: Final = {SNEAKER: 300, SOCKS: 50_000, POSTER: 1}
LIMITS: Final = {SNEAKER: 1, SOCKS: 5, POSTER: 1}


def sale_document(*, opens_in_seconds: float = 5.0) -> dict[str, Any]:
    """A sale file; holds are short, so that abandoned units come back within the run."""
    starts_at = datetime.now(UTC) + timedelta(seconds=opens_in_seconds)
    return {
        "id": SALE,
        "name": "Load test",
        "starts_at": shapes.rfc3339(starts_at),
        "hold_ttl_seconds": 5,
        "payment_ttl_seconds": 15,
        "products": [
            {
                "id": product,
                "name": product,
                "price": {"amount": 1900, "currency": "usd"},
                "stock": stock,
                "per_customer_limit": LIMITS[product],
            }
            for product, stock in STOCK.items()
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``LOADTEST_STRIPE_URL`` and so on, else those of the ``flashsale up`` that runs here. Without ``stripe_url``
    nothing is confirmed at the provider; with ``orders`` holds are ordered and paid by a saved card instead.
    ``scarce``, ``plenty`` and ``gone`` are products, and ``shop_token`` is sent with holds and orders.
    """

    stripe_url: str = ""
    publishable_key: str = ""
    webhook_secret: str = ""
    shop_token: str = ""
    orders: str = ""
    scarce: str = SNEAKER
    plenty: str = SOCKS
    gone: str = POSTER

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Self:
        named = {field.name: environ.get(f"LOADTEST_{field.name.upper()}", "") for field in fields(cls)}
        named["shop_token"] = named["shop_token"] or environ.get("FLASHSALE_SHOP_TOKEN", "")
        given = {name: value for name, value in named.items() if value}
        if {"stripe_url", "publishable_key", "webhook_secret"} <= given.keys() or "scarce" in given:
            return cls(**given)
        stack = find_running_stack(environ, cwd or Path.cwd())
        if stack is None:
            return cls(**given)
        own = {name: given[name] for name in ("shop_token", "orders") if name in given}
        return cls(
            **own,
            stripe_url=stack.stripe_api_base,
            publishable_key=stack.stripe_secret_key.replace("sk_", "pk_", 1),
            webhook_secret=stack.stripe_webhook_secret,
        )

    @property
    def sells(self) -> bool:
        """Whether holds become orders."""
        return bool(self.stripe_url or self.orders)

    def environment(self) -> dict[str, str]:
        return {f"LOADTEST_{name.upper()}": value for name, value in asdict(self).items()}
