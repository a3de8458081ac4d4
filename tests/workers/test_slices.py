"""Slices take slots, hand over, and go on after a worker was killed; losing a job loses nothing."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from engine.settings import SettingError, Settings
from payments import tally, wake
from payments.provider import Counters
from sandbox.servers import EmbeddedRedis
from tests.workers.conftest import Shop, Workers, eventually
from workers import slots
from workers.paying import Payer
from workers.pool import Pool
from workers.queues import QUEUE_SHORT, Kind, queue_name, queue_of
from workers.queues import wake as enqueue
from workers.runtime import open_runtime, queue_redis
from workers.scheduler import Scheduler
from workers.slices import run_slice
from workers.slots import SLOT_SECONDS, Slot, slot_key


@pytest.fixture
def queue(redis_client: Redis) -> Redis:
    return redis_client


def waiting(queue: Redis, kind: Kind) -> int:
    return int(queue_of(kind, queue).count)


def test_a_slice_enqueues_its_successor(shop: Shop, queue: Redis) -> None:
    with shop.runtime() as runtime:
        assert run_slice(runtime, Kind.SWEEP, seconds=0.2)
    assert waiting(queue, Kind.SWEEP) == 1
    assert not queue.exists(slot_key(Kind.SWEEP, 0))


def test_a_job_that_finds_no_slot_returns_at_once_and_has_no_successor(shop: Shop, queue: Redis) -> None:
    for kind in Kind:
        queue.set(slot_key(kind, 0), "somebody")
    queue.set(slot_key(Kind.SWEEP, 1), "somebody else")
    with shop.runtime() as runtime:
        began = time.monotonic()
        assert not run_slice(runtime, Kind.SWEEP)
        assert time.monotonic() - began < 8, "a slice would have lasted ten seconds"
    assert waiting(queue, Kind.SWEEP) == 0


def test_a_second_slice_of_a_kind_waits_until_every_kind_has_its_first(queue: Redis) -> None:
    with slots.take(queue, Kind.DRAIN) as first:
        assert first
        with slots.take(queue, Kind.DRAIN) as second:
            assert second is None
        queue.set(slot_key(Kind.SWEEP, 0), "somebody")
        queue.set(slot_key(Kind.PAYMENTS, 0), "somebody")
        with slots.take(queue, Kind.DRAIN) as second:
            assert second
            assert second.number == 1


def test_a_slice_that_is_blocked_keeps_its_slot_and_a_dead_one_loses_it(queue: Redis) -> None:
    slot = Slot(queue, Kind.DRAIN, 0)
    assert slot.take()
    time.sleep(SLOT_SECONDS + 0.5)
    assert queue.exists(slot_key(Kind.DRAIN, 0))
    slot.leave()
    assert not queue.exists(slot_key(Kind.DRAIN, 0))
    queue.set(slot_key(Kind.DRAIN, 0), "killed", px=int(SLOT_SECONDS * 1000))
    assert not Slot(queue, Kind.DRAIN, 0).take()
    eventually(Slot(queue, Kind.DRAIN, 0).take, "the slot free again", SLOT_SECONDS + 1)


def test_a_slot_that_somebody_else_has_by_now_is_left_to_them(queue: Redis) -> None:
    slot = Slot(queue, Kind.DRAIN, 0)
    assert slot.take()
    queue.set(slot_key(Kind.DRAIN, 0), "another")
    assert slot.lost.wait(2)
    slot.leave()
    assert queue.get(slot_key(Kind.DRAIN, 0)) == b"another"


def test_a_slot_that_redis_forgot_is_taken_again(queue: Redis) -> None:
    slot = Slot(queue, Kind.DRAIN, 0)
    assert slot.take()
    queue.flushdb()
    eventually(lambda: bool(queue.exists(slot_key(Kind.DRAIN, 0))), "ours again")
    assert not slot.lost.is_set()
    slot.leave()
    assert not queue.exists(slot_key(Kind.DRAIN, 0))


def test_a_slice_outlasts_a_redis_that_is_away(shop: Shop, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        replace(shop, redis=server.client()).load(sneaker=1)
        runtime = open_runtime(replace(shop.settings, redis_url=server.url))
        ended = threading.Event()

        def work() -> None:
            run_slice(runtime, Kind.DRAIN, seconds=0.2)
            ended.set()

        thread = threading.Thread(target=work)
        thread.start()
        eventually(lambda: bool(server.client().exists(slot_key(Kind.DRAIN, 0))), "the slice runs")
        server.kill()
        assert not ended.wait(SLOT_SECONDS + 1), "it ended, and had nothing to hand over by"
        server.start()
        assert ended.wait(5)
        thread.join()
        assert waiting(server.client(), Kind.DRAIN) == 1
        runtime.close()


def test_a_slice_makes_room_for_a_kind_that_has_none(shop: Shop) -> None:
    with shop.runtime() as runtime:
        began = time.monotonic()
        assert run_slice(runtime, Kind.SWEEP, seconds=30)
        assert time.monotonic() - began < 20


def test_the_scheduler_keeps_a_few_wake_ups_and_no_more(queue: Redis) -> None:
    scheduler = Scheduler(queue)
    assert [scheduler.run_once() for _ in range(QUEUE_SHORT + 2)] == [3] * QUEUE_SHORT + [0, 0]


def test_the_scheduler_survives_a_redis_that_comes_and_goes(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        scheduler = Scheduler(queue_redis(Settings(redis_url=server.url)))
        thread = threading.Thread(target=scheduler.run)
        thread.start()
        try:
            eventually(lambda: waiting(server.client(), Kind.DRAIN) > 0, "a wake-up")
            server.kill()
            time.sleep(0.7)
            server.start()
            server.client().flushall()
            eventually(lambda: waiting(server.client(), Kind.DRAIN) > 0, "a wake-up after the restart")
        finally:
            scheduler.stop.set()
            thread.join()


def test_work_goes_on_after_every_worker_was_killed_in_its_slice(
    shop: Shop, start_workers: Callable[[int], Workers], scheduler: BaseProcess
) -> None:
    shop.load(hold_ttl_seconds=1, sneaker=100)
    workers = start_workers(3)
    shop.hold(1, "sneaker")
    eventually(lambda: shop.query("SELECT count(*) FROM holds WHERE status = 'expired'") == 1, "a drain and a sweep")
    killed = set(workers.pids)
    workers.kill_all()
    shop.hold(4, "sneaker")
    eventually(
        lambda: shop.query("SELECT count(*) FROM holds WHERE status = 'expired'") == 5, "the same by new workers"
    )
    assert not killed & set(workers.pids)


def test_work_goes_on_without_a_scheduler(
    shop: Shop, start_workers: Callable[[int], Workers], scheduler: BaseProcess
) -> None:
    shop.load(sneaker=100)
    start_workers(3)
    shop.hold(1, "sneaker")
    eventually(lambda: shop.held_rows() == 1, "a drain")
    scheduler.kill()
    scheduler.join()
    shop.hold(1, "sneaker")
    eventually(lambda: shop.held_rows() == 2, "the slice that runs, or its successor")


def test_one_process_alone_does_every_kind_in_turn(
    shop: Shop, start_workers: Callable[[int], Workers], scheduler: BaseProcess
) -> None:
    shop.load(hold_ttl_seconds=1, sneaker=100)
    start_workers(1)
    shop.hold(3, "sneaker")
    eventually(lambda: shop.query("SELECT count(*) FROM holds WHERE status = 'expired'") == 3, "a drain and a sweep")


def test_sigterm_ends_slices_early_and_leaves_no_process(
    shop: Shop, start_workers: Callable[[int], Workers], scheduler: BaseProcess, queue: Redis
) -> None:
    workers = start_workers(3)
    eventually(lambda: bool(queue.exists(slot_key(Kind.DRAIN, 0))), "a slice")
    pids = workers.pids
    began = time.monotonic()
    assert workers.end() == 0
    assert time.monotonic() - began < 8, "a slice would have lasted ten seconds"
    assert pids
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not queue.exists(slot_key(Kind.DRAIN, 0))


def test_a_payments_step_that_fails_does_not_stop_the_others(shop: Shop) -> None:
    with shop.runtime() as runtime:
        payer = Payer(runtime.payments, runtime.queue, runtime.tally, runtime.steps, runtime.calls)
        broken, working = payer._loops[:2]
        done = threading.Event()

        def fail(*_: object) -> int:
            raise ValueError("broken")

        def work(*_: object) -> int:
            done.set()
            return 0

        broken.step, working.step = fail, work
        payer.run_once()
        assert done.wait(5)
        done.clear()
        time.sleep(wake.WAIT_SECONDS)
        payer.run_once()
        payer.run_once()
        assert done.wait(5)


def test_what_the_payments_slices_counted_is_added_up_and_nothing_twice(shop: Shop, queue: Redis) -> None:
    with shop.runtime() as first, shop.runtime() as second:
        for runtime in (first, second):
            for _ in range(3):
                runtime.payments.provider.counters.count("calls")
            run_slice(runtime, Kind.PAYMENTS, seconds=0.1)
            run_slice(runtime, Kind.PAYMENTS, seconds=0.1)
        assert tally.read(queue) == dict.fromkeys(Counters.NAMES, 0) | {"calls": 6}
        first.payments.provider.counters.count("declined")  # by a step that outlives its slice
    assert tally.read(queue)["declined"] == 1


def test_what_could_not_be_told_is_told_later(shop: Shop, queue: Redis) -> None:
    counters = Counters()
    counters.count("retries")
    away = Redis(port=1)
    told = tally.Tally(counters, away)
    with pytest.raises(RedisError):
        told.flush()
    told._queue = queue
    told.flush()
    told.flush()
    assert tally.read(queue)["retries"] == 1


def test_a_wake_up_is_answered_at_once(queue: Redis) -> None:
    threading.Timer(0.1, wake.call, [queue]).start()
    began = time.monotonic()
    assert wake.wait(queue, 10)
    assert time.monotonic() - began < 8
    assert not wake.wait(queue, 0.05)


def test_a_cluster_for_the_queue_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingError, match="FLASHSALE_QUEUE_REDIS_URL"):
        queue_redis(Settings(redis_url="redis+cluster://127.0.0.1:1"))


def test_workers_want_a_payment_provider(shop: Shop) -> None:
    with pytest.raises(SettingError, match="FLASHSALE_STRIPE_SECRET_KEY"):
        Pool(Settings(redis_url=shop.settings.redis_url, database_url=shop.settings.database_url))


def test_jobs_are_short_lived_wake_ups_under_our_own_names(queue: Redis) -> None:
    job = enqueue(Kind.DRAIN, queue)
    assert queue_name(Kind.DRAIN) == "flashsale-v2-drain"
    assert tuple(job.args) == ("drain",)
    assert job.result_ttl == 0
    assert 0 < queue.ttl(job.key) <= 15
