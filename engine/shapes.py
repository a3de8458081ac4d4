"""The shapes that the HTTP contract shows, and how records become them. Times are RFC 3339 UTC; money is in minor
units.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from engine import ids
from engine.records import HoldRecord, ProductState, SaleState


class Money(msgspec.Struct, frozen=True, gc=False):
    """``amount`` in minor units of ``currency`` (ISO 4217, lower case)."""

    amount: int
    currency: str


class HoldLine(msgspec.Struct, frozen=True, gc=False):
    product_id: str
    qty: int
    unit_price: Money


class Hold(msgspec.Struct, frozen=True, gc=False):
    """``expires_at`` is the payment deadline once the hold is in payment."""

    id: str
    sale_id: str
    customer_id: str
    status: str
    lines: list[HoldLine]
    total: Money
    expires_at: str
    created_at: str


class Stock(msgspec.Struct, frozen=True):
    """Units: ``available + held + sold = total``, or the first promise is broken."""

    total: int
    available: int
    held: int
    sold: int


class SaleWindow(msgspec.Struct, frozen=True):
    status: str
    starts_at: str | None
    ends_at: str | None


class Product(msgspec.Struct, frozen=True):
    id: str
    sale_id: str
    name: str
    price: Money
    compare_at_price: Money | None
    stock: Stock
    sale: SaleWindow
    per_customer_limit: int | None


class PublicSale(msgspec.Struct, frozen=True):
    """A sale as a shop shows it."""

    id: str
    name: str
    status: str
    starts_at: str | None
    ends_at: str | None


class Drain(msgspec.Struct, frozen=True):
    """How far Postgres follows Redis: event numbers, and the age of what is not drained yet."""

    seq: int
    drained_seq: int
    lag_seconds: float


class Sale(msgspec.Struct, frozen=True):
    """A sale as its operators see it."""

    id: str
    name: str
    status: str
    fenced: bool
    starts_at: str | None
    ends_at: str | None
    products: list[Product]
    drain: Drain


class SaleSummary(msgspec.Struct, frozen=True):
    """A sale in a list of operators, without its products."""

    id: str
    name: str
    status: str
    fenced: bool
    starts_at: str | None
    ends_at: str | None
    drain: Drain


class OrderLine(msgspec.Struct, frozen=True):
    product_id: str
    name: str
    qty: int
    unit_price: Money


class Payment(msgspec.Struct, frozen=True):
    """``status`` in Stripe's words; the intent is null until the provider has made it."""

    provider: str
    intent_id: str | None
    client_secret: str | None
    status: str


class Order(msgspec.Struct, frozen=True):
    id: str
    hold_id: str
    sale_id: str
    customer_id: str
    status: str
    lines: list[OrderLine]
    total: Money
    payment: Payment
    amount_refunded: Money
    metadata: dict[str, str]
    created_at: str


class ReturnedLine(msgspec.Struct, frozen=True):
    product_id: str
    qty: int


class Refund(msgspec.Struct, frozen=True):
    id: str
    order_id: str
    amount: Money
    status: str
    reason: str | None
    lines: list[ReturnedLine]
    restocked: bool
    created_at: str


class OrderChange(msgspec.Struct, frozen=True):
    cursor: str
    order: Order
    changed_at: str


def rfc3339(moment: datetime) -> str:
    """``2026-11-27T08:00:00.123Z``; whole seconds without a fraction."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds" if moment.microsecond >= 1000 else "seconds")
    return text.removesuffix("+00:00") + "Z"


def rfc3339_ms(ms: int) -> str:
    second, rest = divmod(ms, 1000)
    return f"{_second(second)}.{rest:03d}Z" if rest else f"{_second(second)}Z"


@lru_cache(1024)  # holds that are made together name the same seconds
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def datetime_ms(ms: int) -> datetime:
    """Milliseconds since 1970 as a moment."""
    seconds, rest = divmod(ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def to_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def hold(sale_id: str, token: str, record: HoldRecord, now_ms: int) -> Hold:
    """A hold as it reads at ``now_ms``."""
    return _hold(sale_id, token, record, record.status_at(now_ms), record.pay_by_ms or record.expires_ms)


def first_hold(sale_id: str, token: str, record: HoldRecord) -> Hold:
    """The same hold as it was first answered, which is what a replay gives again."""
    return _hold(sale_id, token, record, "held", record.expires_ms)


def _hold(sale_id: str, token: str, record: HoldRecord, status: str, expires_ms: int) -> Hold:
    return Hold(
        id=ids.hold_id(sale_id, token),
        sale_id=sale_id,
        customer_id=record.customer,
        status=status,
        lines=[HoldLine(line.product, line.qty, Money(line.unit_price, record.currency)) for line in record.lines],
        total=Money(record.total, record.currency),
        expires_at=rfc3339_ms(expires_ms),
        created_at=rfc3339_ms(record.created_ms),
    )


def _moment(ms: int) -> str | None:
    return rfc3339_ms(ms) if ms else None


def product(sale: SaleState, state: ProductState, now_ms: int) -> Product:
    return Product(
        id=state.id,
        sale_id=sale.id,
        name=state.name,
        price=Money(state.price, state.currency),
        compare_at_price=Money(state.compare_at, state.currency) if state.compare_at else None,
        stock=Stock(state.total, state.available, state.held, state.sold),
        sale=SaleWindow(sale.status_at(now_ms), _moment(sale.starts_ms), _moment(sale.ends_ms)),
        per_customer_limit=state.limit or None,
    )


def public_sale(sale: SaleState, now_ms: int) -> PublicSale:
    return PublicSale(sale.id, sale.name, sale.status_at(now_ms), _moment(sale.starts_ms), _moment(sale.ends_ms))


def sale(state: SaleState, products: Iterable[ProductState], now_ms: int, drain: Drain) -> Sale:
    return Sale(
        id=state.id,
        name=state.name,
        status=state.status_at(now_ms),
        fenced=state.fenced,
        starts_at=_moment(state.starts_ms),
        ends_at=_moment(state.ends_ms),
        products=[product(state, each, now_ms) for each in products],
        drain=drain,
    )


def summary(state: SaleState, now_ms: int, drain: Drain) -> SaleSummary:
    window = _moment(state.starts_ms), _moment(state.ends_ms)
    return SaleSummary(state.id, state.name, state.status_at(now_ms), state.fenced, *window, drain)


encode = msgspec.json.Encoder().encode


def builtins(shape: Any) -> Any:
    """A shape as dicts and lists, for JSON columns."""
    return msgspec.to_builtins(shape)
