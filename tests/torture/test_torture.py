"""`make torture`: whatever is killed in a running sale, and whatever Redis forgets, the promises hold. Two short runs
of the same are part of `make test`.
"""

import os
import random
import statistics
import time
from collections.abc import Iterable, Iterator
from itertools import cycle, islice

import pytest

from tests.torture.rounds import Round, kill_in_a_sale, roll_back_in_a_sale
from tests.torture.stage import COMPONENTS, Stage

KILLS, ROLLBACKS = 50, 20
NOTICED_SECONDS, SELLING_SECONDS = 1.0, 5.0
BUSY_LOAD = 2
"""Processes that wait for each core, past which no time means anything."""

pytestmark = pytest.mark.xdist_group("torture")


def _seed(default: int | None = None) -> int:
    return int(os.environ.get("SEED") or (random.randrange(1_000_000) if default is None else default))


@pytest.fixture(scope="module")
def seed() -> int:
    return _seed()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("torture"), random.Random(seed)) as stage:
        yield stage


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - `make torture` shows it


def _held(rounds: Iterable[Round]) -> list[Round]:
    """Each round told as it ends; they fail together."""
    done = []
    for each in rounds:
        done.append(each)
        times = (
            f"back in {each.recovered:.1f} s"
            if each.recovered
            else (f"noticed in {each.noticed:.2f} s, sold again in {each.selling:.2f} s")
        )
        verdict = "ok" if not each.broken else f"BROKEN {len(each.broken)}"
        counts = f"{each.holds} holds, {each.paid} seen paid, {each.lost} lost"
        _tell(f"{len(done):3} {each.what}: {counts}; {times}, settled in {each.settled:.1f} s: {verdict}")
        for broken in each.broken:
            _tell(f"      {broken}")
    return done


@pytest.mark.timeout(600)
def test_the_api_redis_and_postgres_are_killed_in_a_sale(stage: Stage, seed: int) -> None:
    luck = random.Random(seed)
    for component in ("api", "redis", "postgres"):
        [done] = _held([kill_in_a_sale(stage, component, luck)])
        assert not done.broken, (seed, done)
        assert done.holds > 0


@pytest.mark.timeout(600)
def test_a_redis_rolled_back_in_a_sale_and_grown_past_the_cursor_is_noticed(stage: Stage, seed: int) -> None:
    [done] = _held([roll_back_in_a_sale(stage, random.Random(seed), grown=True)])
    assert not done.broken, (seed, done)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_fifty_kills_in_running_sales(stage: Stage, seed: int) -> None:
    _tell(f"\nseed {seed}: SEED={seed} make torture")
    luck, began = random.Random(seed), time.monotonic()
    components = list(islice(cycle(luck.sample(COMPONENTS, len(COMPONENTS))), KILLS))
    done = _held(kill_in_a_sale(stage, component, luck) for component in components)
    holds, seconds = sum(each.holds for each in done), time.monotonic() - began
    _tell(f"{KILLS} kills, {holds} acknowledged holds, {sum(each.paid for each in done)} seen paid, {seconds:.0f} s")
    assert [each for each in done if each.broken] == []


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_twenty_rollbacks_of_redis_in_running_sales(stage: Stage, seed: int) -> None:
    _tell(f"\nseed {seed}: SEED={seed} make torture")
    luck, began = random.Random(seed), time.monotonic()
    done = _held(roll_back_in_a_sale(stage, luck, grown=nth % 2 == 1) for nth in range(ROLLBACKS))
    seconds = time.monotonic() - began
    for name, bound, times in (
        ("noticed", NOTICED_SECONDS, [each.noticed for each in done]),
        ("sold again", SELLING_SECONDS, [each.selling for each in done]),
    ):
        _tell(f"{name}: median {statistics.median(times):.2f} s, worst {max(times):.2f} s, wanted within {bound:g} s")
    _tell(f"{ROLLBACKS} rollbacks, {sum(each.lost for each in done)} answered hold_lost, {seconds:.0f} s")
    assert [each for each in done if each.broken] == []
    if os.getloadavg()[0] > BUSY_LOAD * (os.cpu_count() or 1):
        _tell("this machine does much else: its times say nothing")
        return
    assert max(each.noticed for each in done) <= NOTICED_SECONDS
    assert max(each.selling for each in done) <= SELLING_SECONDS
