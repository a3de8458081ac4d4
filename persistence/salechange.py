"""What a sale file would change, and what about it looks like a mistake."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Engine, Row, select

from engine import commands
from engine.command import Client, run
from engine.shapes import Money, rfc3339
from persistence.database import reading
from persistence.salefile import FileProduct, SaleFile
from persistence.sales import below_committed, put_away, refuse_claimed
from persistence.tables import products, sales

HOLD_TTL_SHORT_SECONDS: Final = 30
PAYMENT_TTL_SHORT_SECONDS: Final = 60
TTL_LONG_SECONDS: Final = 3600
WINDOW_SHORT: Final = timedelta(minutes=5)
FAR: Final = timedelta(days=366)
PAST: Final = timedelta(days=1)
"""How long ago a new sale may have started without a warning."""


class Change(msgspec.Struct, frozen=True):
    """A field of the file, as ``name`` or ``products[sneaker].price``, and its values. ``before`` is null where the
    product or the sale is new.
    """

    field: str
    before: Any
    after: Any


class Warn(msgspec.Struct, frozen=True):
    """Something that is allowed, and may be a mistake. ``field`` as in a fault of the file."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field} {self.message}"


class Difference(msgspec.Struct, frozen=True):
    """``new``: the sale was not loaded before. ``unnamed``: products of the sale that the file leaves out."""

    sale_id: str
    new: bool
    changes: list[Change]
    unnamed: list[str]
    warnings: list[Warn]


def check(db: Engine, redis: Client, file: SaleFile) -> None:
    """Raises ``Refusal`` where a load of ``file`` would be refused. Changes nothing."""
    shown = run(redis, commands.show(file.id))
    with reading(db) as conn:
        if conn.scalar(select(sales.c.retired_at).where(sales.c.id == file.id)) is not None:
            raise put_away(file.id)
        refuse_claimed(conn, file)
        # Each load is in Postgres before it is answered; the counters may be ahead in Redis.
        before = dict(conn.execute(select(products.c.id, products.c.loaded).where(products.c.sale_id == file.id)).all())
    for product in file.products:
        state = shown.products.get(product.id)
        if state is None:
            continue
        total = state.total + product.stock - before.get(product.id, 0)
        if total < state.held + state.sold:
            raise below_committed(product.id, total, state.held, state.sold)


def compare(db: Engine, file: SaleFile, now: datetime | None = None) -> Difference:
    """What a load of ``file`` would change, and what about it looks like a mistake."""
    with reading(db) as conn:
        sale = conn.execute(select(sales).where(sales.c.id == file.id)).one_or_none()
        rows = conn.execute(select(products).where(products.c.sale_id == file.id)).all()
    known = {row.id: row for row in rows}
    named = {product.id for product in file.products}
    return Difference(
        sale_id=file.id,
        new=sale is None,
        changes=[*_sale_changes(file, sale), *(each for item in file.products for each in _changes(item, known))],
        unnamed=sorted(known.keys() - named),
        warnings=[*_warn(file, sale, now or datetime.now(UTC)), *_warn_products(file, known)],
    )


def _sale_changes(file: SaleFile, sale: Row[Any] | None) -> Iterator[Change]:
    after = {
        "name": file.name,
        "starts_at": _moment(file.starts_at),
        "ends_at": _moment(file.ends_at),
        "hold_ttl_seconds": file.hold_ttl_seconds,
        "payment_ttl_seconds": file.payment_ttl_seconds,
    }
    before: dict[str, Any] | None = None
    if sale is not None:
        before = {
            "name": sale.name,
            "starts_at": _moment(sale.starts_at),
            "ends_at": _moment(sale.ends_at),
            "hold_ttl_seconds": sale.hold_ttl_ms // 1000,
            "payment_ttl_seconds": sale.payment_ttl_ms // 1000,
        }
    return _differing("", before, after)


def _changes(item: FileProduct, known: dict[str, Row[Any]]) -> Iterator[Change]:
    row = known.get(item.id)
    after = {
        "name": item.name,
        "price": item.price,
        "compare_at_price": item.compare_at_price,
        "stock": item.stock,
        "per_customer_limit": item.per_customer_limit,
    }
    before: dict[str, Any] | None = None
    if row is not None:
        before = {
            "name": row.name,
            "price": Money(row.price, row.currency),
            "compare_at_price": None if row.compare_at is None else Money(row.compare_at, row.currency),
            "stock": row.loaded,
            "per_customer_limit": row.per_customer_limit,
        }
    return _differing(f"products[{item.id}].", before, after)


def _differing(path: str, before: dict[str, Any] | None, after: dict[str, Any]) -> Iterator[Change]:
    """A change for each field of ``after`` that ``before`` has otherwise; for all where there is no ``before``."""
    for name, value in after.items():
        if before is None:
            yield Change(path + name, None, value)
        elif before[name] != value:
            yield Change(path + name, before[name], value)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _warn(file: SaleFile, sale: Row[Any] | None, now: datetime) -> Iterator[Warn]:
    starts_at, ends_at = file.starts_at, file.ends_at
    if ends_at and ends_at <= now:
        yield Warn("ends_at", f"is in the past ({rfc3339(ends_at)}): the sale takes no hold")
    elif starts_at and sale is None and starts_at < now - PAST:
        yield Warn("starts_at", f"is in the past ({rfc3339(starts_at)}): the sale is live at once")
    if starts_at and starts_at > now + FAR:
        yield Warn("starts_at", f"is more than a year away ({rfc3339(starts_at)})")
    if ends_at and ends_at > max(starts_at or now, now) + FAR:
        yield Warn("ends_at", f"is more than a year after the start ({rfc3339(ends_at)})")
    if ends_at and ends_at > now and ends_at - max(starts_at or now, now) < WINDOW_SHORT:
        yield Warn("ends_at", "leaves less than five minutes for the sale")
    if sale is not None and starts_at and starts_at > now and (sale.starts_at is None or sale.starts_at <= now):
        yield Warn("starts_at", "is in the future: the sale stops taking holds until then")
    for name, seconds, short in (
        ("hold_ttl_seconds", file.hold_ttl_seconds, HOLD_TTL_SHORT_SECONDS),
        ("payment_ttl_seconds", file.payment_ttl_seconds, PAYMENT_TTL_SHORT_SECONDS),
    ):
        if seconds < short:
            yield Warn(name, f"is {seconds} s: few customers can be that quick")
        elif seconds > TTL_LONG_SECONDS:
            yield Warn(name, f"is {seconds} s: what is not paid comes back on sale that late")
    if len({product.price.currency for product in file.products}) > 1:
        yield Warn("products", "have several currencies: no hold can mix them")


def _warn_products(file: SaleFile, known: dict[str, Row[Any]]) -> Iterator[Warn]:
    for number, item in enumerate(file.products):
        at, row = f"products[{number}]", known.get(item.id)
        if row is not None and row.currency != item.price.currency:
            yield Warn(f"{at}.price.currency", f"changes from {row.currency} to {item.price.currency}")
        elif row is not None and item.price.amount * 2 <= row.price:
            yield Warn(f"{at}.price", f"falls from {row.price} to {item.price.amount}: by half or more")
        compare_at = item.compare_at_price
        if compare_at and compare_at.amount <= item.price.amount:
            yield Warn(f"{at}.compare_at_price", "is not above the price")
        elif compare_at and item.price.amount * 10 <= compare_at.amount:
            yield Warn(f"{at}.price", f"is {item.price.amount}, a tenth of compare_at_price or less")
        if item.stock and item.per_customer_limit is not None and item.per_customer_limit > item.stock:
            yield Warn(f"{at}.per_customer_limit", f"is {item.per_customer_limit}, above the stock of {item.stock}")
        if item.stock == 0 and row is None:
            yield Warn(f"{at}.stock", "is 0: the product is sold out from the start")
        elif row is not None and item.stock * 2 <= row.loaded:
            yield Warn(f"{at}.stock", f"falls from {row.loaded} to {item.stock}: by half or more")
