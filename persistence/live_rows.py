"""What only Postgres knows of the live picture: orders, money, what waits, what happened lately, and whether the
promises hold.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine, Row, text

from engine.command import Client
from engine.records import Position
from persistence import figures, promises
from persistence.drift import Promise
from persistence.figures import Figures

NOTICES_MAX: Final = 12


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
    """``orders`` by status."""

    orders: dict[str, int]
    payments: list[PaymentCount]
    taken: list[Taken]


class Notice(msgspec.Struct, frozen=True):
    """Something that people should see. ``bad`` is false for what people did themselves."""

    at_ms: int
    kind: str
    subject: str
    said: str
    bad: bool


class Rows(msgspec.Struct, frozen=True):
    """``sales`` has every sale that ``figures.cursors`` names; ``promises`` the breaches of each,
    empty where Redis did not answer.
    """

    figures: Figures
    promises: dict[Promise, int]
    sales: dict[str, SaleMoney]
    notices: list[Notice]

    @property
    def cursors(self) -> Mapping[str, Position]:
        """How far each sale's events are in Postgres, the newest sale first."""
        return self.figures.cursors


def read(db: Engine, redis: Client, grace_seconds: int) -> Rows:
    """Some fifteen queries, each over an index or over what is open, and what the promises ask of Redis. Raises what
    SQLAlchemy raises, soon where Postgres is slow.
    """
    found = figures.read(db)
    broken: dict[Promise, int] = {}
    with suppress(RedisError):
        broken = promises.read(db, redis, now_seconds=time.time(), grace_seconds=grace_seconds)
    with db.begin() as conn:
        conn.execute(text(f"SET LOCAL statement_timeout = {figures.STATEMENT_MS}"))
        return Rows(
            figures=found,
            promises=broken,
            sales=_read_money(conn, list(found.cursors)),
            notices=[_notice(row) for row in conn.execute(_NOTICES, {"limit": NOTICES_MAX})],
        )


def with_cursors_of_now(db: Engine, rows: Rows) -> Rows:
    """The same with new cursors: one short query, for who looks often. How far the drain is must not be old."""
    with db.begin() as conn:
        conn.execute(text(f"SET LOCAL statement_timeout = {figures.STATEMENT_MS}"))
        now = figures.read_cursors(conn)
    return msgspec.structs.replace(rows, figures=msgspec.structs.replace(rows.figures, cursors=now))


_MONEY = text("""
    SELECT o.sale_id, o.status AS order_status, p.status, o.currency, count(*) AS number, sum(p.amount) AS amount,
           sum(p.captured) AS captured, sum(p.refunded) AS refunded
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
    )


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
