"""What keeps Redis in order around the sales: which product is in which sale, and the keys of sales long over."""

from collections.abc import Mapping
from typing import cast

from redis.exceptions import WatchError
from sqlalchemy import Connection, Engine, delete, func, select, text, update

from engine import commands, keys
from engine.command import Client, run
from engine.records import Position
from persistence import answers
from persistence.database import reading
from persistence.tables import claims, cursors, sales

RETIRE_AFTER_HOURS = 24
"""How long after its end a sale stays in Redis: retries still find their first answer, refunds still give units back.
"""


def publish(redis: Client, products: Mapping[str, str]) -> None:
    """Say in Redis which sale each product is in."""
    if products:
        redis.hset(keys.PRODUCTS, items=[each for pair in products.items() for each in pair])


def published(redis: Client) -> dict[str, str]:
    """What Redis says: product -> sale."""
    found = cast(dict[bytes, bytes], redis.hgetall(keys.PRODUCTS))
    return {product.decode(): sale.decode() for product, sale in found.items()}


def republish(db: Engine, redis: Client) -> int:
    """Bring Redis's list of products back to Postgres's claims; how many entries were wrong. Quick where none is."""
    # Redis first: what it has was claimed before, so an entry that Postgres does not have is stale.
    found = published(redis)
    with reading(db) as conn:
        wrong = _wrong(found, _claims(conn))
    if not wrong:
        return 0
    with db.begin() as conn:
        # A sale that takes a product over waits for this lock, and says so in Redis after it.
        rows = conn.execute(
            select(claims.c.product_id, claims.c.sale_id)
            .where(claims.c.product_id.in_(wrong))
            .with_for_update(read=True)
        )
        claimed = {row.product_id: row.sale_id for row in rows}
        publish(redis, claimed)
        if stale := [product for product in wrong if product not in claimed]:
            redis.hdel(keys.PRODUCTS, *stale)
    return len(wrong)


def _claims(conn: Connection) -> dict[str, str]:
    return {row.product_id: row.sale_id for row in conn.execute(select(claims.c.product_id, claims.c.sale_id))}


def _wrong(found: Mapping[str, str], claimed: Mapping[str, str]) -> list[str]:
    return sorted(product for product in found.keys() | claimed.keys() if found.get(product) != claimed.get(product))


def retire(db: Engine, redis: Client, sale_id: str | None = None) -> list[str]:
    """Take sales that ended 24 h ago (or this one of them) out of Redis, if nothing is live or owed and all is
    drained; their ids. From then on they are read from Postgres.
    """
    with reading(db) as conn:
        over = [row.id for row in conn.execute(_OVER, {"sale": sale_id, "hours": RETIRE_AFTER_HOURS})]
    return [each for each in over if _retire(db, redis, each)]


_OVER = text("""
    SELECT id FROM sales
     WHERE retired_at IS NULL AND (CAST(:sale AS text) IS NULL OR id = :sale)
       AND CASE WHEN state = 'ended' THEN coalesce(ended_at, ends_at) ELSE ends_at END
           < now() - make_interval(hours => :hours)
     ORDER BY id""")

_UNFINISHED = text("""
    SELECT EXISTS (SELECT FROM holds WHERE sale_id = :sale AND status IN ('held', 'paying'))
        OR EXISTS (SELECT FROM orders JOIN payments ON order_id = id WHERE sale_id = :sale
                    AND (due IS NOT NULL OR orders.status = 'pending_payment'))
        OR EXISTS (SELECT FROM orders JOIN refunds ON order_id = orders.id WHERE sale_id = :sale AND due)""")


def _retire(db: Engine, redis: Client, sale_id: str) -> bool:
    with db.begin() as conn:
        # Whoever drains or loads this sale is at work on it: the next time.
        cursor = conn.execute(
            select(cursors.c.epoch, cursors.c.seq)
            .join(sales)
            .where(sales.c.id == sale_id, sales.c.retired_at.is_(None))
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if cursor is None or conn.scalar(_UNFINISHED, {"sale": sale_id}):
            return False
        if not _remove_keys(redis, sale_id, Position(cursor.epoch, cursor.seq)):
            return False
        _withdraw_products(conn, redis, sale_id)
        answers.forget_sale(conn, sale_id)
        conn.execute(update(sales).where(sales.c.id == sale_id).values(retired_at=func.now()))
        return True


def _remove_keys(redis: Client, sale_id: str, cursor: Position) -> bool:
    """False where Redis has more than Postgres. Where it has nothing, the keys went before a crash, and all is well."""
    with redis.pipeline(transaction=True) as pipe:
        pipe.watch(keys.sale(sale_id))  # each event changes it
        shown = run(redis, commands.show(sale_id))
        if shown.sale is None:
            return True
        if shown.sale.fenced or shown.position != cursor:
            return False
        pipe.multi()
        pipe.unlink(*keys.of_sale(sale_id, shown.products))
        try:
            pipe.execute()
        except WatchError:
            return False
        return True


def _withdraw_products(conn: Connection, redis: Client, sale_id: str) -> None:
    gone = conn.scalars(delete(claims).where(claims.c.sale_id == sale_id).returning(claims.c.product_id)).all()
    found = published(redis) if gone else {}
    if stale := [product for product in gone if found.get(product) == sale_id]:
        redis.hdel(keys.PRODUCTS, *stale)
