"""The fence: is Redis's history of a sale the one that was drained? And the rebuild, where it is not: the sale in
Redis again as Postgres knows it, under the next epoch. A rebuild can be stopped anywhere and begun again.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, select, text, update
from sqlalchemy.exc import OperationalError

from engine import commands, ids, keys
from engine.command import Client, run
from engine.commands import ResetItem
from engine.events import position_of
from engine.heads import read_heads
from engine.outcomes import Outcome
from engine.records import HoldRecord, Line, Position
from engine.shapes import to_ms
from persistence import tables
from persistence.archive import hold_record
from persistence.audit import note
from persistence.database import reading
from persistence.drain import Astray, drain_once, read_on

T = TypeVar("T")

RESTORE_BATCH = 400
"""Holds that one script call restores: about 5 ms of Redis's time."""
LOCK_WAIT_MS = 1000
_OVERTAKEN = "another rebuild of this sale has begun; see how it ends before you start one more"


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


class PostgresWentBack(RuntimeError):
    """Redis is ahead of Postgres by more than can be drained again. People decide which of them is right."""


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
    """What Redis's sale is to the one that was drained up to ``cursor``. Raises ``RedisError``."""
    heads, _ = read_heads(redis, [sale_id])
    head = heads[sale_id]
    at = head.position
    if at is None or at < cursor:
        return Lineage.REDIS_LOST_DATA
    if at.epoch > cursor.epoch:
        return Lineage.POSTGRES_WENT_BACK
    if cursor.seq:
        stream: Any = redis.xrange(keys.events(sale_id), min=cursor.entry, max=cursor.entry)
        if not stream:
            first: Any = redis.xrange(keys.events(sale_id), count=1)
            trimmed = first and position_of(first[0][0]) > cursor
            return Lineage.POSTGRES_WENT_BACK if trimmed else Lineage.REDIS_LOST_DATA
        if stream[0][1][b"mark"].decode() != mark:
            return Lineage.REDIS_LOST_DATA
    # Fenced with its history intact: a rebuild was cut off before its end, or somebody fenced it by hand.
    return Lineage.REDIS_LOST_DATA if head.fenced else Lineage.INTACT


def epoch_of(db: Engine, redis: Client, sale_id: str) -> int | None:
    """The epoch of a sale, or None where Redis's history is not the one that was drained. Who finds no hold looks here
    before it says that there is none: the fence may not have looked yet. 1 for a sale that Postgres does not know.
    """
    c = tables.cursors.c
    with reading(db) as conn:
        row = conn.execute(select(c.epoch, c.seq, c.mark).where(c.sale_id == sale_id)).one_or_none()
    if row is None:
        return 1
    found = lineage(redis, sale_id, Position(row.epoch, row.seq), row.mark)
    return int(row.epoch) if found is Lineage.INTACT else None


def rebuild_if_lost(db: Engine, redis: Client, sale_id: str) -> Rebuilt | None:
    """Rebuild a sale whose data Redis lost. None where it is intact, is loaded for the first time, or another is at it.
    Raises as ``rebuild``, and ``PostgresWentBack``: then the sale is fenced.
    """
    epoch = _fence_if_lost(db, redis, sale_id)
    return None if epoch is None else rebuild(db, redis, sale_id, lost=epoch)


def _fence_if_lost(db: Engine, redis: Client, sale_id: str) -> int | None:
    """The epoch that Redis lost data of, fenced; judged with the cursor locked, so that nobody moves it meanwhile.
    Drains hold that lock for moments, and many may queue for it; a rebuild holds it for long and is not waited for.
    """
    with db.begin() as conn:
        conn.execute(text(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}"))
        c = tables.cursors.c
        query = select(c.epoch, c.seq, c.mark).where(c.sale_id == sale_id).with_for_update()
        try:
            row = conn.execute(query).one_or_none()
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                return None
            raise
        if row is None or (row.epoch, row.seq) == (1, 0):
            return None
        match lineage(redis, sale_id, Position(row.epoch, row.seq), row.mark):
            case Lineage.REDIS_LOST_DATA:
                run(redis, commands.fence(sale_id, fenced=True))
                return int(row.epoch)
            case Lineage.POSTGRES_WENT_BACK:
                run(redis, commands.fence(sale_id, fenced=True))
                raise PostgresWentBack(f"Postgres has less of sale {sale_id} than Redis kept for it")
    return None


def rebuild(
    db: Engine,
    redis: Client,
    sale_id: str,
    *,
    batch: int = RESTORE_BATCH,
    lost: int | None = None,
    by_hand: bool = False,
) -> Rebuilt:
    """Restore a sale in Redis from Postgres: sold holds, then those in payment in the order of their orders, then held
    ones in the order of their events, each while it fits. Holds that Postgres does not know are lost, and their units
    are for sale. ``lost`` is the epoch that was found to be lost, and fenced. ``by_hand`` is written to the audit.

    Raises ``RebuildRefused`` where there is no such sale, it is retired, or another rebuild overtook this one.
    """
    if lost is None:
        run(redis, commands.fence(sale_id, fenced=True))
    epoch = None
    while epoch is None:
        _drain_the_rest(db, redis, sale_id)
        epoch = _begin_epoch(db, redis, sale_id, lost)
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
        for holds in batched(_read_lost(conn, sale_id, settings["payment_ttl_ms"]), batch):
            reply = run(redis, commands.restore(sale_id, epoch, holds, known=False))
            _check(reply.outcome)
            too_many += reply.rest[0]
            counts["paying"] += len(holds)
        for done in batched(_read_commands(conn, sale_id), batch):
            _check(run(redis, commands.restore(sale_id, epoch, commands=done)).outcome)
        _hear_again(conn, sale_id)
        products = {item.id: sale_id for item in items if item.id in _read_claims(conn, sale_id)}
        if products:
            redis.hset(keys.PRODUCTS, mapping=products)  # type: ignore[arg-type]
        # Freed under the lock: a rebuild that waits for it fences the sale again before it looks what is to be drained.
        _check(run(redis, commands.fence(sale_id, fenced=False, epoch=epoch)).outcome)
        if by_hand:
            note(conn, "rebuild", sale_id, epoch=epoch)
    ended = counts["released"] + counts["expired"]
    return Rebuilt(sale_id, epoch, counts["sold"], counts["paying"], counts["held"], ended, too_many)


def restore_orders(db: Engine, redis: Client, sale_id: str) -> int:
    """Orders whose hold Redis lost, written too late for the rebuild to see them: each gets its hold again, as by a
    rebuild, so that it can be paid and will end. How many. A sale that was never rebuilt has none.
    """
    with reading(db) as conn:
        if not _without_hold(conn, redis, sale_id):
            return 0
    with db.begin() as conn:
        # Nobody rebuilds meanwhile, so what is missing is missing for good.
        c = tables.cursors.c
        query = select(c.epoch, c.seq, c.mark).where(c.sale_id == sale_id).with_for_update()
        cursor = conn.execute(query).one()
        if lineage(redis, sale_id, Position(cursor.epoch, cursor.seq), cursor.mark) is not Lineage.INTACT:
            return 0
        lost = _without_hold(conn, redis, sale_id)
        for holds in batched(lost, RESTORE_BATCH):
            _check(run(redis, commands.restore(sale_id, cursor.epoch, holds, known=False)).outcome)
        return len(lost)


def _without_hold(conn: Connection, redis: Client, sale_id: str) -> list[tuple[str, HoldRecord]]:
    """Orders that wait for money for a hold that neither Postgres nor Redis has."""
    payment_ttl_ms = conn.scalar(select(tables.sales.c.payment_ttl_ms).where(tables.sales.c.id == sale_id))
    found = list(_read_lost(conn, sale_id, payment_ttl_ms))
    if not found:
        return []
    _, records = run(redis, commands.peek(sale_id, [token for token, _ in found]))
    return [lost for lost, record in zip(found, records, strict=True) if record is None]


def _drain_the_rest(db: Engine, redis: Client, sale_id: str) -> None:
    """Where Redis's history is the one that was drained, what was not drained yet is no loss."""
    with contextlib.suppress(Astray):
        while (drained := drain_once(db, redis, sale_id)) and drained.events:
            pass


def _check(outcome: Outcome) -> None:
    if outcome in (Outcome.OVERTAKEN, Outcome.NO_SALE):
        raise RebuildRefused(_OVERTAKEN)


def _begin_epoch(db: Engine, redis: Client, sale_id: str, lost: int | None) -> int | None:
    """Commit the next epoch first: from here on nothing of an earlier one is drained, whoever crashes. None where
    something is to be drained still: another rebuild had freed the sale, and it was sold on.
    """
    with db.begin() as conn:
        c = tables.cursors.c
        query = select(c.epoch, c.seq, c.mark).where(c.sale_id == sale_id).with_for_update()
        cursor = conn.execute(query).one_or_none()
        if cursor is None:
            raise RebuildRefused(f"there is no sale {sale_id}")
        retired = conn.scalar(select(tables.sales.c.retired_at).where(tables.sales.c.id == sale_id))
        if retired:
            raise RebuildRefused(f"sale {sale_id} is retired: it has left Redis for good")
        if lost not in (None, cursor.epoch):
            raise RebuildRefused(_OVERTAKEN)
        run(redis, commands.fence(sale_id, fenced=True))
        with contextlib.suppress(Astray):
            if read_on(redis, sale_id, Position(cursor.epoch, cursor.seq), cursor.mark, 1):
                return None
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


def _read_lost(conn: Connection, sale_id: str, payment_ttl_ms: Any) -> Iterator[tuple[str, HoldRecord]]:
    """Holds whose events were lost before they were drained, but whose order the API had written: somebody may be
    paying for it.
    """
    rows = conn.execute(
        text("""SELECT o.id, o.customer_id, o.currency, o.created_at,
                       json_agg(json_build_array(l.product_id, l.qty, l.unit_price, p.rev) ORDER BY l.position) AS lines
                FROM orders o JOIN order_lines l ON l.order_id = o.id
                     JOIN products p ON p.sale_id = o.sale_id AND p.id = l.product_id
                WHERE o.sale_id = :sale AND o.status = 'pending_payment'
                      AND NOT EXISTS (SELECT FROM holds h WHERE h.id = o.hold_id)
                GROUP BY o.id ORDER BY o.created_at, o.id"""),
        {"sale": sale_id},
    )
    for row in rows:
        began = to_ms(row.created_at)
        lines = tuple(Line(*line) for line in row.lines)
        pay_by = began + int(payment_ttl_ms)
        record = HoldRecord("paying", row.customer_id, row.currency, began, began, lines, pay_by, "restored")
        yield row.id[-ids.TOKEN_LENGTH :], record


def _read_commands(conn: Connection, sale_id: str) -> Sequence[str]:
    rows = conn.execute(
        text("SELECT DISTINCT command FROM ledger WHERE sale_id = :sale AND command IS NOT NULL"), {"sale": sale_id}
    )
    return [row.command for row in rows]


def _hear_again(conn: Connection, sale_id: str) -> None:
    """Payment events that were handled by a change in Redis which it has lost: their order does not show it, so they
    are handled once more.
    """
    conn.execute(
        text("""UPDATE webhook_events SET status = 'stored', handled_at = NULL, reason = NULL, tries = 0, due_at = now()
                WHERE status = 'handled' AND intent_id IN (
                    SELECT p.intent_id FROM payments p JOIN orders o ON o.id = p.order_id
                    WHERE o.sale_id = :sale AND p.due IS NULL AND CASE o.status
                          WHEN 'pending_payment' THEN p.status IN ('requires_capture', 'succeeded', 'canceled')
                          WHEN 'cancelled' THEN p.status = 'requires_capture' OR p.captured > p.refunded END)"""),
        {"sale": sale_id},
    )


def _read_claims(conn: Connection, sale_id: str) -> set[str]:
    return set(conn.scalars(select(tables.claims.c.product_id).where(tables.claims.c.sale_id == sale_id)))
