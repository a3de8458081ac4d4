"""The fence: is Redis's history of a sale the one that was drained? And the rebuild, where it is not: the sale in
Redis again as Postgres knows it, under the next epoch. A rebuild can be stopped anywhere and begun again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, select, text, update

from engine import commands, ids, keys
from engine.command import Client, run
from engine.commands import ResetItem
from engine.outcomes import Outcome
from engine.records import HoldRecord, Line, Position
from engine.shapes import to_ms
from persistence import tables

T = TypeVar("T")

RESTORE_BATCH = 400
"""Holds that one script call restores: about 5 ms of Redis's time."""


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``itertools.batched``, which Python 3.11 does not have."""
    it = iter(items)
    while batch := list(islice(it, size)):
        yield batch


class Lineage(StrEnum):
    """What a sale in Redis is to the one in Postgres."""

    INTACT = "intact"
    REDIS_LOST_DATA = "redis_lost_data"
    POSTGRES_WENT_BACK = "postgres_went_back"
    """Redis is ahead by more than the stretch of its stream that was kept, or by a rebuild: for people to decide."""


class RebuildRefused(RuntimeError):
    """Why a sale cannot be rebuilt now, and what to do."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild brought back, as counts of holds; ``expired`` did not fit."""

    sale_id: str
    epoch: int
    sold: int
    paying: int
    held: int
    ended: int
    expired: int


def lineage(redis: Client, sale_id: str, cursor: Position, mark: str) -> Lineage:
    """Find the cursor's entry in the stream again, with its mark. Three reads, so cheap enough for twice a second."""
    names = ["epoch", "seq", "fenced"]
    values: Any = redis.hmget(keys.sale(sale_id), names)
    if values[0] is None:
        return Lineage.REDIS_LOST_DATA
    at, fenced = Position(int(values[0]), int(values[1] or 0)), values[2] == b"1"
    if at.epoch > cursor.epoch:
        return Lineage.POSTGRES_WENT_BACK
    if at.epoch < cursor.epoch or at.seq < cursor.seq:
        return Lineage.REDIS_LOST_DATA
    if cursor.seq:
        entry: Any = redis.xrange(keys.events(sale_id), min=cursor.entry, max=cursor.entry)
        if not entry:
            first: Any = redis.xrange(keys.events(sale_id), count=1)
            trimmed = first and _position(first[0][0]) > cursor
            return Lineage.POSTGRES_WENT_BACK if trimmed else Lineage.REDIS_LOST_DATA
        if entry[0][1][b"mark"].decode() != mark:
            return Lineage.REDIS_LOST_DATA
    # Fenced with its history intact: a rebuild was cut off before its end, or somebody fenced it by hand.
    return Lineage.REDIS_LOST_DATA if fenced else Lineage.INTACT


def _position(entry_id: bytes) -> Position:
    epoch, _, seq = entry_id.decode().partition("-")
    return Position(int(epoch), int(seq))


def rebuild(db: Engine, redis: Client, sale_id: str, *, batch: int = RESTORE_BATCH) -> Rebuilt:
    """Restore a sale in Redis from Postgres: sold holds, then those in payment in the order of their orders, then held
    ones in the order of their events, each while it fits. Holds that Postgres does not know are lost, and their units
    are for sale.

    Raises ``RebuildRefused`` where there is no such sale, it is retired, or another rebuild overtook this one.
    """
    run(redis, commands.fence(sale_id, fenced=True))
    epoch = _begin_epoch(db, redis, sale_id)
    with db.begin() as conn:
        # The cursor stays locked, so that nobody drains and nobody else rebuilds meanwhile.
        conn.execute(select(tables.cursors).where(tables.cursors.c.sale_id == sale_id).with_for_update())
        settings, items = _read_sale(conn, sale_id)
        _check(run(redis, commands.reset(sale_id, epoch, settings, items)).outcome)
        counts = dict.fromkeys(("sold", "paying", "held", "released", "expired"), 0)
        too_many = 0
        for holds in batched(_read_holds(conn, sale_id), batch):
            reply = run(redis, commands.restore(sale_id, epoch, holds))
            _check(reply.outcome)
            too_many += reply.rest[0]
            for _, record in holds:
                counts[record.status] += 1
        for done in batched(_read_commands(conn, sale_id), batch):
            _check(run(redis, commands.restore(sale_id, epoch, [], done)).outcome)
        products = {item.id: sale_id for item in items if item.id in _read_claims(conn, sale_id)}
        if products:
            redis.hset(keys.PRODUCTS, mapping=products)  # type: ignore[arg-type]
    _check(run(redis, commands.fence(sale_id, fenced=False, epoch=epoch)).outcome)
    ended = counts["released"] + counts["expired"]
    return Rebuilt(sale_id, epoch, counts["sold"], counts["paying"], counts["held"], ended, too_many)


def _check(outcome: Outcome) -> None:
    if outcome in (Outcome.OVERTAKEN, Outcome.NO_SALE):
        raise RebuildRefused("another rebuild of this sale has begun; see how it ends before you start one more")


def _begin_epoch(db: Engine, redis: Client, sale_id: str) -> int:
    """Commit the next epoch first: from here on nothing of an earlier one is drained, whoever crashes."""
    with db.begin() as conn:
        c = tables.cursors.c
        cursor = conn.execute(select(c.epoch).where(c.sale_id == sale_id).with_for_update()).one_or_none()
        if cursor is None:
            raise RebuildRefused(f"there is no sale {sale_id}")
        retired = conn.scalar(select(tables.sales.c.retired_at).where(tables.sales.c.id == sale_id))
        if retired:
            raise RebuildRefused(f"sale {sale_id} is retired: it has left Redis for good")
        in_redis: Any = redis.hget(keys.sale(sale_id), "epoch")
        epoch = max(cursor.epoch, int(in_redis or 0)) + 1
        conn.execute(update(tables.cursors).where(c.sale_id == sale_id).values(epoch=epoch, seq=0, mark=""))
        return int(epoch)


def _read_sale(conn: Connection, sale_id: str) -> tuple[dict[str, str | int], list[ResetItem]]:
    sale = conn.execute(select(tables.sales).where(tables.sales.c.id == sale_id)).one()
    settings: dict[str, str | int] = {
        "name": sale.name,
        "state": sale.state,
        "starts_ms": to_ms(sale.starts_at) if sale.starts_at else 0,
        "ends_ms": to_ms(sale.ends_at) if sale.ends_at else 0,
        "hold_ttl_ms": sale.hold_ttl_ms,
        "payment_ttl_ms": sale.payment_ttl_ms,
    }
    rows = conn.execute(select(tables.products).where(tables.products.c.sale_id == sale_id))
    return settings, [
        ResetItem(
            id=row.id,
            name=row.name,
            price=row.price,
            compare_at=row.compare_at or 0,
            currency=row.currency,
            limit=row.per_customer_limit or 0,
            loaded=row.loaded,
            rev=row.rev,
            total=row.total,
        )
        for row in rows
    ]


def _read_holds(conn: Connection, sale_id: str) -> Iterator[tuple[str, HoldRecord]]:
    # A refused hold is sold in no store's books; it comes back as released.
    query = text("""SELECT h.*, CASE WHEN refused THEN 'released' ELSE h.status END AS restored
                    FROM holds h LEFT JOIN orders o ON o.hold_id = h.id WHERE h.sale_id = :sale
                    ORDER BY CASE h.status WHEN 'sold' THEN 0 WHEN 'paying' THEN 1 WHEN 'held' THEN 2 ELSE 3 END,
                             o.created_at, h.epoch, h.seq, h.id""")
    rows = conn.execute(query.execution_options(yield_per=2000), {"sale": sale_id})
    for row in rows:
        yield row.id[-ids.TOKEN_LENGTH :], hold_record(row, row.restored)


def hold_record(row: Any, status: str) -> HoldRecord:
    """A row of ``holds`` as Redis keeps it."""
    return HoldRecord(
        status,
        row.customer_id,
        row.currency,
        to_ms(row.created_at),
        to_ms(row.expires_at),
        tuple(Line(*line) for line in row.lines),
        to_ms(row.pay_by) if row.pay_by else None,
        row.checkout,
    )


def _read_commands(conn: Connection, sale_id: str) -> Sequence[str]:
    rows = conn.execute(
        text("SELECT DISTINCT command FROM ledger WHERE sale_id = :sale AND command IS NOT NULL"), {"sale": sale_id}
    )
    return [row.command for row in rows]


def _read_claims(conn: Connection, sale_id: str) -> set[str]:
    return set(conn.scalars(select(tables.claims.c.product_id).where(tables.claims.c.sale_id == sale_id)))
