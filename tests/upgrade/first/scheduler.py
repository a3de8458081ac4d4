"""The scheduler keeps slices running: where a queue is short it enqueues a wake-up, whatever became of the ones
before.
"""

import redis
import structlog
from redis.exceptions import RedisError

from workers.queues import Kind, queue_name, wake
from workers.stop import Stop

PERIOD_SECONDS = 0.5
QUEUE_SHORT = 3
"""Wake-ups that wait for a worker at most, of each kind. Expired ones count too; a worker that comes back skips
them at once.
"""
_RQ_QUEUE_KEY = "rq:queue:{}"

log = structlog.get_logger()


class Scheduler:
    """Any number may run beside each other: one wake-up too many finds no slot and returns."""

    def __init__(self, queue: redis.Redis, stop: Stop | None = None) -> None:
        self._queue = queue
        self.stop = stop or Stop()

    def run_once(self) -> int:
        """Wake-ups that were enqueued. Raises ``RedisError``."""
        woken = 0
        for kind in Kind:
            if self._queue.llen(_RQ_QUEUE_KEY.format(queue_name(kind))) < QUEUE_SHORT:
                wake(kind, self._queue)
                woken += 1
        return woken

    def run(self) -> None:
        """Until ``stop`` is set; a Redis that is away is waited for."""
        away = False
        while not self.stop.is_set():
            try:
                self.run_once()
                if away:
                    log.info("scheduler_reconnected")
                away = False
            except RedisError as error:
                if not away:
                    log.warning("scheduler_without_redis", error=str(error))
                away = True
            self.stop.wait(PERIOD_SECONDS)
