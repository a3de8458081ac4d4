"""What operators watch, in one look at Postgres and one at Redis: cheap enough to be asked every few seconds."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, func, select, text

from engine import keys
from engine.command import Client
from engine.heads import ask_each
from engine.records import Position
from persistence.tables import cursors, orders, payments, sales, set_aside, webhook_events

SALES_MAX: Final = 100
"""Sales that are told one by one, the newest: each is a label, and labels must stay few."""
STATEMENT_MS: Final = 1000
EVENT_STATUSES: Final = ("stored", "pending_order", "parked")
DUES: Final = ("create", "capture", "cancel", "void", "release")
LIVE: Final = ("pending_payment", "paid")
_NOTHING: Final = Position(1, 0)
"""The cursor of a sale that Redis may not have yet: it is being loaded."""


class SaleFigures(msgspec.Struct, frozen=True):
    """``lag_events``: how many Postgres does not have yet, and ``lag_seconds`` the age of the oldest of them; None
    where Redis has lost some. ``fenced``: only reads are answered.
    """

    lag_events: int | None
    lag_seconds: float | None
    fenced: bool


class Figures(msgspec.Struct, frozen=True):
    """Counts of rows, by their word where there are several; every word is there. ``oldest_authorisation_seconds`` is
    0 where no authorised money waits to be captured, ``oldest_webhook_seconds`` where no event of that status is.
    """

    orders_refused: int
    events_set_aside: int
    webhook_events: dict[str, int]
    oldest_webhook_seconds: dict[str, float]
    oldest_authorisation_seconds: float
    payments_due: dict[str, int]
    cursors: dict[str, Position]


def read(db: Engine) -> Figures:
    """Raises what SQLAlchemy raises, soon where Postgres is slow."""
    with db.begin() as conn:
        conn.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_MS}"))
        return Figures(
            orders_refused=_count(conn, orders, orders.c.ended_because == "refused"),
            events_set_aside=_count(conn, set_aside),
            webhook_events=_counts(
                conn, webhook_events.c.status, EVENT_STATUSES, webhook_events.c.handled_at.is_(None)
            ),
            oldest_webhook_seconds=_oldest_webhooks(conn),
            oldest_authorisation_seconds=_oldest_authorisation(conn),
            payments_due=_counts(conn, payments.c.due, DUES, payments.c.due.is_not(None)),
            cursors=read_cursors(conn),
        )


def read_sales(redis: Client, drained: dict[str, Position], now_seconds: float) -> dict[str, SaleFigures]:
    """Those of the sales whose server answers, as they stand in Redis. Raises ``RedisError`` where none does."""

    def ask(pipeline: Any, sale_id: str) -> None:
        pipeline.hmget(keys.sale(sale_id), "epoch", "seq", "fenced")
        pipeline.xrange(keys.events(sale_id), min=f"({drained[sale_id].entry}", count=1)

    answers, _ = ask_each(redis, drained, ask)
    return {sale_id: _sale(drained[sale_id], entry, now_seconds, *at) for sale_id, (at, entry) in answers.items()}


def _sale(
    cursor: Position,
    next_entries: list[Any],
    now_seconds: float,
    epoch: bytes | None,
    seq: bytes | None,
    fenced: bytes | None,
) -> SaleFigures:
    if epoch is None or seq is None:
        return SaleFigures(None, None, fenced=cursor > _NOTHING)
    there = Position(int(epoch), int(seq))
    if there.epoch != cursor.epoch or there < cursor:
        return SaleFigures(None, None, fenced=fenced == b"1")
    waited = now_seconds - int(next_entries[0][1][b"at"]) / 1000 if next_entries else 0.0
    return SaleFigures(there.seq - cursor.seq, max(waited, 0.0), fenced=fenced == b"1")


def _count(conn: Connection, table: Any, *where: Any) -> int:
    return conn.scalar(select(func.count()).select_from(table).where(*where)) or 0


def _counts(conn: Connection, column: Any, words: tuple[str, ...], where: Any) -> dict[str, int]:
    rows = conn.execute(select(column, func.count()).where(where).group_by(column))
    return dict.fromkeys(words, 0) | {row[0]: row[1] for row in rows}


def _oldest_webhooks(conn: Connection) -> dict[str, float]:
    row = webhook_events.c
    rows = conn.execute(
        select(row.status, func.extract("epoch", func.now() - func.min(row.received_at)))
        .where(row.handled_at.is_(None))
        .group_by(row.status)
    )
    return dict.fromkeys(EVENT_STATUSES, 0.0) | {status: float(seconds) for status, seconds in rows}


def _oldest_authorisation(conn: Connection) -> float:
    oldest = (
        select(func.extract("epoch", func.now() - func.min(payments.c.authorised_at)))
        .join(orders, orders.c.id == payments.c.order_id)
        .where(payments.c.status == "requires_capture", orders.c.status.in_(LIVE))
    )
    return float(conn.scalar(oldest) or 0)


def read_cursors(conn: Connection) -> dict[str, Position]:
    """How far each sale's events are in Postgres, the newest sale first."""
    query = (
        select(cursors.c.sale_id, cursors.c.epoch, cursors.c.seq)
        .join(sales, sales.c.id == cursors.c.sale_id)
        .where(sales.c.retired_at.is_(None))
        .order_by(sales.c.created_at.desc(), sales.c.id)
        .limit(SALES_MAX)
    )
    return {row.sale_id: Position(row.epoch, row.seq) for row in conn.execute(query)}
