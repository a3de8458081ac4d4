"""What Postgres adds to the live picture of the sales: orders, money, what waits, and what happened lately."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, text

from engine.records import Position
from persistence import figures
from persistence.figures import Figures

NOTICES_MAX: Final = 12
MOVEMENTS: Final = 2000
"""Movements of stock, the newest, that are looked through for one that happened twice."""


class PaymentCount(msgspec.Struct, frozen=True):
    """Payments of one status (the intent's, in Stripe's words) and currency; ``amount`` in minor units."""

    status: str
    currency: str
    count: int
    amount: int


class Taken(msgspec.Struct, frozen=True):
    """Money of paid orders in minor units of ``currency``: authorised or more, captured, and given back."""

    currency: str
    paid: int
    captured: int
    refunded: int


class SaleMoney(msgspec.Struct, frozen=True):
    """``orders`` by status. ``astray``: payments with money and without a thing, or the other way round, for which
    nothing is due.
    """

    orders: dict[str, int]
    payments: list[PaymentCount]
    taken: list[Taken]
    astray: int
    refused: int


class Notice(msgspec.Struct, frozen=True):
    """Something that people should see. ``bad`` is false for what people did themselves."""

    at_ms: int
    kind: str
    subject: str
    said: str
    bad: bool


class Rows(msgspec.Struct, frozen=True):
    """``sales`` has every sale that ``figures.cursors`` names. ``repeated``: movements that one event made twice."""

    figures: Figures
    sales: dict[str, SaleMoney]
    repeated: int
    notices: list[Notice]

    @property
    def cursors(self) -> Mapping[str, Position]:
        """How far each sale's events are in Postgres, the newest sale first."""
        return self.figures.cursors


def read(db: Engine) -> Rows:
    """Some ten queries, each over an index or over what is open. Raises what SQLAlchemy raises, soon where Postgres
    is slow.
    """
    found = figures.read(db)
    with db.connect() as conn:
        conn.execute(text(f"SET LOCAL statement_timeout = {figures.STATEMENT_MS}"))
        return Rows(
            figures=found,
            sales=_read_money(conn, list(found.cursors)),
            repeated=conn.scalar(_REPEATED, {"rows": MOVEMENTS}) or 0,
            notices=[_notice(row) for row in conn.execute(_NOTICES, {"limit": NOTICES_MAX})],
        )


_MONEY = text("""
    SELECT o.sale_id, o.status AS order_status, p.status, o.currency, count(*) AS number, sum(p.amount) AS amount,
           sum(p.captured) AS captured, sum(p.refunded) AS refunded,
           count(*) FILTER (WHERE o.ended_because = 'refused') AS refused,
           count(*) FILTER (WHERE p.due IS NULL AND CASE o.status
                WHEN 'cancelled' THEN p.status = 'requires_capture' OR p.captured > p.refunded
                WHEN 'paid' THEN p.status NOT IN ('requires_capture', 'succeeded', 'processing')
                ELSE false END) AS astray
      FROM orders o JOIN payments p ON p.order_id = o.id
     WHERE o.sale_id = ANY(:sales) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4""")


def _read_money(conn: Connection, sale_ids: list[str]) -> dict[str, SaleMoney]:
    of_sale: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in conn.execute(_MONEY, {"sales": sale_ids}):
        of_sale[row.sale_id].append(row)
    return {sale_id: _money(of_sale[sale_id]) for sale_id in sale_ids}


def _money(rows: list[Row[Any]]) -> SaleMoney:
    orders: dict[str, int] = defaultdict(int)
    payments: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    taken: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for row in rows:
        orders[row.order_status] += row.number
        count, amount = payments[row.status, row.currency]
        payments[row.status, row.currency] = (count + row.number, amount + int(row.amount))
        paid, captured, refunded = taken[row.currency]
        paid += int(row.amount) if row.order_status in ("paid", "refunded") else 0
        taken[row.currency] = (paid, captured + int(row.captured), refunded + int(row.refunded))
    return SaleMoney(
        orders=dict(orders),
        payments=[PaymentCount(*key, *values) for key, values in sorted(payments.items())],
        taken=[Taken(currency, *values) for currency, values in sorted(taken.items())],
        astray=sum(row.astray for row in rows),
        refused=sum(row.refused for row in rows),
    )


_REPEATED = text("""
    SELECT count(*) FROM (
           SELECT FROM (SELECT * FROM ledger ORDER BY id DESC LIMIT :rows) AS newest
            WHERE hold_id IS NOT NULL
            GROUP BY product_id, hold_id, kind, epoch, seq HAVING count(*) > 1) AS repeated""")

# Each part is small or read by its index, newest first, before they are put together.
_NOTICES = text("""
    SELECT CAST(extract(epoch FROM at) * 1000 AS bigint) AS at_ms, kind, subject, said, bad FROM (
        (SELECT created_at AS at, 'set_aside' AS kind, sale_id || ' ' || epoch || '-' || seq AS subject,
                error AS said, true AS bad
           FROM set_aside ORDER BY created_at DESC LIMIT :limit)
        UNION ALL
        (SELECT created_at, 'order_refused', id, 'Postgres had no unit for it: its money goes back', true
           FROM orders WHERE ended_because = 'refused' ORDER BY created_at DESC LIMIT :limit)
        UNION ALL
        (SELECT received_at, 'event_parked', id, type || ': ' || coalesce(reason, ''), true
           FROM webhook_events WHERE status = 'parked' AND handled_at IS NULL ORDER BY received_at DESC LIMIT :limit)
        UNION ALL
        (SELECT updated_at, 'payment_retried', order_id, due || ', tried ' || tries || ' times: ' ||
                coalesce(last_error, ''), true
           FROM payments WHERE due IS NOT NULL AND tries >= 3 ORDER BY updated_at DESC LIMIT :limit)
        UNION ALL
        (SELECT created_at, 'dispute', coalesce(order_id, id), reason || ', ' || status, true
           FROM disputes ORDER BY created_at DESC LIMIT :limit)
        UNION ALL
        (SELECT at, action, coalesce(detail ->> 'sale_id' || ' ', '') || subject,
                concat_ws(' ', detail ->> 'delta', detail ->> 'reason'), false
           FROM audit ORDER BY id DESC LIMIT :limit)) AS everything
     ORDER BY at DESC LIMIT :limit""")


def _notice(row: Row[Any]) -> Notice:
    return Notice(row.at_ms, row.kind, row.subject, row.said[:300], row.bad)
