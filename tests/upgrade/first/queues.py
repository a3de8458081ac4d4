"""RQ's queues, one for each kind of slice. A job is a wake-up and never the record: losing one loses nothing."""

import secrets
from enum import StrEnum

import redis
from rq import Queue
from rq.job import Job

SLICE_SECONDS = 10.0
"""How long a slice runs: long, so that RQ's own work for a job (about 3 ms) is nothing beside it."""
JOB_TIMEOUT_SECONDS = 60
"""When RQ breaks off a slice that hangs."""
JOB_TTL_SECONDS = 15
"""How long a wake-up waits for a worker. An older one says nothing new."""
FAILURE_TTL_SECONDS = 60
SLICE_JOB = "workers.slices.run_job"


class Kind(StrEnum):
    """What a slice does."""

    DRAIN = "drain"
    """Redis's events into Postgres."""
    SWEEP = "sweep"
    """Overdue holds back on sale."""
    PAYMENTS = "payments"
    """Stored payment events, and what is owed to the provider."""


def queue_name(kind: Kind) -> str:
    return f"flashsale-{kind.value}"


def queue_of(kind: Kind, connection: redis.Redis) -> Queue:
    return Queue(queue_name(kind), connection=connection)


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
        failure_ttl=FAILURE_TTL_SECONDS,
        description=f"a slice of {kind.value}",
    )
