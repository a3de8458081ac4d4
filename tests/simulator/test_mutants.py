"""The simulator notices every fault that is written into a script. Without that, its silence would mean nothing.

A few mutants of each script are tried here; ``make torture`` tries all.
"""

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import lua
from tests.simulator.doing import Simulation
from tests.simulator.episodes import replay, run
from tests.simulator.machine import SaleMachine
from tests.simulator.mutants import MUTANTS, Mutant, loader
from tests.simulator.schedules import BY_HAND
from tests.simulator.wire import Wire
from tests.simulator.world import Broken

STEPS_MAX = 100_000
QUICK_EACH = 2


@pytest.fixture
def wire(redis_url: str) -> Iterator[Wire]:
    wire = Wire(redis_url)
    yield wire
    wire.close()


def caught(wire: Wire, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> bool:
    monkeypatch.setattr(lua, "script", loader(mutant))
    simulation = Simulation(wire)
    try:
        for schedule in BY_HAND.values():
            replay(simulation, schedule)
    except Broken:
        return True
    return run(simulation, 1, steps=STEPS_MAX, shrink_seconds=0).failure is not None


def quick() -> list[Mutant]:
    """The first of each script."""
    return [mutant for _, of in groupby(MUTANTS, lambda mutant: mutant.script) for mutant in list(of)[:QUICK_EACH]]


def test_every_script_has_mutants_and_each_fault_stands_in_its_script() -> None:
    assert {mutant.script for mutant in MUTANTS} == {*lua.names(), "lib/book.lua", "lib/sale.lua"}
    for mutant in MUTANTS:
        loader(mutant)


@pytest.mark.parametrize("mutant", quick(), ids=lambda mutant: mutant.id)
def test_a_mutant_is_caught(wire: Wire, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    assert caught(wire, monkeypatch, mutant)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_every_mutant_is_caught(wire: Wire, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
    assert caught(wire, monkeypatch, mutant)


@pytest.mark.parametrize(
    "why",
    ["a retry takes again", "a check-out has no event", "two are sold of one", "an old rebuild frees the sale"],
)
def test_hypothesis_catches_mutants_too(wire: Wire, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    [mutant] = [mutant for mutant in MUTANTS if mutant.why == why]
    monkeypatch.setattr(lua, "script", loader(mutant))
    machine: Any = partial(SaleMachine, Simulation(wire))
    chosen = settings(
        max_examples=500,
        stateful_step_count=40,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],  # that it breaks is enough here
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(Broken):
        run_state_machine_as_test(machine, settings=chosen)
