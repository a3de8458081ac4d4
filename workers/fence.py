"""The fence: a sale whose history in Redis is not the one that was drained is shut, rebuilt from Postgres, and
freed.
"""

from collections.abc import Iterable, Mapping

import structlog
from sqlalchemy import Engine

from engine.command import Client
from engine.heads import Head, read_heads, read_marks
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
        """Those of ``sales`` that are fenced, or whose last event is before their cursor, or that have another event
        at the cursor than was drained. Nothing is locked for it: whoever drains has the lock more often than not.
        """
        heads, _ = read_heads(self._redis, sorted(sales))  # a server that is away is told by whoever drains
        found = {sale_id for sale_id, head in heads.items() if _is_astray(cursors[sale_id], head)}
        grown = {
            sale_id: cursors[sale_id].position
            for sale_id, head in heads.items()
            if head.position and head.position > cursors[sale_id].position and cursors[sale_id].position.seq
        }
        marks = read_marks(self._redis, grown)
        return found | {sale_id for sale_id, mark in marks.items() if mark != cursors[sale_id].mark}

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


def _is_astray(cursor: Cursor, head: Head) -> bool:
    if cursor.position <= NOTHING:
        return False
    if head.position is None or head.fenced or head.position < cursor.position:
        return True
    return head.position == cursor.position and cursor.mark not in ("", head.mark)
