"""How much the bench does, and what its figures share."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from loadtests import invariants, wrk
from loadtests.report import Report, Row
from loadtests.stage import Sale, Stage
from loadtests.wire import Request

T = TypeVar("T")

STOCK: Final = 9_000_000
"""Units of a product that must not run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Seconds are of one round of one side; the bounds of a whole run follow from these."""

    rounds: int
    peak_seconds: int
    rate_seconds: int
    burst_times: int
    crowd: int
    """Holds of another product that stand overdue before a unit."""
    backlog: int
    """Holds in the backlog that the drainer alone brings."""
    live: int
    """Holds that count as many."""
    expiring_seconds: int
    paid: int
    """Orders that are paid from end to end."""
    connections: tuple[int, ...]
    """For the charts."""


FULL: Final = Sizes(
    rounds=3,
    peak_seconds=8,
    rate_seconds=15,
    burst_times=20,
    crowd=100_000,
    backlog=100_000,
    live=1_000_000,
    expiring_seconds=30,
    paid=1_500,
    connections=(1, 4, 16, 64, 256),
)
QUICK: Final = Sizes(
    rounds=1,
    peak_seconds=2,
    rate_seconds=4,
    burst_times=3,
    crowd=10_000,
    backlog=20_000,
    live=50_000,
    expiring_seconds=8,
    paid=300,
    connections=(16, 64),
)


@dataclass(slots=True)
class Bench:
    """One run: the stage, the servers to compare with, and the report that the figures write to."""

    stage: Stage
    yardstick_port: int
    peer_port: Callable[[], int]
    sizes: Sizes
    report: Report
    _first: int = field(default=0)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def add(self, row: Row) -> None:
        self.report.rows.append(row)
        self.say(f"  {row.name}: {row.shown}{'  goal ' + row.goal + ' ' + row.verdict if row.goal else ''}")

    def broke(self, faults: Iterable[str]) -> None:
        """An invariant that does not hold ends the run with exit status 1."""
        for fault in faults:
            self.report.broken.append(fault)
            self.say(f"  BROKEN: {fault}")

    def first(self) -> int:
        """A number that no request had before: the next of this run start there."""
        self._first += 1_000_000
        return self._first % 40_000_000

    def rounds(self, sides: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """A B A B: each side once a round, so that what changes with time meets them all."""
        found: dict[str, list[T]] = {name: [] for name in sides}
        for _ in range(self.sizes.rounds):
            for name, measure in sides.items():
                found[name].append(measure())
        return found

    # -- sides
    def peak(self, port: int, request: Request, connections: int) -> wrk.Peak:
        """wrk at its fastest; whatever broke is noted."""
        found = wrk.peak(port, request, connections=connections, seconds=self.sizes.peak_seconds, first=self.first())
        if found.broken or found.timeouts:
            self.broke([f"{request.path}: {found.broken} connections broke and {found.timeouts} answers were late"])
        return found

    def empty_post(self, connections: int = 64) -> wrk.Peak:
        return self.peak(self.yardstick_port, EMPTY_POST, connections)

    def empty_get(self, connections: int = 64) -> wrk.Peak:
        return self.peak(self.yardstick_port, EMPTY_GET, connections)

    def holds(self, sale: Sale, connections: int = 64) -> wrk.Peak:
        """Every answer must be a hold, and the counters must have each of them."""
        before = self.stage.show(sale).products[sale.product].held
        found = self.peak(self.stage.port, sale.hold("wrk-"), connections)
        held = self.stage.show(sale).products[sale.product].held - before
        self.broke(invariants.redis_counters(self.stage.client, sale.id))
        # wrk leaves while answers are on their way.
        if found.refused or not found.requests <= held <= found.requests + connections:
            self.broke([f"{found.requests} answers, {found.refused} of them refusals, and {held} units held"])
        return found


_BODY: Final = '{"customer_id":"wrk-{n}","product_id":"b1-unit","qty":1}'
EMPTY_POST: Final = Request("POST", "/typed", _BODY)
EMPTY_GET: Final = Request("GET", "/typed/b1-unit")
EMPTY_RAW: Final = Request("POST", "/raw", _BODY)
