"""What is sold in the demo, and what each customer sets out to do. The same seed gives the same plan."""

import random
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

HOLD_TTL_SECONDS = 5
"""Short, so that abandoned holds are seen to come back."""
PAYMENT_TTL_SECONDS = 30
LIMIT = 2


class Temper(StrEnum):
    """What a customer does once it has a hold."""

    PAYS = "pays"
    ABANDONS = "abandons"
    RELEASES = "releases"
    CANCELS = "cancels"
    DECLINED_FIRST = "declined first"
    """The first card is declined, the second one pays."""
    CLICKS_TWICE = "clicks twice"
    """The same request twice at once, with one Idempotency-Key; then pays."""


_TEMPERS = {
    Temper.PAYS: 62,
    Temper.ABANDONS: 14,
    Temper.RELEASES: 4,
    Temper.CANCELS: 6,
    Temper.DECLINED_FIRST: 9,
    Temper.CLICKS_TWICE: 5,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One customer. ``lines`` as (product, quantity); times in seconds."""

    customer_id: str
    temper: Temper
    lines: tuple[tuple[str, int], ...]
    arrives: float
    thinks: float
    patience: int
    """How often it comes back after ``sold_out``."""


@dataclass(frozen=True, slots=True)
class Sale:
    """The sale's file, and the stock of each product."""

    id: str
    file: dict[str, Any]
    stock: dict[str, int]


_GOODS = (
    ("sneaker-42", "Sneaker 42", 12_900, 50),
    ("jacket-m", "Rain jacket M", 24_900, 30),
    ("cap", "Cap", 2_900, 20),
)
"""Id, name, price in cents, share of the stock in percent."""


def make_sale(stock: int) -> Sale:
    """A sale of ``stock`` units in all. Its ids are new: the servers may be somebody's own."""
    mark = secrets.token_hex(3)
    shares = [stock * share // 100 for *_, share in _GOODS]
    shares[0] += stock - sum(shares)
    goods = [
        (f"{name}-{mark}", title, price, units) for (name, title, price, _), units in zip(_GOODS, shares, strict=True)
    ]
    products = [
        {
            "id": product_id,
            "name": title,
            "price": {"amount": price, "currency": "usd"},
            "compare_at_price": {"amount": price * 3 // 2, "currency": "usd"},
            "stock": units,
            "per_customer_limit": LIMIT,
        }
        for product_id, title, price, units in goods
    ]
    file = {
        "id": f"demo-{mark}",
        "name": "Demo sale",
        "hold_ttl_seconds": HOLD_TTL_SECONDS,
        "payment_ttl_seconds": PAYMENT_TTL_SECONDS,
        "products": products,
    }
    return Sale(f"demo-{mark}", file, {product_id: units for product_id, _, _, units in goods})


def make_plans(sale: Sale, customers: int, seed: int) -> list[Plan]:
    chance = random.Random(seed)  # noqa: S311 - a story, no secret
    products = list(sale.stock)
    weights = [max(units, 1) for units in sale.stock.values()]
    plans = []
    for number in range(customers):
        wanted = dict.fromkeys(chance.choices(products, weights, k=2 if chance.random() < 0.12 else 1))
        plans.append(
            Plan(
                customer_id=f"customer-{number:05d}",
                temper=chance.choices(list(_TEMPERS), list(_TEMPERS.values()))[0],
                lines=tuple((product, 2 if chance.random() < 0.15 else 1) for product in wanted),
                arrives=chance.random() ** 2 * 0.5,
                thinks=0.05 + chance.random() * 0.8,
                patience=chance.randint(0, 3),
            )
        )
    return plans
