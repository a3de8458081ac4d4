"""One worker process: RQ's SimpleWorker, which runs our slices in this very process, for the whole of its life."""

import contextlib
import os
import random
import signal
import threading
import time
from types import FrameType

import redis
import structlog
from redis.exceptions import RedisError
from rq import SimpleWorker, worker_registration
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.utils import now
from rq.worker import DequeueStrategy, WorkerStatus

from engine import garbage, tracing
from engine.settings import Settings
from workers.jobs import WakeJob
from workers.queues import JOB_TIMEOUT_SECONDS, Kind, WakeQueue, queue_of, wake_where_short
from workers.runtime import Runtime, install, open_runtime, queue_redis
from workers.stop import Stop

WORKER_TTL_SECONDS = 30
"""A worker waits for a job half of this, and is forgotten by RQ after it and a minute."""
MAINTENANCE_SECONDS = 60
"""How often RQ forgets workers that were killed."""
AGAIN_SECONDS = (0.2, 0.5)
"""Pause before a worker starts again whose Redis went away. One that comes back without its last data is to be noticed
within a second.
"""
PARENT_CHECK_SECONDS = 0.5

log = structlog.get_logger()


class SliceWorker(SimpleWorker):
    """RQ's worker, changed so: a signal ends the slice that runs, a Redis that is away ends nothing, a start is
    followed by work before RQ tidies up, and a job is a ``WakeJob`` and nothing more.

    RQ's own records of a job (executions, results, registries, retries, callbacks, webhooks, dependents, groups, rate
    limits) are neither written nor read. A wake-up needs none, and each is a way for a writer of the queue's Redis to
    have a job loaded that was never checked: RQ 3.0 builds some of those jobs without the queue's serializer (pickle).
    """

    job_class = WakeJob
    queue_class = WakeQueue

    max_connection_wait_time = AGAIN_SECONDS[1]
    log_result_lifespan = False

    def __init__(self, runtime: Runtime, connection: redis.Redis, kinds: list[Kind]) -> None:
        super().__init__(
            [queue_of(kind, connection) for kind in kinds],
            connection=connection,
            worker_ttl=WORKER_TTL_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            log_job_description=False,
            serializer=JSONSerializer,
        )
        self._runtime = runtime
        self.last_cleaned_at = now()  # type: ignore[assignment]

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the function, then forget the job. A slice that hangs is broken off."""
        self.set_state(WorkerStatus.BUSY)  # so that a signal ends the slice, and not this call
        try:
            with self.death_penalty_class(JOB_TIMEOUT_SECONDS, JobTimeoutException, job_id=job.id):
                job.perform()
        except Exception:
            log.exception("job_failed", queue=queue.name, job_id=job.id)
        self.connection.unlink(job.key)
        self.set_state(WorkerStatus.IDLE)

    def run_maintenance_tasks(self) -> None:
        """Forget workers that were killed. There is nothing else to tidy up."""
        for queue in self.queues:
            worker_registration.clean_worker_registry(queue)
        self.last_cleaned_at = now()  # type: ignore[assignment]

    def handle_warm_shutdown_request(self) -> None:
        self._runtime.stop.set()

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """A second signal changes nothing: a slice that was told to stop does so within a second."""

    def set_shutdown_requested_date(self) -> None:
        """Nobody reads it, and it would be a call in a signal handler, in the middle of anything."""

    def subscribe(self) -> None:
        """No channel for RQ's remote commands: slices end by themselves, and a thread less can fail."""

    def unsubscribe(self) -> None:
        pass


def run_worker(settings: Settings, number: int = 0) -> None:
    """Work until SIGTERM or SIGINT, and return; a slice that runs ends early. ``number`` spreads the kinds over the
    processes. Raises ``SettingError``; Redis or Postgres being away is waited for.
    """
    tracing.start("worker")
    runtime = open_runtime(settings)
    install(runtime)
    garbage.rest()
    _stop_on_signals(runtime.stop)
    kinds = list(Kind)
    kinds = kinds[number % len(kinds) :] + kinds[: number % len(kinds)]
    pause = AGAIN_SECONDS[0]
    while not runtime.stop.is_set():
        started = time.monotonic()
        try:
            with contextlib.closing(queue_redis(settings)) as connection:  # its own: RQ sets its time-out
                wake_where_short(connection)  # the scheduler may be of a version with other queues
                worker = SliceWorker(runtime, connection, kinds)
                worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
        except RedisError as error:
            log.warning("worker_without_redis", error=str(error))
        except Exception:
            log.exception("worker_failed")
        _stop_on_signals(runtime.stop)
        pause = AGAIN_SECONDS[0] if time.monotonic() - started > 10 else min(pause * 2, AGAIN_SECONDS[1])
        runtime.stop.wait(pause)
    runtime.close()
    tracing.stop()


def _stop_on_signals(stop: Stop) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def run_child(settings: Settings, number: int, parent: int) -> None:
    """What a process of the pool does after its fork. It ends with its parent, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
    random.seed()
    run_worker(settings, number)
