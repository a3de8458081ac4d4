"""What the slices of one worker process share. It is built once, at the process's door."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import sqlalchemy
from redis import Redis
from redis.exceptions import RedisError

from engine import connections
from engine.command import Client
from engine.settings import Settings
from payments.context import Context
from payments.tally import Tally
from persistence import database
from workers import money
from workers.stop import Stop


@dataclass(frozen=True, slots=True)
class Runtime:
    """``redis`` has the sales; ``queue`` has the jobs, the slots and the wake list. ``stop`` ends every slice
    early.
    """

    settings: Settings
    db: sqlalchemy.Engine
    redis: Client
    queue: Redis
    payments: Context
    tally: Tally
    stop: Stop = field(default_factory=Stop)
    steps: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8, "step"))
    calls: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(money.THREADS, "call"))

    def close(self) -> None:
        """Wait for the calls that are under way, then disconnect."""
        self.steps.shutdown(cancel_futures=True)
        self.calls.shutdown(cancel_futures=True)
        with contextlib.suppress(RedisError):
            self.tally.flush()
        self.payments.provider.close()
        self.redis.close()
        self.queue.close()
        self.db.dispose()


def queue_redis(settings: Settings) -> Redis:
    """RQ's own Redis. Raises ``SettingError`` where that is a cluster, which RQ cannot use."""
    client = connections.connect(settings.queue_url)
    assert isinstance(client, Redis)
    return client


def check(settings: Settings) -> None:
    """Raises ``SettingError`` for what no worker could use."""
    open_runtime(settings).close()


def open_runtime(settings: Settings) -> Runtime:
    """Connects nothing yet; the first use does. Raises ``SettingError``."""
    queue = queue_redis(settings)
    db = database.connect(
        settings.database_url,
        settings.database_pool_size + money.THREADS,
        prepare=bool(settings.database_prepare),
    )
    client = connections.connect(settings.redis_url)
    payments = money.open_context(settings, db, client, queue)
    return Runtime(settings, db, client, queue, payments, Tally(payments.provider.counters, queue))


_installed: list[Runtime] = []


def install(runtime: Runtime) -> None:
    """Make it the one that this process's jobs use: a job carries nothing but its kind."""
    _installed[:] = [runtime]


def installed() -> Runtime:
    """Raises ``RuntimeError`` in a worker that is not ours, such as a plain ``rq worker``."""
    if not _installed:
        raise RuntimeError("these jobs run in `flashsale worker` only")
    return _installed[0]
