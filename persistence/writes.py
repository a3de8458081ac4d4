"""The drain's writes, each a set: one statement or one COPY however many events there are. All run in the drain's
transaction.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from engine import ids
from engine.events import Event, Kind
from engine.records import Line, Position
from engine.shapes import rfc3339_ms
from persistence import feed, orders
from persistence.projection import Counters, Movement, Projection
from persistence.statement import Statement


def json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def move_cursor(conn: Connection, sale_id: str, position: Position, mark: str) -> None:
    _MOVE_CURSOR.on(conn, {"sale": sale_id, "epoch": position.epoch, "seq": position.seq, "mark": mark})


_MOVE_CURSOR: Final = Statement(
    "UPDATE cursors SET epoch = :epoch, seq = :seq, mark = :mark, drained_at = now() WHERE sale_id = :sale"
)


def read_counters(conn: Connection, sale_id: str, products: Iterable[str]) -> dict[str, Counters]:
    rows = _READ_COUNTERS.on(conn, {"sale": sale_id, "ids": list(products)})
    return {row.id: Counters(row.total, row.held, row.sold) for row in rows}


_READ_COUNTERS: Final = Statement(
    "SELECT id, total, held, sold FROM products WHERE sale_id = :sale AND id = ANY(CAST(:ids AS text[]))"
)


def read_refused(conn: Connection, sale_id: str, tokens: Sequence[str]) -> set[str]:
    """Which of these holds the last guard refused."""
    if not tokens:
        return set()
    rows = _READ_REFUSED.on(conn, {"ids": [ids.hold_id(sale_id, token) for token in tokens]})
    return {row.id[-ids.TOKEN_LENGTH :] for row in rows}


_READ_REFUSED: Final = Statement("SELECT id FROM holds WHERE id = ANY(CAST(:ids AS text[])) AND refused")


def write_loaded(conn: Connection, sale_id: str, event: Event) -> None:
    """The sale and the products as the file had them; a new product's counters start at zero and follow by
    ``write_counters``.
    """
    if event.sale:
        conn.execute(
            text("""UPDATE sales SET name = :name, starts_at = to_timestamp(:starts / 1000.0),
                    ends_at = to_timestamp(:ends / 1000.0), hold_ttl_ms = :hold_ttl, payment_ttl_ms = :payment_ttl
                    WHERE id = :sale"""),
            {
                "sale": sale_id,
                "name": event.sale.name,
                "starts": event.sale.starts_ms or None,
                "ends": event.sale.ends_ms or None,
                "hold_ttl": event.sale.hold_ttl_ms,
                "payment_ttl": event.sale.payment_ttl_ms,
            },
        )
    rows = [
        {
            "sale": sale_id,
            "id": item.id,
            "name": item.name,
            "price": item.price,
            "compare_at": item.compare_at or None,
            "currency": item.currency,
            "limit": item.limit or None,
            "loaded": item.stock,
            "rev": item.rev,
        }
        for item in event.products
    ]
    if not rows:
        return
    conn.execute(
        text("""INSERT INTO products (sale_id, id, name, price, compare_at, currency,
                                      per_customer_limit, loaded, rev, total)
                VALUES (:sale, :id, :name, :price, :compare_at, :currency, :limit, :loaded, :rev, 0)
                ON CONFLICT (sale_id, id) DO UPDATE SET name = excluded.name, price = excluded.price,
                compare_at = excluded.compare_at, currency = excluded.currency,
                per_customer_limit = excluded.per_customer_limit, loaded = excluded.loaded, rev = excluded.rev"""),
        rows,
    )
    conn.execute(
        text("""INSERT INTO labels (sale_id, product_id, rev, name, price, compare_at, currency)
                VALUES (:sale, :id, :rev, :name, :price, :compare_at, :currency) ON CONFLICT DO NOTHING"""),
        rows,
    )


def write_state(conn: Connection, sale_id: str, event: Event) -> None:
    conn.execute(
        text("""UPDATE sales SET state = :state,
                ended_at = CASE WHEN :state = 'ended' THEN to_timestamp(:at / 1000.0) ELSE ended_at END
                WHERE id = :sale"""),
        {"sale": sale_id, "state": event.state, "at": event.at_ms},
    )


def write_counters(conn: Connection, sale_id: str, counters: dict[str, Counters]) -> None:
    """The guard stands here once more: a row that would sell more than there is fails the whole transaction by its
    CHECK.
    """
    columns = {
        "ids": list(counters),
        "totals": [c.total for c in counters.values()],
        "held": [c.held for c in counters.values()],
        "sold": [c.sold for c in counters.values()],
    }
    _WRITE_COUNTERS.on(conn, {"sale": sale_id} | columns)


_WRITE_COUNTERS: Final = Statement(
    "UPDATE products p SET total = c.total, held = c.held, sold = c.sold FROM unnest(CAST(:ids AS text[]),"
    " CAST(:totals AS bigint[]), CAST(:held AS bigint[]), CAST(:sold AS bigint[])) AS c (id, total, held, sold)"
    " WHERE p.sale_id = :sale AND p.id = c.id"
)


class _HoldRow(msgspec.Struct):
    """A row of ``holds`` as JSON, which is the cheapest way to hand Postgres many of them at once."""

    id: str
    customer: str
    status: str
    currency: str
    total: int
    lines: tuple[Line, ...]
    checkout: str | None
    created: int
    expires: int
    pay_by: int | None
    epoch: int
    seq: int
    refused: bool


def write_holds(conn: Connection, sale_id: str, projection: Projection) -> None:
    """Each hold once, as the last event left it."""
    if not projection.holds:
        return
    rows = [
        _HoldRow(
            ids.hold_id(sale_id, token),
            record.customer,
            record.status,
            record.currency,
            record.total,
            record.lines,
            record.checkout,
            record.created_ms,
            record.expires_ms,
            record.pay_by_ms,
            *position,
            refused=token in projection.refused,
        )
        for token, (record, position) in projection.holds.items()
    ]
    _WRITE_HOLDS.on(conn, {"sale": sale_id, "rows": json_text(rows)})


_WRITE_HOLDS: Final = Statement(
    "INSERT INTO holds (id, sale_id, customer_id, status, currency, total, lines, checkout, created_at, expires_at,"
    " pay_by, epoch, seq, refused)"
    " SELECT id, :sale, customer, status, currency, total, lines, checkout, to_timestamp(created / 1000.0),"
    " to_timestamp(expires / 1000.0), to_timestamp(pay_by / 1000.0), epoch, seq, refused"
    " FROM json_to_recordset(CAST(:rows AS json))"
    " AS h (id text, customer text, status text, currency text, total bigint, lines jsonb, checkout text,"
    " created bigint, expires bigint, pay_by bigint, epoch bigint, seq bigint, refused boolean)"
    " ON CONFLICT (id) DO UPDATE SET status = excluded.status, lines = excluded.lines, checkout = excluded.checkout,"
    " pay_by = excluded.pay_by, epoch = excluded.epoch, seq = excluded.seq,"
    " refused = holds.refused OR excluded.refused"
)


def write_ledger(conn: Connection, sale_id: str, movements: Sequence[Movement]) -> None:
    if not movements:
        return
    cursor: Any = conn.connection.cursor()
    # Enums and moments as text: psycopg takes four times as long for a row that has them as they are.
    with cursor.copy(
        "COPY ledger (sale_id, product_id, epoch, seq, kind, hold_id, qty, from_counter, to_counter, "
        "from_before, from_after, to_before, to_after, reason, command, at) FROM STDIN"
    ) as copy:
        for m in movements:
            copy.write_row(
                (
                    sale_id,
                    m.product,
                    m.position.epoch,
                    m.position.seq,
                    m.kind.value,
                    m.token and ids.hold_id(sale_id, m.token),
                    m.qty,
                    m.source,
                    m.target,
                    m.source_before,
                    None if m.source_before is None else m.source_before - m.qty,
                    m.target_before,
                    None if m.target_before is None else m.target_before + m.qty,
                    m.reason or None,
                    m.command or None,
                    rfc3339_ms(m.at_ms),
                )
            )


ENDED_BECAUSE = {Kind.RELEASED: "asked", Kind.EXPIRED: "expired", Kind.RETURNED: "lapsed"}
"""Why an order ended, where nobody recorded a better reason before its hold was ended."""


def write_orders(conn: Connection, sale_id: str, projection: Projection) -> None:
    """Orders begin with a check-out (unless the API was faster) and end here, and nowhere else."""
    new = [orders.NewOrder(token, record, at_ms) for token, (record, at_ms) in projection.checked_out.items()]
    changed = orders.insert_orders(conn, sale_id, new)
    found = _lock_orders(conn, sale_id, {*projection.orders, *(t for each in projection.restocks for t in each.holds)})
    for restock in projection.restocks:
        changed += _write_restock(conn, sale_id, restock)
    decided = [item for item in projection.orders.items() if ids.order_id(sale_id, item[0]) in found]
    for kind, group in groupby(sorted(decided, key=lambda item: item[1]), key=lambda item: item[1]):
        tokens = [token for token, _ in group]
        if kind in ENDED_BECAUSE:
            changed += _end_orders(conn, sale_id, tokens, ENDED_BECAUSE[kind])
        else:
            changed += _pay_orders(conn, sale_id, [token for token in tokens if token not in projection.refused])
            changed += _refuse_orders(conn, sale_id, [token for token in tokens if token in projection.refused])
    if changed:
        feed.append(conn, list(dict.fromkeys(changed)))


def _lock_orders(conn: Connection, sale_id: str, tokens: Collection[str]) -> set[str]:
    """In the order of their ids, as everybody does who locks several: then nobody locks anybody out. Those that are
    there: most holds end without an order.
    """
    if not tokens:
        return set()
    return {row.id for row in _LOCK_ORDERS.on(conn, {"ids": _order_ids(sale_id, tokens)})}


_LOCK_ORDERS: Final = Statement("SELECT id FROM orders WHERE id = ANY(CAST(:ids AS text[])) ORDER BY id FOR UPDATE")


def _order_ids(sale_id: str, tokens: Iterable[str]) -> list[str]:
    return sorted(ids.order_id(sale_id, token) for token in tokens)


def _pay_orders(conn: Connection, sale_id: str, tokens: Sequence[str]) -> list[str]:
    """Paid, and from the same commit on the money is due to be captured; unless the provider did so by itself, or
    somebody asked meanwhile to cancel the order, which goes on.
    """
    if not tokens:
        return []
    paid = [row.id for row in _PAY_ORDERS.on(conn, {"ids": _order_ids(sale_id, tokens)})]
    _OWE_CAPTURES.on(conn, {"ids": paid})
    return paid


_PAY_ORDERS: Final = Statement(
    "UPDATE orders SET status = 'paid', paid_at = now(),"
    " ended_because = CASE WHEN ended_because = 'asked' THEN 'asked' END"
    " WHERE id = ANY(CAST(:ids AS text[])) AND status IN ('pending_payment', 'cancelled') RETURNING id"
)
_OWE_CAPTURES: Final = Statement(
    "UPDATE payments SET due = 'capture', due_at = now(), tries = 0, updated_at = now()"
    " WHERE order_id = ANY(CAST(:ids AS text[])) AND status NOT IN ('succeeded', 'canceled')"
    " AND NOT EXISTS (SELECT FROM orders o WHERE o.id = order_id AND o.ended_because = 'asked')"
)


def _refuse_orders(conn: Connection, sale_id: str, tokens: Sequence[str]) -> list[str]:
    """The stock did not allow it: the money goes back."""
    if not tokens:
        return []
    rows = conn.execute(
        text("""UPDATE orders SET status = 'cancelled', ended_because = 'refused'
                WHERE id = ANY(:ids) AND status IN ('pending_payment', 'cancelled') RETURNING id"""),
        {"ids": _order_ids(sale_id, tokens)},
    )
    refused = [row.id for row in rows]
    conn.execute(
        text("""UPDATE payments SET due = 'void', due_at = now(), tries = 0, updated_at = now()
                WHERE order_id = ANY(:ids) AND status <> 'canceled'"""),
        {"ids": refused},
    )
    return refused


def _end_orders(conn: Connection, sale_id: str, tokens: Sequence[str], because: str) -> list[str]:
    """Cancelled; what was due only to bring the units back is done. An intent that is still open is to be closed."""
    order_ids = _order_ids(sale_id, tokens)
    rows = conn.execute(
        text("""UPDATE orders SET status = 'cancelled', ended_because = coalesce(ended_because, :because)
                WHERE id = ANY(:ids) AND status IN ('pending_payment', 'paid') RETURNING id"""),
        {"ids": order_ids, "because": because},
    )
    ended = [row.id for row in rows]
    conn.execute(
        text("""UPDATE payments SET due = NULL, due_at = NULL, updated_at = now()
                WHERE order_id = ANY(:ids) AND due = 'release'"""),
        {"ids": order_ids},
    )
    conn.execute(
        text("""UPDATE payments SET due = 'cancel', due_at = now(), tries = 0, updated_at = now()
                WHERE order_id = ANY(:ids) AND due IS NULL AND intent_id IS NOT NULL AND status <> 'canceled'"""),
        {"ids": ended},
    )
    return ended


def _write_restock(conn: Connection, sale_id: str, event: Event) -> list[str]:
    [token] = event.holds
    order_id = ids.order_id(sale_id, token)
    for product, qty in event.lines:
        conn.execute(
            text("""UPDATE order_lines SET returned = returned + :qty
                    WHERE order_id = :order AND product_id = :product"""),
            {"order": order_id, "product": product, "qty": qty},
        )
    conn.execute(text("UPDATE refunds SET restocked = true, due = false WHERE id = :id"), {"id": event.command})
    return [order_id]
