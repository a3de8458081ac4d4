"""What Postgres knows of sales, products and holds that Redis does not have: retired ones, or lost ones."""

from typing import Any, NamedTuple

from sqlalchemy import Engine, Row, func, select

from engine import ids, shapes
from engine.records import HoldRecord, Line, ProductState, SaleState
from persistence import tables
from persistence.database import reading


class Standing(NamedTuple):
    """A sale as Postgres has it. ``retired``: its keys left Redis on purpose, 24 h after its end."""

    sale: SaleState
    retired: bool


class OldProduct(NamedTuple):
    """A product and its sale as Postgres has them, as of the sale's cursor."""

    standing: Standing
    product: ProductState


_sale = tables.sales.c
_product = tables.products.c


def read_sale(db: Engine, sale_id: str) -> Standing | None:
    with reading(db) as conn:
        row = conn.execute(select(tables.sales).where(_sale.id == sale_id)).one_or_none()
    return None if row is None else _standing(row)


def read_product(db: Engine, product_id: str) -> OldProduct | None:
    """A product in the newest sale that had it."""
    query = (
        select(tables.products, *(_sale[name].label(f"of_{name}") for name in _SALE_COLUMNS))
        .join(tables.sales, _sale.id == _product.sale_id)
        .where(_product.id == product_id)
        .order_by(_sale.created_at.desc())
        .limit(1)
    )
    with reading(db) as conn:
        row = conn.execute(query).one_or_none()
    return None if row is None else _old_product(row)


def read_products(db: Engine, sale_id: str) -> list[ProductState]:
    """A sale's products, in the order of their ids."""
    with reading(db) as conn:
        rows = conn.execute(select(tables.products).where(_product.sale_id == sale_id)).all()
    return sorted((product_state(row) for row in rows), key=lambda state: state.id)


def read_hold(db: Engine, sale_id: str, token: str) -> tuple[HoldRecord, int] | None:
    """A hold's record as of its last drained event, and Postgres's time in milliseconds."""
    hold = tables.holds
    with reading(db) as conn:
        row = conn.execute(
            select(hold, func.now().label("now")).where(hold.c.id == ids.hold_id(sale_id, token))
        ).one_or_none()
    if row is None:
        return None
    return hold_record(row, row.status), shapes.to_ms(row.now)


def hold_record(row: Row[Any], status: str) -> HoldRecord:
    """A row of ``holds`` as Redis keeps it."""
    return HoldRecord(
        status,
        row.customer_id,
        row.currency,
        shapes.to_ms(row.created_at),
        shapes.to_ms(row.expires_at),
        tuple(Line(*line) for line in row.lines),
        None if row.pay_by is None else shapes.to_ms(row.pay_by),
        row.checkout,
    )


_SALE_COLUMNS = ("id", "name", "state", "starts_at", "ends_at", "hold_ttl_ms", "payment_ttl_ms", "retired_at")


def _standing(row: Row[Any], prefix: str = "") -> Standing:
    of = {name: getattr(row, prefix + name) for name in _SALE_COLUMNS}
    retired = of["retired_at"] is not None
    sale = SaleState(
        id=of["id"],
        name=of["name"],
        state="ended" if retired else of["state"],
        fenced=False,
        starts_ms=0 if of["starts_at"] is None else shapes.to_ms(of["starts_at"]),
        ends_ms=0 if of["ends_at"] is None else shapes.to_ms(of["ends_at"]),
        hold_ttl_ms=of["hold_ttl_ms"],
        payment_ttl_ms=of["payment_ttl_ms"],
        epoch=0,
        seq=0,
        mark="",
        repairs=0,
    )
    return Standing(sale, retired)


def _old_product(row: Row[Any]) -> OldProduct:
    return OldProduct(_standing(row, "of_"), product_state(row))


def product_state(row: Row[Any]) -> ProductState:
    """A row of ``products`` as Redis has it, as of the sale's cursor."""
    return ProductState(
        id=row.id,
        name=row.name,
        price=row.price,
        compare_at=row.compare_at or 0,
        currency=row.currency,
        limit=row.per_customer_limit or 0,
        total=row.total,
        available=row.total - row.held - row.sold,
        held=row.held,
        sold=row.sold,
        rev=row.rev,
    )
