"""RQ's queues, one for each kind of slice. A job is a wake-up and never the record: losing one loses nothing."""

import secrets
import time
from collections.abc import Iterable
from typing import Any

import redis
import structlog
from rq import Queue
from rq.exceptions import DequeueTimeout, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from workers.jobs import SLICE_JOB, JobRefused, Kind, WakeJob, load

__all__ = ["Kind", "WakeQueue", "queue_name", "queue_of", "wake", "wake_where_short"]

SLICE_SECONDS = 10.0
"""How long a slice runs: long, so that RQ's own work for a job is nothing beside it."""
JOB_TIMEOUT_SECONDS = 60
"""When a worker breaks off a slice that hangs."""
JOB_TTL_SECONDS = 15
"""How long a wake-up waits for a worker. An older one says nothing new."""
QUEUE_SHORT = 3
"""Wake-ups that wait for a worker at most, of each kind. Expired ones count too; a worker that comes back skips
them at once.
"""
QUEUE_LONG = 64
"""Entries of a queue, past which the oldest go once one of them was none of ours."""
TELL_SECONDS = 1.0

log = structlog.get_logger()


def queue_name(kind: Kind) -> str:
    """Its second version, whose jobs are JSON. Those of the first are pickled, and meet no worker of this one."""
    return f"flashsale-v2-{kind.value}"


class WakeQueue(Queue):
    """A queue of ``WakeJob``. An entry that is none of ours is dropped, and the next is taken."""

    job_class = WakeJob

    @classmethod
    def dequeue_any(
        cls,
        queues: Iterable[Queue],
        timeout: int | None,
        connection: redis.Redis,
        job_class: Any = None,  # noqa: ARG003  # RQ's signature; these queues have one class of job
        serializer: Any = None,  # noqa: ARG003
        death_penalty_class: Any = None,  # noqa: ARG003
    ) -> tuple[Job, Queue] | None:
        """The next job and its queue. Waits ``timeout`` seconds in all, then raises ``DequeueTimeout``; None does not
        wait, and then there may be none.
        """
        by_key = {queue.key: queue for queue in queues}
        ends_at = time.monotonic() + (timeout or 0)
        while True:
            entry = _pop(connection, list(by_key), timeout)
            if entry is None:
                return None
            key, raw_id = entry
            try:
                return load(connection, raw_id), by_key[key]
            except JobRefused as refused:
                _drop(connection, by_key[key], raw_id, str(refused))
            except NoSuchJobError:
                pass  # it waited for too long
            if timeout is not None and time.monotonic() > ends_at:
                raise DequeueTimeout(timeout, list(by_key))


def _pop(connection: redis.Redis, keys: list[str], timeout: int | None) -> tuple[str, bytes] | None:
    if timeout is not None:
        found: Any = connection.blpop(keys, timeout)
        if found is None:
            raise DequeueTimeout(timeout, keys)
        return found[0].decode(), found[1]
    for key in keys:
        entry: Any = connection.lpop(key)
        if entry is not None:
            return key, entry
    return None


class _Told:
    """When a dropped job was logged last, and how many were dropped since: a flood of them does not fill the log."""

    at = float("-inf")
    dropped = 0


def _drop(connection: redis.Redis, queue: Queue, raw_id: bytes, why: str) -> None:
    """Log it, and take its hash away. Of a long queue only the newest entries stay."""
    _Told.dropped += 1
    if time.monotonic() - _Told.at > TELL_SECONDS:
        shown = raw_id[:64].decode("ascii", "backslashreplace")
        log.warning("job_dropped", queue=queue.name, job_id=shown, why=why, dropped=_Told.dropped)
        _Told.at, _Told.dropped = time.monotonic(), 0
    connection.unlink(b"rq:job:" + raw_id)
    if connection.llen(queue.key) > QUEUE_LONG:
        connection.ltrim(queue.key, -QUEUE_LONG, -1)


def queue_of(kind: Kind, connection: redis.Redis) -> WakeQueue:
    return WakeQueue(queue_name(kind), connection=connection, serializer=JSONSerializer)


def wake(kind: Kind, connection: redis.Redis) -> Job:
    """Enqueue a wake-up. Its id is random: a unique one would be held back by a job that says "started", whose
    worker may be dead.
    """
    return queue_of(kind, connection).enqueue_call(
        SLICE_JOB,
        args=(kind.value,),
        job_id=f"{kind.value}-{secrets.token_hex(8)}",
        timeout=JOB_TIMEOUT_SECONDS,
        ttl=JOB_TTL_SECONDS,
        result_ttl=0,
        description=f"a slice of {kind.value}",
    )


def wake_where_short(connection: redis.Redis) -> int:
    """Enqueue a wake-up of each kind whose queue is short; how many. Raises ``RedisError``."""
    woken = 0
    for kind in Kind:
        if connection.llen(f"rq:queue:{queue_name(kind)}") < QUEUE_SHORT:
            wake(kind, connection)
            woken += 1
    return woken
