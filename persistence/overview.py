"""Sales as their operators see them: live counters from Redis, and how far Postgres follows."""

from typing import Any

from sqlalchemy import Engine, Row, collate, func, select, text

from engine import commands, keys, shapes
from engine.command import Client, run
from engine.records import Position, SaleState
from persistence.archive import product_state
from persistence.database import reading
from persistence.refusals import Refusal
from persistence.tables import cursors, products, sales


def list_sales(db: Engine, redis: Client) -> list[shapes.Sale]:
    """Every sale, the newest first."""
    with reading(db) as conn:
        rows = conn.execute(_query().order_by(sales.c.created_at.desc(), sales.c.id)).all()
    return [_show(db, redis, row) for row in rows]


def shown_sales(db: Engine, after: str, limit: int) -> list[shapes.PublicSale]:
    """Sales that have not ended, in the order of their ids, behind the id ``after``."""
    with reading(db) as conn:
        rows = conn.execute(_SHOWN, {"after": after, "limit": limit}).all()
    return [shapes.public_sale(_state(row, Position(1, 0)), row.now_ms) for row in rows]


_SHOWN = text("""
    SELECT *, floor(extract(epoch FROM now()) * 1000)::bigint AS now_ms FROM sales
     WHERE id COLLATE "C" > :after AND retired_at IS NULL AND state <> 'ended' AND (ends_at IS NULL OR ends_at > now())
     ORDER BY id COLLATE "C" LIMIT :limit""")


def list_summaries(db: Engine, redis: Client, after: str, limit: int) -> list[shapes.SaleSummary]:
    """Every sale without its products, in the order of their ids, behind the id ``after``."""
    by_id = collate(sales.c.id, "C")
    with reading(db) as conn:
        rows = conn.execute(_query().where(by_id > after).order_by(by_id).limit(limit)).all()
        now_ms = shapes.to_ms(conn.execute(select(func.now())).scalar_one())
    return [_summary(redis, row, now_ms) for row in rows]


def _summary(redis: Client, row: Row[Any], now_ms: int) -> shapes.SaleSummary:
    cursor = Position(row.epoch, row.seq)
    if row.retired_at is None:
        shown = run(redis, commands.show(row.id, []))
        if shown.sale is not None:
            drain = shapes.Drain(shown.position.seq, cursor.seq, lag_seconds(redis, row.id, cursor, shown))
            return shapes.summary(shown.sale, shown.now_ms, drain)
    return shapes.summary(_state(row, cursor), now_ms, shapes.Drain(cursor.seq, cursor.seq, 0.0))


def show_sale(db: Engine, redis: Client, sale_id: str) -> shapes.Sale:
    """One sale. Raises ``Refusal``: ``sale_not_found``. A sale that Redis does not have reads as Postgres has it:
    ``ended`` where it was retired, else ``fenced``, for it answers nothing until it is rebuilt.
    """
    with reading(db) as conn:
        row = conn.execute(_query().where(sales.c.id == sale_id)).one_or_none()
    if row is None:
        raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")
    return _show(db, redis, row)


def is_retired(db: Engine, sale_id: str) -> bool:
    with reading(db) as conn:
        return conn.scalar(select(sales.c.retired_at).where(sales.c.id == sale_id)) is not None


def _query() -> Any:
    return select(sales, cursors.c.epoch, cursors.c.seq).join(cursors, cursors.c.sale_id == sales.c.id)


def _show(db: Engine, redis: Client, row: Row[Any]) -> shapes.Sale:
    cursor = Position(row.epoch, row.seq)
    if row.retired_at is None:
        shown = run(redis, commands.show(row.id))
        if shown.sale is not None:
            drain = shapes.Drain(shown.position.seq, cursor.seq, lag_seconds(redis, row.id, cursor, shown))
            return shapes.sale(shown.sale, shown.products.values(), shown.now_ms, drain)
    return _show_from_postgres(db, row, cursor)


def lag_seconds(redis: Client, sale_id: str, cursor: Position, shown: commands.Shown) -> float:
    """The age of the oldest event that is not drained."""
    if shown.position <= cursor:
        return 0.0
    found: Any = redis.xrange(keys.events(sale_id), min=f"({cursor.entry}", count=1)
    if not found:
        return 0.0
    return max(shown.now_ms - int(found[0][1].get(b"at", shown.now_ms)), 0) / 1000


def _show_from_postgres(db: Engine, row: Row[Any], cursor: Position) -> shapes.Sale:
    with reading(db) as conn:
        found = conn.execute(select(products).where(products.c.sale_id == row.id).order_by(products.c.id)).all()
        now_ms = shapes.to_ms(conn.execute(select(func.now())).scalar_one())
    drain = shapes.Drain(cursor.seq, cursor.seq, 0.0)
    return shapes.sale(_state(row, cursor), map(product_state, found), now_ms, drain)


def _state(row: Row[Any], cursor: Position) -> SaleState:
    """A sale as Postgres has it."""
    return SaleState(
        id=row.id,
        name=row.name,
        state="ended" if row.retired_at else row.state,
        fenced=row.retired_at is None,
        starts_ms=shapes.to_ms(row.starts_at) if row.starts_at else 0,
        ends_ms=shapes.to_ms(row.ends_at) if row.ends_at else 0,
        hold_ttl_ms=row.hold_ttl_ms,
        payment_ttl_ms=row.payment_ttl_ms,
        epoch=cursor.epoch,
        seq=cursor.seq,
        mark="",
        repairs=0,
    )
