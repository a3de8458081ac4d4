"""What the workers' calls to the provider came to, in a hash on the queue's Redis: workers have no port to be asked at,
so the API shows it.
"""

from typing import Any, Final

from engine.command import Client
from payments.provider import Counters

METRICS_KEY: Final = "fs:metrics"
"""Hash: a name of ``Counters`` -> how often, of all workers together."""


class Tally:
    """Brings one process's counters there, a flush at a time. For one thread."""

    def __init__(self, counters: Counters, queue: Client) -> None:
        self._counters = counters
        self._queue = queue
        self._told = dict.fromkeys(Counters.NAMES, 0)

    def flush(self) -> None:
        """Add what was counted since the last flush. Raises ``RedisError``: the next flush brings it then."""
        counted = self._counters.read()
        news = {name: number - self._told[name] for name, number in counted.items() if number > self._told[name]}
        if not news:
            return
        pipeline = self._queue.pipeline(transaction=False)
        for name, number in news.items():
            pipeline.hincrby(METRICS_KEY, name, number)
        pipeline.execute()
        self._told = counted


def read(queue: Client) -> dict[str, int]:
    """How often each thing happened, in all workers. Raises ``RedisError``."""
    found: Any = queue.hgetall(METRICS_KEY)
    known = {name.decode(): int(number) for name, number in found.items()}
    return {name: known.get(name, 0) for name in Counters.NAMES}
