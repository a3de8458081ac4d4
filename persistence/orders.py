"""Orders as rows and as the API shows them. They end (paid, cancelled) only in the drain; here they begin and are
read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection

from engine import ids, shapes
from engine.records import HoldRecord
from engine.shapes import Money
from persistence.statement import Statement


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order of a hold that was checked out at ``created_ms`` (Redis's clock). It has its hold's token."""

    token: str
    record: HoldRecord
    created_ms: int
    metadata: Mapping[str, str] = field(default_factory=dict)


def label_names(conn: Connection, sale_id: str, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """What products were called at a ``rev`` of their label, by (product, rev). Raises ``LookupError`` where the
    drain has not yet brought a label: then drain and ask again.
    """
    wanted = sorted(set(pairs))
    rows = _LABELS.on(conn, {"sale": sale_id, "products": [p for p, _ in wanted], "revs": [rev for _, rev in wanted]})
    names: dict[tuple[str, int], str] = {(row.product_id, row.rev): row.name for row in rows}
    if missing := [pair for pair in wanted if pair not in names]:
        raise LookupError(f"sale {sale_id} has no label for {missing}")
    return names


_LABELS = Statement(
    "SELECT product_id, rev, name FROM labels"
    " JOIN unnest(CAST(:products AS text[]), CAST(:revs AS int[])) AS wanted (p, r) ON product_id = p AND rev = r"
    " WHERE sale_id = :sale"
)


def insert_order(conn: Connection, sale_id: str, order: NewOrder) -> bool:
    """Write one order with its lines and its payment; False where it was there. Raises ``LookupError`` as
    ``label_names``.
    """
    return bool(insert_orders(conn, sale_id, [order]))


def insert_orders(
    conn: Connection, sale_id: str, new: Sequence[NewOrder], intents_after_seconds: float | None = None
) -> list[str]:
    """Write orders that are not there yet with their lines and payments, in one statement; the ids of those really
    written. Their names are those that the products had when the holds were made, and their intents are due after so
    many seconds, if at all. Raises ``LookupError`` as ``label_names``.
    """
    if not new:
        return []
    by_id = {ids.order_id(sale_id, order.token): order for order in new}
    # Sorted, so that two that insert the same orders wait for each other instead of locking each other out.
    rows = sorted(by_id.items())
    columns = _order_columns(sale_id, rows) | _line_columns(rows) | {"after": intents_after_seconds}
    written = _INSERT_ORDERS.on(conn, columns).all()
    inserted = [row.id for row in written]
    lines = [line for order_id in inserted for line in by_id[order_id].record.lines]
    if written and written[0].lines != len(lines):
        label_names(conn, sale_id, ((line.product, line.rev) for line in lines))
        raise LookupError(f"sale {sale_id} had not all labels a moment ago")
    return inserted


def _order_columns(sale_id: str, rows: Sequence[tuple[str, NewOrder]]) -> dict[str, Any]:
    return {
        "sale": sale_id,
        "ids": [order_id for order_id, _ in rows],
        "hold_ids": [ids.hold_id(sale_id, order.token) for _, order in rows],
        "customers": [order.record.customer for _, order in rows],
        "currencies": [order.record.currency for _, order in rows],
        "totals": [order.record.total for _, order in rows],
        "metadata": [msgspec.json.encode(order.metadata).decode() for _, order in rows],
        "created": [shapes.datetime_ms(order.created_ms) for _, order in rows],
    }


def _line_columns(rows: Sequence[tuple[str, NewOrder]]) -> dict[str, Any]:
    lines = [
        (order_id, position, line.product, line.rev, line.qty, line.unit_price)
        for order_id, order in rows
        for position, line in enumerate(order.record.lines)
    ]
    names = ("of", "positions", "products", "revs", "quantities", "prices")
    return {name: list(values) for name, values in zip(names, zip(*lines, strict=True), strict=True)}


_INSERT_ORDERS = Statement(
    "WITH written AS ("
    "INSERT INTO orders (id, hold_id, sale_id, customer_id, status, currency, total, metadata, created_at)"
    " SELECT id, hold_id, :sale, customer, 'pending_payment', currency, total, CAST(metadata AS jsonb), created"
    " FROM unnest(CAST(:ids AS text[]), CAST(:hold_ids AS text[]), CAST(:customers AS text[]),"
    " CAST(:currencies AS text[]), CAST(:totals AS bigint[]), CAST(:metadata AS text[]),"
    " CAST(:created AS timestamptz[])) AS new (id, hold_id, customer, currency, total, metadata, created)"
    " ON CONFLICT DO NOTHING RETURNING id, total, currency),"
    " owed AS (INSERT INTO payments (order_id, amount, currency, due, due_at)"
    " SELECT id, total, currency, CASE WHEN after IS NOT NULL THEN 'create' END, now() + after * interval '1 second'"
    " FROM written, CAST(:after AS double precision) AS after),"
    " lines AS (INSERT INTO order_lines (order_id, position, product_id, name, qty, unit_price)"
    " SELECT new.id, new.position, new.product, labels.name, new.qty, new.price FROM unnest(CAST(:of AS text[]),"
    " CAST(:positions AS int[]), CAST(:products AS text[]), CAST(:revs AS int[]), CAST(:quantities AS int[]),"
    " CAST(:prices AS bigint[])) AS new (id, position, product, rev, qty, price)"
    " JOIN written ON written.id = new.id"
    " JOIN labels ON labels.sale_id = :sale AND labels.product_id = new.product AND labels.rev = new.rev"
    " RETURNING 1)"
    " SELECT id, (SELECT count(*) FROM lines) AS lines FROM written"
)


def read_order(conn: Connection, order_id: str) -> shapes.Order | None:
    """One order as the API shows it."""
    return next(iter(read_orders(conn, [order_id])), None)


def read_orders(conn: Connection, order_ids: Sequence[str]) -> list[shapes.Order]:
    """Orders as the API shows them, in the order of their ids as given; those that do not exist are left out."""
    if not order_ids:
        return []
    found = {row.id: _order(row) for row in _READ_ORDERS.on(conn, {"ids": list(order_ids)})}
    return [found[order_id] for order_id in dict.fromkeys(order_ids) if order_id in found]


def show_orders(conn: Connection, order_ids: Sequence[str]) -> dict[str, bytes]:
    """The same as JSON, by their ids."""
    return {order.id: shapes.encode(order) for order in read_orders(conn, order_ids)}


_READ_ORDERS = Statement(
    "SELECT o.id, o.hold_id, o.sale_id, o.customer_id, o.status, o.currency, o.total, o.metadata, o.created_at,"
    " p.provider, p.intent_id, p.client_secret, p.status AS payment_status, p.refunded,"
    " (SELECT coalesce(json_agg(json_build_array(product_id, name, qty, unit_price) ORDER BY position), '[]')"
    " FROM order_lines WHERE order_id = o.id) AS lines"
    " FROM orders o JOIN payments p ON p.order_id = o.id WHERE o.id = ANY(CAST(:ids AS text[]))"
)


def _order(row: Any) -> shapes.Order:
    return shapes.Order(
        id=row.id,
        hold_id=row.hold_id,
        sale_id=row.sale_id,
        customer_id=row.customer_id,
        status=row.status,
        lines=[
            shapes.OrderLine(product, name, qty, Money(unit_price, row.currency))
            for product, name, qty, unit_price in row.lines
        ],
        total=Money(row.total, row.currency),
        payment=shapes.Payment(row.provider, row.intent_id, row.client_secret, row.payment_status),
        amount_refunded=Money(row.refunded, row.currency),
        metadata=row.metadata,
        created_at=shapes.rfc3339(row.created_at),
    )
