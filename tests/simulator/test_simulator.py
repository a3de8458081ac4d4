"""The rules of a sale under schedules that nobody thought of, against a model. ``make simulate`` goes on for longer."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import lua
from engine import connections
from engine.outcomes import OF_SCRIPT, Outcome
from persistence import database
from tests.simulator.doing import Simulation, method_of
from tests.simulator.episodes import Run, replay, run
from tests.simulator.machine import RULE_OF, SaleMachine
from tests.simulator.model import Model
from tests.simulator.postgres import PostgresSimulation
from tests.simulator.schedules import BY_HAND
from tests.simulator.steps import Schedule, Step
from tests.simulator.wire import Wire
from tests.simulator.world import Broken

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def simulation(redis_url: str) -> Iterator[Simulation]:
    wire = Wire(redis_url)
    yield Simulation(wire)
    wire.close()


def test_every_script_has_a_rule() -> None:
    assert sorted(RULE_OF) == lua.names()


def test_every_step_is_known_to_the_simulation() -> None:
    assert [kind for kind in Step.__subclasses__() if not hasattr(Simulation, method_of(kind))] == []


@pytest.mark.parametrize("schedule", BY_HAND.values(), ids=BY_HAND)
def test_schedules_by_hand(simulation: Simulation, schedule: Schedule) -> None:
    replay(simulation, schedule)


def test_schedules_by_chance(simulation: Simulation) -> None:
    done = run(simulation, secrets.randbelow(10**9), seconds=3)
    assert not done.failure, str(done.failure)


def test_hypothesis_finds_nothing(simulation: Simulation) -> None:
    machine: Any = partial(SaleMachine, simulation)  # any factory will do, whatever its annotation says
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_schedules_meet_every_answer_of_every_script(simulation: Simulation) -> None:
    """Or they would prove less than they seem to."""
    expected = {(script, str(word)) for script, words in OF_SCRIPT.items() for word in words}
    for seed in range(800, 1200):
        done = run(simulation, seed, steps=1)
        assert not done.failure, str(done.failure)
        if set(simulation.calls) == expected:
            break
    assert set(simulation.calls) == expected


def test_a_failure_is_cut_down_and_found_again_by_its_seed(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "settle", lambda self, tokens, _: [self._change(Outcome.NO_HOLD)] * len(tokens))
    done = run(simulation, 5, steps=5_000)
    assert done.failure
    assert len(done.failure.schedule) <= 3
    assert f"seed {done.failure.seed}" in str(done.failure)
    with pytest.raises(Broken):
        replay(simulation, done.failure.schedule)
    assert run(simulation, done.failure.seed, steps=1).failure


@pytest.mark.parametrize(("arguments", "says"), [(["--steps", "300"], "no promise broke")])
def test_the_command(arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "loadtests.simulate", "--seed", "7", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("SECONDS", "SEED")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert says in done.stdout
    assert "seed 7" in done.stdout


@pytest.fixture
def with_postgres(redis_url: str, database_url: str) -> Iterator[PostgresSimulation]:
    wire, client, db = Wire(redis_url), connections.connect(redis_url), database.connect(database_url)
    yield PostgresSimulation(wire, client, db)
    wire.close()
    client.close()
    db.dispose()


def test_schedules_with_a_real_postgres(with_postgres: PostgresSimulation) -> None:
    done = run(with_postgres, secrets.randbelow(10**9), seconds=2)
    assert not done.failure, str(done.failure)


def report(seed: int, done: Run) -> None:
    speed = done.steps / done.seconds
    sys.stdout.write(f"\nseed {seed}: {done.steps:,} steps in {done.seconds:.0f} s, {speed:,.0f} steps/s\n")


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_schedules_with_a_real_postgres_for_a_minute(with_postgres: PostgresSimulation) -> None:
    seed = secrets.randbelow(10**9)
    done = run(with_postgres, seed, seconds=60)
    report(seed, done)
    assert not done.failure, str(done.failure)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_million_steps(simulation: Simulation) -> None:
    seed = secrets.randbelow(10**9)
    done = run(simulation, seed, steps=1_000_000)
    report(seed, done)
    assert not done.failure, str(done.failure)
