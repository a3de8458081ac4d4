"""The four promises, as far as a look that costs little can tell: each figure must be zero. ``reconcile`` is the
thorough look.
"""

from dataclasses import dataclass
from typing import Any, Final, get_args

from sqlalchemy import Connection, Engine, Row, text

from engine import keys
from engine.command import Client
from persistence.database import reading
from persistence.drift import Promise

PROMISES: Final[tuple[Promise, ...]] = get_args(Promise)
PRODUCTS_MAX: Final = 500
"""Products that one look takes, drawn anew each time: a breach that lasts is found by one of the next looks."""
STATEMENT_MS: Final = 1000
LATE_SECONDS: Final = 60
"""What is late by less is on its way: a sweep takes a tenth of a second, a worker that died two seconds."""

_PRODUCTS: Final = text("""
    SELECT p.sale_id, p.id, p.held + p.sold > p.total AS oversold,
           coalesce(CASE l.from_counter WHEN 'held' THEN l.from_after <> p.held
                                        WHEN 'sold' THEN l.from_after <> p.sold
                                        WHEN 'available' THEN l.from_after <> p.total - p.held - p.sold END
                 OR CASE l.to_counter WHEN 'held' THEN l.to_after <> p.held
                                      WHEN 'sold' THEN l.to_after <> p.sold
                                      WHEN 'available' THEN l.to_after <> p.total - p.held - p.sold END,
                    false) AS moved_otherwise
      FROM (SELECT products.* FROM products JOIN sales ON sales.id = products.sale_id
             WHERE sales.retired_at IS NULL ORDER BY random() LIMIT :limit) p
      LEFT JOIN LATERAL (SELECT * FROM ledger WHERE ledger.sale_id = p.sale_id AND ledger.product_id = p.id
                          ORDER BY ledger.id DESC LIMIT 1) l ON true""")
"""A movement carries each counter before and after, so the last one of a product says what its counters are."""

_MONEY: Final = text("""
    SELECT count(*) FROM payments p JOIN orders o ON o.id = p.order_id JOIN sales s ON s.id = o.sale_id
     WHERE s.retired_at IS NULL AND p.due IS NULL AND p.updated_at < now() - make_interval(secs => :late)
       AND (o.status = 'paid' AND p.status <> 'succeeded'
            OR o.status = 'cancelled' AND (p.status = 'requires_capture' OR p.captured > p.refunded))
       AND NOT EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id
                          AND (r.due OR r.status IN ('pending', 'requires_action')))
       AND NOT EXISTS (SELECT FROM webhook_events w WHERE w.intent_id = p.intent_id AND w.due_at IS NOT NULL)""")
"""Nothing is owed any more, nothing is on its way, and yet money and order do not fit each other."""

_REFUNDED_TWICE: Final = text("""
    SELECT count(*) FROM (
        SELECT r.order_id FROM refunds r JOIN payments p ON p.order_id = r.order_id
         WHERE r.status IN ('pending', 'requires_action', 'succeeded')
           AND r.created_at < now() - make_interval(secs => :late)
         GROUP BY r.order_id HAVING sum(r.amount) > max(p.captured)) twice""")


@dataclass(frozen=True, slots=True)
class _Stored:
    products: list[Row[Any]]
    money: int
    twice: int


def read(db: Engine, redis: Client, *, now_seconds: float, grace_seconds: int) -> dict[Promise, int]:
    """Breaches of each promise: products for ``never_oversold``, orders for ``no_money_without_a_thing``, holds for
    ``no_stranded_stock``, products and orders for ``once``. ``grace_seconds``: how long a silent payment provider may
    delay a release. Raises what SQLAlchemy and Redis raise.
    """
    with reading(db) as conn:
        stored = _read_stored(conn)
    oversold, stranded = _read_redis(redis, stored.products, now_seconds - LATE_SECONDS, grace_seconds)
    return {
        "never_oversold": oversold + sum(row.oversold for row in stored.products),
        "no_money_without_a_thing": stored.money,
        "no_stranded_stock": stranded,
        "once": stored.twice + sum(row.moved_otherwise for row in stored.products),
    }


def _read_stored(conn: Connection) -> _Stored:
    conn.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_MS}"))
    late = {"late": LATE_SECONDS}
    return _Stored(
        products=list(conn.execute(_PRODUCTS, {"limit": PRODUCTS_MAX})),
        money=conn.scalar(_MONEY, late) or 0,
        twice=conn.scalar(_REFUNDED_TWICE, late) or 0,
    )


def _read_redis(redis: Client, products: list[Row[Any]], late: float, grace_seconds: int) -> tuple[int, int]:
    """Products whose counters do not add up, and holds that should have ended by ``late``."""
    if not products:
        return 0, 0
    sales = sorted({row.sale_id for row in products})
    pipeline = redis.pipeline(transaction=False)
    for row in products:
        counters = [f"{row.id}:{name}" for name in ("total", "available", "held", "sold")]
        pipeline.hmget(keys.stock(row.sale_id), counters)
    for row in products:
        pipeline.zcount(keys.deadlines(row.sale_id, row.id), "-inf", int(late * 1000))
    for sale_id in sales:
        pipeline.zcount(keys.payments(sale_id), "-inf", int((late - grace_seconds) * 1000))
    answers = pipeline.execute()
    oversold = sum(not _adds_up(counters) for counters in answers[: len(products)])
    return oversold, sum(answers[len(products) :])


def _adds_up(counters: list[bytes | None]) -> bool:
    """Also where Redis does not have the product: then it sells none."""
    if counters == [None] * 4:
        return True
    try:
        total, *parts = (int(each or b"") for each in counters)
    except ValueError:
        return False
    return sum(parts) == total and min(parts) >= 0
