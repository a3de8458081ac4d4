"""Schedules by chance, one after the other, until time or steps run out or a promise breaks; then the schedule is cut
down to what breaks it.

The n-th schedule of a seed is the first one of seed + n, so that a failure can be had again at once by its own seed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tests.simulator.doing import Simulation
from tests.simulator.generator import Generator
from tests.simulator.steps import Checkout, Hold, Schedule, Settle, Step, written
from tests.simulator.world import Broken

STEPS: Final = 150
"""In one schedule: long enough to sell out, expire, lose Redis and recover, short enough that its hashes stay small."""
SHRINK_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Failure:
    """``schedule`` is the shortest that was found to break it."""

    seed: int
    schedule: Schedule
    broken: str

    def __str__(self) -> str:
        return f"{self.broken}\n\nseed {self.seed}, {len(self.schedule)} steps:\n[\n{written(self.schedule)}\n]"


@dataclass(slots=True)
class Run:
    """What was done."""

    steps: int = 0
    schedules: int = 0
    seconds: float = 0.0
    failure: Failure | None = None


def run(
    simulation: Simulation,
    seed: int,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    faults: bool = True,
    shrink_seconds: float = SHRINK_SECONDS,
    tell: Callable[[Run], None] = lambda _: None,
) -> Run:
    """Whole schedules until ``seconds`` have passed or ``steps`` were done. ``tell`` hears of it after each."""
    done = Run()
    begun = time.monotonic()
    while (seconds is None or done.seconds < seconds) and (steps is None or done.steps < steps):
        schedule: Schedule = []
        here = seed + done.schedules
        try:
            for step in _by_chance(simulation, here, faults=faults):
                schedule.append(step)
                simulation.apply(step)
        except Broken as broken:
            done.failure = Failure(here, *shrink(simulation, schedule, str(broken), shrink_seconds))
        done.schedules += 1
        done.steps += len(schedule)
        done.seconds = time.monotonic() - begun
        tell(done)
        if done.failure:
            break
    return done


def _by_chance(simulation: Simulation, seed: int, *, faults: bool) -> Iterator[Step]:
    simulation.start()
    generator = Generator(seed, faults=faults)
    for _ in range(STEPS):
        yield generator.next(simulation.model)


def replay(simulation: Simulation, schedule: Sequence[Step]) -> None:
    """Raises ``Broken`` where the schedule breaks a promise."""
    simulation.start()
    for step in schedule:
        simulation.apply(step)


def shrink(simulation: Simulation, schedule: Schedule, broken: str, seconds: float) -> tuple[Schedule, str]:
    """A schedule without the steps that are not needed to break it, and how it broke the last time."""
    until = time.monotonic() + seconds

    def breaks(candidate: Schedule) -> bool:
        nonlocal broken
        if time.monotonic() > until:
            return False
        try:
            replay(simulation, candidate)
        except Broken as again:
            broken = str(again)
            return True
        return False

    best = schedule
    size = max(1, len(best) // 2)
    while size:
        at = 0
        while at < len(best):
            candidate = best[:at] + best[at + size :]
            if breaks(candidate):
                best = candidate
            else:
                at += size
        size //= 2
    for at, step in enumerate(best):
        for simpler in _simpler(step):
            candidate = [*best[:at], simpler, *best[at + 1 :]]
            if breaks(candidate):
                best = candidate
    return best, broken


def _simpler(step: Step) -> Iterator[Step]:
    if getattr(step, "again", False):
        yield replace(step, again=False)
    if isinstance(step, Hold):
        for ask in step.asks:
            yield replace(step, asks=(ask,), again=False)
    if isinstance(step, Checkout):
        for asked in step.asks:
            yield replace(step, asks=(asked,), again=False)
    if isinstance(step, Settle):
        for hold in step.holds:
            yield replace(step, holds=(hold,), again=False)
