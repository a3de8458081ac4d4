"""The fence: a sale whose history in Redis is not the one that was drained is shut, rebuilt from Postgres, and
freed.
"""

from collections.abc import Iterable, Mapping

import structlog
from sqlalchemy import Engine

from engine import keys
from engine.command import Client
from engine.records import Position
from persistence.rebuild import PostgresWentBack, RebuildRefused, rebuild_if_lost
from workers.sales import Cursor

log = structlog.get_logger()


class Fence:
    """Finds the sales that Redis lost data of, and restores them."""

    def __init__(self, db: Engine, client: Client) -> None:
        self._db = db
        self._redis = client

    def find_astray(self, cursors: Mapping[str, Cursor], sales: Iterable[str]) -> set[str]:
        """Those of ``sales`` that are fenced, or whose last event is before their cursor or another than was
        drained. One question for each: a Redis that has meanwhile grown past the cursor is found by the drain
        itself.
        """
        order = sorted(sales)
        pipeline = self._redis.pipeline(transaction=False)
        for sale_id in order:
            pipeline.hmget(keys.sale(sale_id), "epoch", "seq", "mark", "fenced")
        answers = zip(order, pipeline.execute(), strict=True)
        return {sale_id for sale_id, values in answers if _is_astray(cursors[sale_id], *values)}

    def mend(self, sale_id: str) -> bool:
        """Rebuild a sale that Redis lost data of; whether that was so. A sale that Postgres lost data of stays
        shut, for people to decide. Raises as Redis and Postgres do.
        """
        try:
            rebuilt = rebuild_if_lost(self._db, self._redis, sale_id)
        except RebuildRefused as refused:
            log.warning("sale_not_rebuilt", sale_id=sale_id, why=str(refused))
            return False
        except PostgresWentBack:
            log.error(  # noqa: TRY400 - no traceback tells more
                "sale_fenced", sale_id=sale_id, why="Postgres is behind what Redis kept: see docs/failures.md"
            )
            return False
        if rebuilt is None:
            return False
        log.warning("sale_rebuilt", sale_id=sale_id, epoch=rebuilt.epoch, expired=rebuilt.expired)
        return True


NOTHING = Position(1, 0)
"""A cursor that no event was drained to."""


def _is_astray(
    cursor: Cursor, epoch: bytes | None, seq: bytes | None, mark: bytes | None, fenced: bytes | None
) -> bool:
    if cursor.position <= NOTHING:
        return False
    try:
        position = Position(int(epoch or 0), int(seq or 0))
    except ValueError:
        return True
    other = position == cursor.position and cursor.mark not in ("", (mark or b"").decode(errors="replace"))
    return position < cursor.position or other or fenced == b"1"
