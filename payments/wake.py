"""The list by which whoever stored a payment event, or recorded a debt, tells the payments slice at once. Losing a
call costs a quarter of a second.
"""

import redis
from redis.exceptions import TimeoutError

from engine.command import Client

WAKE_KEY = "fs:wake:payments"
WAIT_SECONDS = 0.25
CALLS_KEPT = 16
"""Calls that wait at most: one is enough, and nobody may be listening."""


def call(queue: Client) -> None:
    """Raises ``RedisError``."""
    pipeline = queue.pipeline(transaction=False)
    pipeline.lpush(WAKE_KEY, 1)
    pipeline.ltrim(WAKE_KEY, 0, CALLS_KEPT - 1)
    pipeline.execute()


def wait(queue: redis.Redis, seconds: float = WAIT_SECONDS) -> bool:
    """Whether somebody called within that time. One look answers all calls so far."""
    try:
        called = queue.blpop([WAKE_KEY], timeout=seconds)
    except TimeoutError:
        return False
    if called:
        queue.delete(WAKE_KEY)
    return bool(called)
