"""Ten times what the API serves is offered: who is admitted is served as quickly as at half load, the others are told
so at once, memory stays flat, and it is over when the rush is.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from engine.batcher import CALLS_MAX, STANDING_BATCHES
from loadtests import openloop
from loadtests.openloop import Outcome, Plan
from tests.api.server import Shop, product
from tests.faults.house import House
from tests.faults.slow import slow_road

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(300)]

ROAD_SECONDS = 0.05
"""What a script call takes at least, so that the machine's speed matters little."""
BATCH_MAX = 4
SERVED_MAX = CALLS_MAX * BATCH_MAX / ROAD_SECONDS
"""Holds a second, at most: 160."""
AT_ONCE = (CALLS_MAX + STANDING_BATCHES) * BATCH_MAX
"""Holds that are on their way or may wait when more comes than is served."""
GROWTH_MAX_MIB = 50
STOCK = 1_000_000


@dataclass
class Rush:
    """Load on an API that serves little."""

    house: House
    shop: Shop
    product: str
    sent: int = 0

    def offer(self, rate: float, count: int, connections: int = 200) -> Outcome:
        """``rate`` 0: as fast as it answers."""
        body = '{"customer_id":"c{n}","product_id":"' + self.product + '","qty":1}'
        first, self.sent = self.sent, self.sent + count
        return openloop.measure(
            Plan(
                port=self.house.port,
                method="POST",
                path="/v1/holds",
                body=body,
                rate=rate,
                count=count,
                connections=connections,
                first=first,
            )
        )

    def memory(self) -> dict[str, float]:
        """MiB of each process."""
        family = [
            self.house.process("api"),
            *self.house.process("worker").children(),
            psutil.Process(self.house.redis.pid),
        ]
        return {f"{each.name()} {each.pid}": each.memory_info().rss / 2**20 for each in family}

    def growth(self, before: dict[str, float]) -> dict[str, float]:
        """MiB of each process that was there before."""
        return {name: mib - before[name] for name, mib in self.memory().items() if name in before}


@pytest.fixture
def rush(open_house: House, sale_id: str) -> Iterator[Rush]:
    """An API whose road to Redis is long and whose batches are small."""
    open_house.end("api")
    with slow_road(open_house.settings.redis_url, ROAD_SECONDS) as slow:
        open_house.start("api", redis_url=slow, hold_batch_max=BATCH_MAX)
        with open_house.shop() as shop:
            name = f"{sale_id}-sock"
            shop.load(product(name, STOCK), sale_id=sale_id, hold_ttl_seconds=3600)
            shop.hold("first", **{name: 1})
            yield Rush(open_house, shop, name)
        open_house.end("api")
    open_house.start("api")


def overload(rush: Rush, seconds: int) -> dict[str, Any]:
    served = rush.offer(0, 200, connections=2 * BATCH_MAX).per_second
    half = rush.offer(served / 2, int(served / 2 * max(seconds / 2, 3)))
    assert set(half.answers) == {"201"}
    before = rush.memory()
    full = rush.offer(10 * served, int(10 * served * seconds))
    grown = rush.growth(before)
    admitted = full.answers.pop("201")
    refused = full.answers.pop("503 overloaded")
    assert full.answers == {}, "nobody was left without an answer"
    assert refused > admitted
    refusal = rush.offer(0, 400)
    after = rush.offer(served / 2, int(served * 1.5))
    assert set(after.answers) == {"201"}, "it recovers by itself"
    assert "503 overloaded" in refusal.answers
    return {
        "served_per_second": served,
        "offered_per_second": full.per_second,
        "admitted_per_second": admitted / full.seconds,
        "p99_ratio": full.ms_of["201"]["p99"] / half.ms_of["201"]["p99"],
        "half_load_ms": half.ms_of["201"],
        "admitted_ms": full.ms_of["201"],
        "refused_ms": full.ms_of["503 overloaded"],
        "generator_late_ms": full.late_ms["p99"],
        "grown_mib": grown,
    }


def test_past_what_it_serves_it_says_so_and_goes_on_with_what_it_admitted(rush: Rush) -> None:
    before, answers = rush.memory(), Counter[str]()
    while answers["201"] < 10 * AT_ONCE:
        answers.update(rush.offer(10 * SERVED_MAX, 2000).answers)
    assert answers.keys() == {"201", "503 overloaded"}, "nobody was left without an answer"
    assert answers["503 overloaded"] > answers["201"]
    assert max(rush.growth(before).values()) < GROWTH_MAX_MIB
    assert rush.offer(0, 100, connections=2 * BATCH_MAX).answers == {"201": 100}, "it recovers by itself"
    rush.house.settled(rush.product.removesuffix("-sock"))


@pytest.mark.torture
def test_ten_times_what_it_serves_for_half_a_minute(rush: Rush) -> None:
    found = overload(rush, 30)
    print("\n" + json.dumps(found, indent=1))  # noqa: T201 - the figures
    assert found["admitted_per_second"] > found["served_per_second"] / 3, "it goes on serving"
    assert found["p99_ratio"] <= 3
    assert max(found["grown_mib"].values()) < GROWTH_MAX_MIB
    rush.house.settled(rush.product.removesuffix("-sock"))
