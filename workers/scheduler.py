"""The scheduler keeps slices running: where a queue is short it enqueues a wake-up, whatever became of the ones
before.
"""

import redis
import structlog
from redis.exceptions import RedisError

from workers.queues import wake_where_short
from workers.stop import Stop

PERIOD_SECONDS = 0.5

log = structlog.get_logger()


class Scheduler:
    """Any number may run beside each other: one wake-up too many finds no slot and returns."""

    def __init__(self, queue: redis.Redis, stop: Stop | None = None) -> None:
        self._queue = queue
        self.stop = stop or Stop()

    def run_once(self) -> int:
        """Wake-ups that were enqueued. Raises ``RedisError``."""
        return wake_where_short(self._queue)

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
