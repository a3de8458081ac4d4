"""Jobs that were put into Redis by hand: the queue's Redis is not the process that holds Stripe's key."""

import json
import os
import pickle
import time
import zlib
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import rq.job
import rq.serializers
from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.group import Group
from rq.registry import clean_registries
from structlog.testing import capture_logs

from tests.workers.conftest import Shop, Workers, eventually
from workers import jobs, queues
from workers.jobs import JOB_BYTES_MAX, JobRefused, WakeJob
from workers.queues import QUEUE_LONG, Kind, queue_name, queue_of, wake
from workers.worker import SliceWorker

CALL: list[Any] = ["slice", None, ["drain"], {}]


@pytest.fixture
def queue(redis_client: Redis) -> Redis:
    return redis_client


class Bomb:
    """Pickled, it writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._path}",)


def packed(call: object) -> bytes:
    return zlib.compress(json.dumps(call).encode())


def hostile_hashes(mark: Path) -> dict[str, Any]:
    """Each job's fields; each would write the file ``mark`` in a plain RQ worker, or would do what is none of ours."""
    bomb = pickle.dumps(Bomb(mark))
    touch = f"touch {mark}"
    return {
        "pickled": {"data": zlib.compress(bomb)},
        "pickled, plain": {"data": bomb},
        "pickled call": {"data": zlib.compress(pickle.dumps(("os.system", None, (touch,), {})))},
        "foreign function": {"data": packed(["os.system", None, [touch], {}])},
        "our module's function": {"data": packed(["workers.slices.run_job", None, ["drain"], {}])},
        "function of an object": {"data": packed(["slice", {"a": 1}, ["drain"], {}])},
        "unknown kind": {"data": packed(["slice", None, ["all"], {}])},
        "no argument": {"data": packed(["slice", None, [], {}])},
        "two arguments": {"data": packed(["slice", None, ["drain", "drain"], {}])},
        "argument by name": {"data": packed(["slice", None, [], {"kind": "drain"}])},
        "argument of another type": {"data": packed(["slice", None, [["drain"]], {}])},
        "function of another type": {"data": packed([["slice"], None, ["drain"], {}])},
        "no call": {"data": packed({"slice": "drain"})},
        "number": {"data": packed(5)},
        "no data": {"origin": "x"},
        "empty data": {"data": b""},
        "not UTF-8": {"data": b"\xff\xfe\x00"},
        "deep": {"data": b"[" * 500},
        "inflates": {"data": zlib.compress(b" " * 400_000)},
        "huge data": {"data": os.urandom(1_000_000)},
        "huge field": {"data": packed(CALL), "description": b"x" * (JOB_BYTES_MAX * 2)},
        "many fields": {"data": packed(CALL)} | {f"f{number}": b"x" for number in range(1000)},
        "success callback": {"data": packed(CALL), "success_callback_name": "os.system"},
        "failure callback": {"data": packed(CALL), "failure_callback_name": "os.system"},
        "stopped callback": {"data": packed(CALL), "stopped_callback_name": "os.system"},
        "webhook": {"data": packed(CALL), "webhooks": '[{"url": "http://127.0.0.1:9", "job_status": "finished"}]'},
        "dependency": {"data": packed(CALL), "dependency_ids": json.dumps(["another"])},
        "old dependency": {"data": packed(CALL), "dependency_id": "another"},
        "meta": {"data": packed(CALL), "meta": bomb},
        "result": {"data": packed(CALL), "result": bomb},
        "group": {"data": packed(CALL), "group_id": "g"},
        "rate limit": {"data": packed(CALL), "rate_limit_key": "k", "rate_limit_concurrency": 1},
        "retries": {"data": packed(CALL), "retries_left": 5},
        "repeats": {"data": packed(CALL), "repeats_left": 5, "repeat_intervals": "[0]"},
    }  # fmt: skip


NAMES = list(hostile_hashes(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_a_job_that_asks_for_more_is_none_of_ours(queue: Redis, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    queue.hset("rq:job:hostile", mapping=hostile_hashes(mark)[name])
    for read in (
        lambda: jobs.load(queue, b"hostile"),
        lambda: WakeJob.fetch("hostile", queue),
        lambda: WakeJob("hostile", queue).restore(queue.hgetall("rq:job:hostile")),
    ):
        with pytest.raises(JobRefused):
            read()
    assert WakeJob.fetch_many(["hostile"], queue) == [None]
    assert not mark.exists()


def test_the_same_jobs_run_in_a_plain_worker_which_is_why(queue: Redis, tmp_path: Path) -> None:
    """The hashes are what RQ takes: else these tests would hold nothing."""
    mark = tmp_path / "mark"
    queue.hset("rq:job:hostile", mapping=hostile_hashes(mark)["meta"])
    rq.job.Job.fetch("hostile", queue)
    assert mark.exists()


@pytest.mark.parametrize(
    "raw_id", [b"", b"\xff\xfe", b"a b", b"../x", b"x" * 65, b"x" * 1_000_000, b"a\x00b", b"a:b:c"]
)
def test_an_id_that_no_job_has_is_passed_over(queue: Redis, raw_id: bytes) -> None:
    with pytest.raises(NoSuchJobError):
        jobs.load(queue, raw_id)


def test_a_key_of_another_type_is_no_job(queue: Redis) -> None:
    queue.rpush("rq:job:hostile", "x")
    with pytest.raises(JobRefused, match="is no hash"):
        jobs.load(queue, b"hostile")


def test_our_own_job_is_read_and_what_a_later_version_adds_to_it_is_left_alone(queue: Redis) -> None:
    made = wake(Kind.SWEEP, queue)
    queue.hset(made.key, mapping={"of_a_later_version": "os.system", "status": "unheard-of", "timeout": "-1"})
    found = jobs.load(queue, made.id.encode())
    assert (found.func_name, found.args, found.kwargs) == ("slice", ["sweep"], {})
    assert found.func.__module__ == "workers.slices"
    assert (found.success_callback, found.failure_callback, found.stopped_callback) == (None, None, None)
    assert (found.webhooks, found.meta, found.dependency_ids, found.timeout) == ([], {}, [], None)


def put(queue: Redis, kind: Kind, raw_id: bytes, fields: Any = None) -> None:
    if fields:
        queue.hset(b"rq:job:" + raw_id, mapping=fields)
    queue.lpush(f"rq:queue:{queue_name(kind)}", raw_id)


def test_what_is_dropped_is_logged_and_does_not_hold_up_the_queue(queue: Redis, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    ours = wake(Kind.DRAIN, queue)
    for number, fields in enumerate(hostile_hashes(mark).values()):
        put(queue, Kind.DRAIN, f"hostile-{number}".encode(), fields)
    for raw_id in (b"\xff\xfe", b"x" * 1000, b"gone"):
        put(queue, Kind.DRAIN, raw_id)
    at = queue_of(Kind.DRAIN, queue)
    queues._Told.at = float("-inf")
    with capture_logs() as logs:
        found = at.dequeue_any([at], None, queue)
    assert found
    assert found[0].id == ours.id
    assert [entry["event"] for entry in logs] == ["job_dropped"], "one line a second, whatever comes"
    assert logs[0]["queue"] == "flashsale-v2-drain"
    assert not queue.keys("rq:job:hostile-*")
    assert not mark.exists()


def test_a_long_queue_of_others_jobs_is_cut(queue: Redis) -> None:
    """100,000 entries cost no more than 64: ours were put last."""
    with queue.pipeline() as pipe:
        for start in range(0, 100_000, 10_000):
            pipe.rpush(f"rq:queue:{queue_name(Kind.DRAIN)}", *[f"bad id {start + number}" for number in range(10_000)])
        pipe.execute()
    ours = wake(Kind.DRAIN, queue)
    at = queue_of(Kind.DRAIN, queue)
    began = time.monotonic()
    found = at.dequeue_any([at], None, queue)
    assert found
    assert found[0].id == ours.id
    assert time.monotonic() - began < 2
    assert at.count <= QUEUE_LONG


def test_workers_go_on_among_hostile_jobs_and_run_none(
    shop: Shop, start_workers: Callable[[int], Workers], scheduler: BaseProcess, queue: Redis, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    for kind in Kind:
        for number, fields in enumerate(hostile_hashes(mark).values()):
            put(queue, kind, f"{kind}-hostile-{number}".encode(), fields)
        put(queue, kind, b"\xff\xfe")
    # Each further place where RQ finds the id of a job.
    hostile: Any = {
        "data": zlib.compress(bomb),
        "meta": bomb,
        "status": "started",
        "failure_callback_name": "os.system",
    }
    queue.hset("rq:job:elsewhere", mapping=hostile)
    past = {"elsewhere": 1}
    for kind in Kind:
        name = queue_name(kind)
        queue.zadd(f"rq:wip:{name}", {"elsewhere:x": 1})
        for registry in ("finished", "failed", "deferred", "ready", "scheduled", "canceled"):
            queue.zadd(f"rq:{registry}:{name}", past)
        queue.rpush(f"rq:queue:{name}:intermediate", "elsewhere")
        queue.sadd(f"rq:job:{wake(kind, queue).id}:dependents", "elsewhere")
    queue.sadd("rq:groups", "g")
    queue.sadd("rq:group:g", "elsewhere")
    queue.sadd("rq:rl-keys", "k")
    queue.zadd("rq:rl:k:allowed", past)
    shop.load(hold_ttl_seconds=1, sneaker=100)
    workers = start_workers(3)
    shop.hold(3, "sneaker")
    eventually(lambda: shop.query("SELECT count(*) FROM holds WHERE status = 'expired'") == 3, "a drain and a sweep")
    eventually(lambda: not queue.keys("rq:job:*-hostile-*"), "all are dropped")
    assert len(workers.pids) == 3
    assert not mark.exists()


def test_tidying_up_loads_no_job(shop: Shop, queue: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ 3.0 builds jobs with its default serializer, which is pickle, in groups, executions and elsewhere."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a job was loaded")

    for place, name in (
        (rq.job.Job, "restore"), (rq.job.Job, "fetch"), (rq.job.Job, "fetch_many"), (Group, "clean_registries"),
        (Execution, "job"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, refuse)
    monkeypatch.setattr("rq.worker.base.clean_registries", refuse)
    queue.zadd(f"rq:wip:{queue_name(Kind.DRAIN)}", {"elsewhere:x": 1})
    with shop.runtime() as runtime:
        worker = SliceWorker(runtime, queue, list(Kind))
        worker.register_birth()  # type: ignore[no-untyped-call]
        worker.run_maintenance_tasks()
        worker.register_death()  # type: ignore[no-untyped-call]


def test_every_part_of_rq_that_is_given_a_queue_of_ours_reads_json(queue: Redis, shop: Shop) -> None:
    with shop.runtime() as runtime:
        worker = SliceWorker(runtime, queue, list(Kind))
    parts: list[Any] = [worker, *worker.queues]
    for at in worker.queues:
        parts += [
            at.failed_job_registry, at.started_job_registry, at.finished_job_registry, at.deferred_job_registry,
            at.ready_job_registry, at.scheduled_job_registry, at.canceled_job_registry,
        ]  # fmt: skip
    assert {part.serializer for part in parts} == {rq.serializers.JSONSerializer}
    assert {part.job_class for part in parts} == {WakeJob}
    assert worker.queue_class is queues.WakeQueue


def test_registries_of_our_queues_run_nothing_of_a_hostile_job(queue: Redis, tmp_path: Path) -> None:
    """No code of ours calls this; a dashboard with our classes might."""
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    queue.hset("rq:job:x", mapping={"data": zlib.compress(bomb), "meta": bomb, "status": "started"})
    queue.zadd(f"rq:wip:{queue_name(Kind.DRAIN)}", {"x:y": 1})
    clean_registries(queue_of(Kind.DRAIN, queue))
    assert not mark.exists()


def test_old_and_new_queues_have_no_name_in_common() -> None:
    assert not {queue_name(kind) for kind in Kind} & {"flashsale-drain", "flashsale-sweep", "flashsale-payments"}
    assert Queue.redis_queue_namespace_prefix == "rq:queue:"
