"""The sales that workers look after: all that Postgres knows and has not retired."""

import time
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from engine.records import Position
from persistence import tables
from persistence.database import reading


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sale is drained, and the mark of that event."""

    position: Position
    mark: str


def read_cursors(db: Engine) -> dict[str, Cursor]:
    """Every sale that is not retired, with its cursor."""
    c = tables.cursors.c
    query = select(c.sale_id, c.epoch, c.seq, c.mark).join(tables.sales).where(tables.sales.c.retired_at.is_(None))
    with reading(db) as conn:
        return {row.sale_id: Cursor(Position(row.epoch, row.seq), row.mark) for row in conn.execute(query)}


def read_products(db: Engine) -> dict[str, list[str]]:
    """Every sale that is not retired, with its products."""
    p = tables.products.c
    query = (
        select(p.sale_id, func.array_agg(p.id).label("ids"))
        .join(tables.sales)
        .where(tables.sales.c.retired_at.is_(None))
        .group_by(p.sale_id)
    )
    with reading(db) as conn:
        return {row.sale_id: row.ids for row in conn.execute(query)}


class Every:
    """``due()`` is true at once and then each ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
