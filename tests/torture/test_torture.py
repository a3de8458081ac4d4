"""`make torture`: whatever is killed in a running sale, and whatever Redis forgets, the promises hold. Two short runs
of the same are part of `make test`.
"""

import os
import random
import statistics
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.torture.rounds import Round, kill_in_a_sale, roll_back_in_a_sale
from tests.torture.stage import COMPONENTS, Stage

KILLS, ROLLBACKS = 50, 20
NOTICED_SECONDS, SELLING_SECONDS = 1.0, 5.0
SLOW_SECONDS = 10.0
"""Settled later than this, it is told what was waited for."""
BUSY_LOAD = 2
"""Processes that wait for each core, past which no time means anything."""

pytestmark = pytest.mark.xdist_group("torture")


def _seed(default: int | None = None) -> int:
    return int(os.environ.get("SEED") or (random.randrange(1_000_000) if default is None else default))


@pytest.fixture(scope="module")
def seed() -> int:
    return _seed()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("torture")) as stage:
        yield stage


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - `make torture` shows it


def _luck(seed: int, nth: int) -> random.Random:
    """A round's own, so that it can be run again without those before it."""
    return random.Random(f"{seed} {nth}")


def _chosen(rounds: int) -> range:
    """The numbers of the rounds to run, from 1: all, or those of ``ROUNDS=4-7``."""
    first, _, last = os.environ.get("ROUNDS", "").partition("-")
    chosen = range(int(first or 1), min(int(last or first or rounds), rounds) + 1)
    return chosen or pytest.skip(f"there are {rounds} rounds")


def _held(rounds: Iterable[tuple[int, Round]]) -> list[Round]:
    """Each round told as it ends; they fail together."""
    done = []
    for nth, each in rounds:
        done.append(each)
        times = (
            f"back in {each.recovered:.1f} s"
            if each.recovered
            else (f"noticed in {each.noticed:.2f} s, sold again in {each.selling:.2f} s")
        )
        verdict = "ok" if not each.broken else f"BROKEN {len(each.broken)}"
        counts = f"{each.holds} holds, {each.paid} seen paid, {each.lost} lost"
        _tell(f"{nth:3} {each.what}: {counts}; {times}, settled in {each.settled:.1f} s: {verdict}")
        if each.settled > SLOW_SECONDS:
            _tell(f"      waited for {each.waited_for}")
        for broken in each.broken:
            _tell(f"      {broken}")
    return done


@pytest.mark.timeout(600)
def test_the_api_redis_and_postgres_are_killed_in_a_sale(stage: Stage, seed: int) -> None:
    for nth, component in enumerate(("api", "redis", "postgres"), 1):
        [done] = _held([(nth, kill_in_a_sale(stage, component, _luck(seed, nth)))])
        assert not done.broken, (seed, done)
        assert done.holds > 0


@pytest.mark.timeout(600)
def test_a_redis_rolled_back_in_a_sale_and_grown_past_the_cursor_is_noticed(stage: Stage, seed: int) -> None:
    [done] = _held([(1, roll_back_in_a_sale(stage, _luck(seed, 1), grown=True))])
    assert not done.broken, (seed, done)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_fifty_kills_in_running_sales(stage: Stage, seed: int) -> None:
    _tell(f"\nseed {seed}: SEED={seed} make torture")
    began, turns = time.monotonic(), random.Random(seed).sample(COMPONENTS, len(COMPONENTS))
    done = _held((nth, kill_in_a_sale(stage, turns[nth % len(turns)], _luck(seed, nth))) for nth in _chosen(KILLS))
    holds, seconds = sum(each.holds for each in done), time.monotonic() - began
    _tell(
        f"{len(done)} kills, {holds} acknowledged holds, {sum(each.paid for each in done)} seen paid, {seconds:.0f} s"
    )
    assert [each for each in done if each.broken] == []


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_twenty_rollbacks_of_redis_in_running_sales(stage: Stage, seed: int) -> None:
    _tell(f"\nseed {seed}: SEED={seed} make torture")
    began = time.monotonic()
    done = _held((nth, roll_back_in_a_sale(stage, _luck(seed, nth), grown=nth % 2 == 0)) for nth in _chosen(ROLLBACKS))
    seconds = time.monotonic() - began
    for name, bound, times in (
        ("noticed", NOTICED_SECONDS, [each.noticed for each in done]),
        ("sold again", SELLING_SECONDS, [each.selling for each in done]),
    ):
        _tell(f"{name}: median {statistics.median(times):.2f} s, worst {max(times):.2f} s, wanted within {bound:g} s")
    _tell(f"{len(done)} rollbacks, {sum(each.lost for each in done)} answered hold_lost, {seconds:.0f} s")
    assert [each for each in done if each.broken] == []
    if os.getloadavg()[0] > BUSY_LOAD * (os.cpu_count() or 1):
        _tell("this machine does much else: its times say nothing")
        return
    assert max(each.noticed for each in done) <= NOTICED_SECONDS
    assert max(each.selling for each in done) <= SELLING_SECONDS
