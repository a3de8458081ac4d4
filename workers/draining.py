"""The drain slice's work: wait for news of any sale, and bring it into Postgres."""

import threading
import time
from typing import Any

import redis
import structlog
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from engine import keys
from engine.command import Client
from engine.heads import read_heads
from persistence.drain import Astray, drain_once
from workers.fence import Fence
from workers.sales import Cursor, Every, read_cursors

REFRESH_SECONDS = 0.25
"""How often the list of sales is read again: a new sale is drained within this and one block."""
FENCE_SECONDS = 0.5
"""How often every sale is asked where it stands: one that fell back has no news to wait for."""
BLOCK_MS = 200
STREAMS_MAX = 256
"""Streams that one XREAD waits for. More sales than that are asked in turn, without waiting."""
POLL_SECONDS = 0.02
LINGER_SECONDS = 0.04
"""Pause after news: what happens meanwhile shares the next transaction, which costs the same, about, however large."""
BUSY_REST_SECONDS = 0.05
"""How long a sale is left alone that another drainer has."""
AWAY_REST_SECONDS = 0.25
"""How long a sale is left alone whose server is away: one that comes back without its last data is to be noticed."""
AWAY_REST_SHARE = 3
"""Times as long as it took to find it away, where that is longer: the others wait meanwhile."""
FAILED_REST_SECONDS = (0.1, 5.0)

log = structlog.get_logger()


class Drainer:
    """One drainer of all sales. Several may run: the cursor's row lock lets each sale have one at a time."""

    def __init__(self, db: Engine, client: Client, stop: threading.Event) -> None:
        self._db = db
        self._redis = client
        self._stop = stop
        self._cursors: dict[str, Cursor] = {}
        self._behind: set[str] = set()
        self._resting: dict[str, float] = {}
        self._failed_rest: dict[str, float] = {}
        self._away: set[str] = set()
        self._refresh = Every(REFRESH_SECONDS)
        self._fence = Fence(db, client)
        self._fence_due = Every(FENCE_SECONDS)

    def run_once(self) -> int:
        """Events that this pass brought. Waits ``BLOCK_MS`` at most where there are none."""
        try:
            return self._run_once()
        except RedisError:
            self._look_first()
            raise

    def _run_once(self) -> int:
        for sale_id in self._look_around() if self._refresh.due() else ():
            self._mend(sale_id)
        awake = self._awake()
        news = self._behind & awake
        if not news or len(awake) > 1:
            news |= self._read_news(awake, wait=not news)
        events = 0
        for sale_id in sorted(news):
            if self._stop.is_set():
                break
            events += self._drain(sale_id)
        if events and not self._behind:
            self._stop.wait(LINGER_SECONDS)
        return events

    def close(self) -> None:
        """Nothing to end."""

    def _look_around(self) -> set[str]:
        """Read the cursors again; the sales that are astray, where it is time to ask."""
        self._cursors = read_cursors(self._db)
        self._behind &= self._cursors.keys()
        if not self._fence_due.due():
            return set()
        failing = (self._cursors.keys() - self._awake()) & (self._failed_rest.keys() | self._away)
        if failing:
            self._fence_due = Every(FENCE_SECONDS)  # they are asked at the next look
        return self._fence.find_astray(self._cursors, self._cursors.keys() - failing)

    def _look_first(self) -> None:
        """A Redis that was away may come back with another history, so that is looked at before anything else."""
        self._refresh, self._fence_due = Every(REFRESH_SECONDS), Every(FENCE_SECONDS)

    def _awake(self) -> set[str]:
        now = time.monotonic()
        self._resting = {sale_id: until for sale_id, until in self._resting.items() if until > now}
        return self._cursors.keys() - self._resting.keys()

    def _read_news(self, awake: set[str], *, wait: bool) -> set[str]:
        """The sales with an event behind their cursor."""
        order = list(awake)
        if not isinstance(self._redis, redis.Redis):
            found = self._compare_heads(order)
        elif order and len(order) <= STREAMS_MAX:
            # A resting sale must not wait for a whole block.
            block_ms = int(BUSY_REST_SECONDS * 1000) if self._resting else BLOCK_MS
            return self._xread(order, block_ms if wait else None)
        else:
            groups = [order[start : start + STREAMS_MAX] for start in range(0, len(order), STREAMS_MAX)]
            found = {sale_id for group in groups for sale_id in self._xread(group, None)}
        if wait and not found:
            self._stop.wait(POLL_SECONDS)
        return found

    def _compare_heads(self, sales: list[str]) -> set[str]:
        """A cluster's sales lie on several servers: one command cannot wait for all of them, and those whose server is
        away must not hold up the others.
        """
        began = time.monotonic()
        heads, away = read_heads(self._redis, sales)
        rest = max(AWAY_REST_SECONDS, (time.monotonic() - began) * AWAY_REST_SHARE)
        for sale_id, error in away.items():
            if sale_id not in self._away:
                log.warning("sale_not_read", sale_id=sale_id, error=str(error))
            self._behind.discard(sale_id)
            self._rest(sale_id, rest)
        if self._away & heads.keys():
            self._look_first()
        self._away = (self._away - heads.keys()) | away.keys()
        return {
            sale_id
            for sale_id, head in heads.items()
            if head.position is not None and head.position > self._cursors[sale_id].position
        }

    def _xread(self, sales: list[str], block_ms: int | None) -> set[str]:
        """Those with news. One whose stream cannot be read rests, and the others are asked again."""
        streams: dict[Any, Any] = {keys.events(each): self._cursors[each].position.entry for each in sales}
        try:
            answer: Any = self._redis.xread(streams, count=1, block=block_ms)
        except ResponseError as error:
            if len(sales) > 1:
                return {sale_id for each in sales for sale_id in self._xread([each], None)}
            log.warning("sale_not_read", sale_id=sales[0], error=str(error))
            self._rest_failed(sales[0])
            return set()
        found = {name.decode() for name, _ in answer or ()}
        return {sale_id for sale_id in sales if keys.events(sale_id) in found}

    def _drain(self, sale_id: str) -> int:
        try:
            drained = drain_once(self._db, self._redis, sale_id, wait=False)
        except (OperationalError, InterfaceError):  # Postgres is away, for every sale
            raise
        except Astray as error:
            log.warning("sale_is_astray", sale_id=sale_id, error=str(error))
            self._mend(sale_id)
            return 0
        except RedisError as error:
            if self._is_away(error):
                raise
            log.warning("sale_not_drained", sale_id=sale_id, error=str(error))
            self._rest_failed(sale_id)
            self._look_first()
            return 0
        except Exception:
            log.exception("sale_not_drained", sale_id=sale_id)
            self._rest_failed(sale_id)
            return 0
        if drained is None:
            self._behind.discard(sale_id)
            self._rest(sale_id, BUSY_REST_SECONDS)
            return 0
        self._failed_rest.pop(sale_id, None)
        if drained.behind:
            self._behind.add(sale_id)
        else:
            self._behind.discard(sale_id)
        self._cursors[sale_id] = Cursor(drained.position, "")  # the next refresh brings the mark
        return drained.events

    def _mend(self, sale_id: str) -> None:
        """What is not mended now is looked at again after a rest."""
        try:
            mended = self._fence.mend(sale_id)
        except (OperationalError, InterfaceError):
            raise
        except RedisError as error:
            if self._is_away(error):
                raise
            log.warning("sale_not_mended", sale_id=sale_id, error=str(error))
            mended = False
        except Exception:
            log.exception("sale_not_mended", sale_id=sale_id)
            mended = False
        if mended:
            self._failed_rest.pop(sale_id, None)
            self._refresh = Every(REFRESH_SECONDS)
        else:
            self._rest_failed(sale_id)

    def _is_away(self, error: RedisError) -> bool:
        """Whether no sale can be read now. Of a cluster's servers each has its own sales."""
        away = isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError)
        return away and isinstance(self._redis, redis.Redis)

    def _rest(self, sale_id: str, seconds: float) -> None:
        self._resting[sale_id] = time.monotonic() + seconds

    def _rest_failed(self, sale_id: str) -> None:
        first, longest = FAILED_REST_SECONDS
        seconds = self._failed_rest.get(sale_id, first)
        self._failed_rest[sale_id] = min(seconds * 2, longest)
        self._behind.discard(sale_id)
        self._rest(sale_id, seconds)
