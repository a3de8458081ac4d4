"""A sale as the business asks about it afterwards, from Postgres alone: so also of a sale that has left Redis."""

from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, text

from engine.shapes import rfc3339
from persistence.refusals import Refusal

BUCKETS: Final = 120
"""Steps of the time line, about; whole seconds each."""


class ProductReport(msgspec.Struct, frozen=True):
    """Units as of the last drained event; ``sold`` is without what was returned, and ``revenue`` is what its sold units
    were charged at, in minor units, before refunds. ``gone_after_seconds``: from the opening until nothing was left to
    reserve for the first time; ``sold_out_after_seconds``: until every unit was sold. None: never.
    """

    id: str
    name: str
    currency: str
    total: int
    sold: int
    returned: int
    revenue: int
    gone_after_seconds: float | None
    sold_out_after_seconds: float | None


class MoneyReport(msgspec.Struct, frozen=True):
    """Minor units of one currency: ``paid`` is committed, ``captured`` was taken, ``refunded`` went back."""

    currency: str
    paid: int
    captured: int
    refunded: int

    @property
    def kept(self) -> int:
        return self.captured - self.refunded


class Step(msgspec.Struct, frozen=True):
    """``holds`` taken in a step of the time line, and units ``sold`` from the opening to its end."""

    after_seconds: int
    holds: int
    sold: int


class Anomaly(msgspec.Struct, frozen=True):
    """Something that should be rare; ``count`` may be 0."""

    kind: str
    count: int
    means: str


class SaleReport(msgspec.Struct, frozen=True):
    """``opened_at`` is the first hold's moment. ``customers`` took a hold, ``buyers`` have a paid order. ``holds`` and
    ``orders`` are counts by status, ``ended_because`` of cancelled orders, ``refunds`` of refunds by status. The wait
    is from a hold to its paid order. Refused customers leave no record, so they are in the metrics only.
    """

    sale_id: str
    name: str
    state: str
    retired: bool
    as_of: str
    seq: int
    starts_at: str | None
    ends_at: str | None
    opened_at: str | None
    last_at: str | None
    customers: int
    buyers: int
    holds_taken: int
    holds_ordered: int
    orders_paid: int
    holds: dict[str, int]
    orders: dict[str, int]
    ended_because: dict[str, int]
    refunds: dict[str, int]
    units_restocked: int
    peak_holds_per_second: int
    peak_at: str | None
    wait_p50_seconds: float | None
    wait_p90_seconds: float | None
    step_seconds: int
    steps: list[Step]
    products: list[ProductReport]
    money: list[MoneyReport]
    anomalies: list[Anomaly]


def read(db: Engine, sale_id: str) -> SaleReport:
    """Raises ``Refusal`` (``sale_not_found``), and what Postgres raises."""
    with db.connect().execution_options(isolation_level="REPEATABLE READ") as conn, conn.begin():
        sale = conn.execute(_SALE, {"sale": sale_id}).one_or_none()
        if sale is None:
            raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")
        return _read(conn, sale)


_SALE = text("""
    SELECT s.*, c.drained_at, c.epoch, c.seq, (SELECT min(created_at) FROM holds WHERE sale_id = s.id) AS opened_at,
           (SELECT max(at) FROM ledger WHERE sale_id = s.id AND hold_id IS NOT NULL) AS last_at
      FROM sales s JOIN cursors c ON c.sale_id = s.id WHERE s.id = :sale""")

_HOLDS = text("""
    SELECT count(*) AS taken, count(DISTINCT customer_id) AS customers FROM holds WHERE sale_id = :sale""")

_ORDERED = text("""
    SELECT count(*) AS ordered, count(*) FILTER (WHERE paid_at IS NOT NULL) AS paid,
           count(DISTINCT customer_id) FILTER (WHERE status IN ('paid', 'refunded')) AS buyers
      FROM orders WHERE sale_id = :sale""")

_WAIT = text("""
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited) AS p50,
           percentile_cont(0.9) WITHIN GROUP (ORDER BY waited) AS p90
      FROM (SELECT extract(epoch FROM o.paid_at - h.created_at) AS waited FROM orders o
              JOIN holds h ON h.id = o.hold_id WHERE o.sale_id = :sale AND o.paid_at IS NOT NULL) waits""")

_PEAK = text("""
    SELECT date_trunc('second', created_at) AS at, count(*) AS holds FROM holds WHERE sale_id = :sale
     GROUP BY 1 ORDER BY holds DESC, at LIMIT 1""")

_HELD_STEPS = text("""
    SELECT floor(extract(epoch FROM created_at - CAST(:opened AS timestamptz)) / :width)::int AS step, count(*) AS holds
      FROM holds WHERE sale_id = :sale GROUP BY 1""")

_SOLD_STEPS = text("""
    SELECT greatest(floor(extract(epoch FROM at - CAST(:opened AS timestamptz)) / :width), 0)::int AS step,
           sum(CASE 'sold' WHEN to_counter THEN qty WHEN from_counter THEN -qty ELSE 0 END)::bigint AS sold
      FROM ledger WHERE sale_id = :sale AND 'sold' IN (from_counter, to_counter) GROUP BY 1""")

_PRODUCTS = text("""
    SELECT p.id, p.name, p.currency, p.total, p.sold,
           coalesce(l.returned, 0) AS returned, coalesce(o.revenue, 0) AS revenue,
           extract(epoch FROM l.gone_at - CAST(:opened AS timestamptz)) AS gone_after,
           extract(epoch FROM l.sold_out_at - CAST(:opened AS timestamptz)) AS sold_out_after
      FROM products p
      LEFT JOIN (SELECT product_id, sum(qty) FILTER (WHERE from_counter = 'sold')::bigint AS returned,
                        min(at) FILTER (WHERE from_counter = 'available' AND from_after = 0
                                          AND hold_id IS NOT NULL) AS gone_at,
                        min(at) FILTER (WHERE to_counter = 'sold' AND to_after = now_total) AS sold_out_at
                   FROM (SELECT ledger.*, products.total AS now_total FROM ledger
                           JOIN products ON products.sale_id = ledger.sale_id AND products.id = ledger.product_id
                          WHERE ledger.sale_id = :sale) moved
                  GROUP BY product_id) l ON l.product_id = p.id
      LEFT JOIN (SELECT product_id, sum((qty - returned) * unit_price)::bigint AS revenue FROM order_lines
                   JOIN orders ON orders.id = order_id
                  WHERE sale_id = :sale AND status IN ('paid', 'refunded') GROUP BY product_id) o ON o.product_id = p.id
     WHERE p.sale_id = :sale ORDER BY revenue DESC, p.id""")

_MONEY = text("""
    SELECT o.currency, coalesce(sum(o.total) FILTER (WHERE o.status IN ('paid', 'refunded')), 0)::bigint AS paid,
           sum(p.captured)::bigint AS captured, sum(p.refunded)::bigint AS refunded
      FROM orders o JOIN payments p ON p.order_id = o.id WHERE o.sale_id = :sale GROUP BY 1 ORDER BY 1""")

_RESTOCKED = text("""
    SELECT coalesce(sum(qty), 0)::bigint FROM ledger WHERE sale_id = :sale AND kind = 'restocked'""")

_ANOMALIES: Final = (
    (
        "refused",
        "orders that Postgres did not confirm: their authorisation was voided",
        "SELECT count(*) FROM orders WHERE sale_id = :sale AND ended_because = 'refused'",
    ),
    (
        "late",
        "payments that came after the units were gone: given back",
        "SELECT count(*) FROM orders WHERE sale_id = :sale AND ended_because = 'late'",
    ),
    (
        "lapsed",
        "authorisations that lapsed before they were captured",
        "SELECT count(*) FROM orders WHERE sale_id = :sale AND ended_because = 'lapsed'",
    ),
    (
        "disputed",
        "charges that a customer's bank took up",
        "SELECT count(*) FROM disputes d JOIN orders o ON o.id = d.order_id WHERE o.sale_id = :sale",
    ),
    (
        "parked",
        "payment events that wait for a person",
        """SELECT count(*) FROM webhook_events w JOIN payments p ON p.intent_id = w.intent_id
             JOIN orders o ON o.id = p.order_id WHERE o.sale_id = :sale AND w.status = 'parked'""",
    ),
    (
        "set_aside",
        "events that could not be written",
        "SELECT count(*) FROM set_aside WHERE sale_id = :sale",
    ),
    (
        "rebuilt",
        "times that the sale was restored in Redis",
        "SELECT epoch - 1 FROM cursors WHERE sale_id = :sale",
    ),
    (
        "repaired",
        "repairs by `reconcile --apply`",
        "SELECT count(*) FROM audit WHERE subject = :sale AND action = 'repair'",
    ),
)


def _read(conn: Connection, sale: Row[Any]) -> SaleReport:
    of: dict[str, Any] = {"sale": sale.id, "opened": sale.opened_at}
    holds, ordered, wait = (conn.execute(query, of).one() for query in (_HOLDS, _ORDERED, _WAIT))
    peak = conn.execute(_PEAK, of).one_or_none()
    width, steps = _steps(conn, sale, of)
    return SaleReport(
        sale_id=sale.id,
        name=sale.name,
        state=sale.state,
        retired=sale.retired_at is not None,
        as_of=rfc3339(sale.drained_at),
        seq=sale.seq,
        starts_at=_time(sale.starts_at),
        ends_at=_time(sale.ended_at or sale.ends_at),
        opened_at=_time(sale.opened_at),
        last_at=_time(sale.last_at),
        customers=holds.customers,
        buyers=ordered.buyers,
        holds_taken=holds.taken,
        holds_ordered=ordered.ordered,
        orders_paid=ordered.paid,
        holds=_counts(conn, "SELECT status, count(*) FROM holds WHERE sale_id = :sale GROUP BY 1", of),
        orders=_counts(conn, "SELECT status, count(*) FROM orders WHERE sale_id = :sale GROUP BY 1", of),
        ended_because=_counts(
            conn,
            """SELECT coalesce(ended_because, 'unknown'), count(*) FROM orders
                WHERE sale_id = :sale AND status = 'cancelled' GROUP BY 1""",
            of,
        ),
        refunds=_counts(
            conn,
            """SELECT r.status, count(*) FROM refunds r JOIN orders o ON o.id = r.order_id
                WHERE o.sale_id = :sale GROUP BY 1""",
            of,
        ),
        units_restocked=conn.execute(_RESTOCKED, of).scalar_one(),
        peak_holds_per_second=peak.holds if peak else 0,
        peak_at=rfc3339(peak.at) if peak else None,
        wait_p50_seconds=_seconds(wait.p50),
        wait_p90_seconds=_seconds(wait.p90),
        step_seconds=width,
        steps=steps,
        products=[_product(row) for row in conn.execute(_PRODUCTS, of)],
        money=[MoneyReport(row.currency, row.paid, row.captured, row.refunded) for row in conn.execute(_MONEY, of)],
        anomalies=[Anomaly(kind, int(conn.scalar(text(query), of) or 0), means) for kind, means, query in _ANOMALIES],
    )


def _steps(conn: Connection, sale: Row[Any], of: dict[str, Any]) -> tuple[int, list[Step]]:
    """The time line from the first hold to the last movement, every step of it."""
    if sale.opened_at is None:
        return 1, []
    last = max(sale.last_at or sale.opened_at, sale.opened_at)
    seconds = (last - sale.opened_at).total_seconds()
    width = max(1, -int(-(seconds + 1) // BUCKETS))
    held = {row.step: row.holds for row in conn.execute(_HELD_STEPS, {**of, "width": width})}
    moved = {row.step: row.sold for row in conn.execute(_SOLD_STEPS, {**of, "width": width})}
    steps, sold = [], 0
    for step in range(max([*held, *moved, 0]) + 1):
        sold += moved.get(step, 0)
        steps.append(Step(step * width, held.get(step, 0), sold))
    return width, steps


def _product(row: Row[Any]) -> ProductReport:
    return ProductReport(
        row.id,
        row.name,
        row.currency,
        row.total,
        row.sold,
        row.returned,
        row.revenue,
        _seconds(row.gone_after),
        _seconds(row.sold_out_after),
    )


def _counts(conn: Connection, query: str, of: dict[str, Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in conn.execute(text(query), of)}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _seconds(value: Any) -> float | None:
    return None if value is None else round(float(value), 3)
