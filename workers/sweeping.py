"""The sweep slice's work: overdue holds come back on sale, a bounded number in one call so that buyers never wait
behind it.
"""

import threading
import time
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Engine

from engine import commands, keys
from engine.command import Client, run
from persistence.sales import republish, retire
from workers.sales import Every, read_products

PAUSE_SECONDS = 0.1
"""Between two passes: an abandoned unit is back within this and the pass itself."""
LOOK_SECONDS = 0.5
"""How often a sale with no hold is asked whether it has one by now."""
REFRESH_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 5.0
BATCH_MAX = 100
"""Holds that one call ends: about 2 ms of Redis's time."""
REST_SHARE = 1.0
"""Times as long as a call took that Redis is left alone after it, where there is more to sweep. A call takes longer
where others wait for Redis or for the machine, so the sweep gives way to them.
"""
PRODUCTS_MAX = 100
"""Products that one call looks at."""
CALLS_MAX = 50
"""Calls in a row for one sale before the others get their turn."""
FAILED_REST_SECONDS = 2.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Watched:
    """A sale's products, in groups that one call looks at, and when to look at it next."""

    groups: list[list[str]]
    next_look: float = 0.0


class Sweeper:
    """One sweeper of all sales. Two at once end each hold once: the script decides."""

    def __init__(self, db: Engine, client: Client, stop: threading.Event) -> None:
        self._db = db
        self._redis = client
        self._stop = stop
        self._sales: dict[str, _Watched] = {}
        self._refresh = Every(REFRESH_SECONDS)
        self._housekeeping = Every(HOUSEKEEPING_SECONDS)

    def run_once(self) -> int:
        """Holds that this pass ended. Waits ``PAUSE_SECONDS`` where there was nothing."""
        if self._refresh.due():
            self._read_sales()
        if self._housekeeping.due():
            self._keep_house()
        ended = 0
        for sale_id, watched in self._sales.items():
            if self._stop.is_set():
                break
            if time.monotonic() >= watched.next_look:
                ended += self._look(sale_id, watched)
        if not ended:
            self._stop.wait(PAUSE_SECONDS)
        return ended

    def close(self) -> None:
        """Nothing to end."""

    def _read_sales(self) -> None:
        found = {}
        for sale_id, products in read_products(self._db).items():
            order = sorted(products)
            groups = [order[at : at + PRODUCTS_MAX] for at in range(0, len(order), PRODUCTS_MAX)]
            known = self._sales.get(sale_id)
            found[sale_id] = _Watched(groups, known.next_look if known else 0.0)
        self._sales = found

    def _keep_house(self) -> None:
        try:
            republish(self._db, self._redis)
            retire(self._db, self._redis)
        except RedisError as error:
            log.warning("housekeeping_failed", error=str(error))

    def _look(self, sale_id: str, watched: _Watched) -> int:
        try:
            return self._sweep(sale_id, watched)
        except RedisError as error:
            log.warning("sale_not_swept", sale_id=sale_id, error=str(error))
        except Exception:
            log.exception("sale_not_swept", sale_id=sale_id)
        watched.next_look = time.monotonic() + FAILED_REST_SECONDS
        return 0

    def _sweep(self, sale_id: str, watched: _Watched) -> int:
        ended, any_hold = 0, False
        for group in watched.groups:
            if not self._has_holds(sale_id, group):
                continue
            any_hold = True
            ended += self._expire(sale_id, group)
        watched.next_look = 0.0 if any_hold else time.monotonic() + LOOK_SECONDS
        return ended

    def _has_holds(self, sale_id: str, group: list[str]) -> bool:
        """One cheap question for all products: a set without entries does not exist."""
        names = [keys.deadlines(sale_id, product) for product in group]
        return bool(self._redis.exists(*names))

    def _expire(self, sale_id: str, group: list[str]) -> int:
        ended = 0
        for _ in range(CALLS_MAX):
            began = time.monotonic()
            count, more = run(self._redis, commands.expire(sale_id, group, BATCH_MAX))
            ended += count
            if not more or self._stop.wait((time.monotonic() - began) * REST_SHARE):
                break
        return ended
