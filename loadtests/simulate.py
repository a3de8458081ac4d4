"""``make simulate SECONDS=60``: the real scripts on a real Valkey, against a model that says what must be true, with
every interleaving of holds, payments, expiry, refunds, stock changes, lost replies, losses of data and time moved.

Prints its seed and its speed. Exit code 1 and the schedule, cut short, where a promise breaks; the same seed finds it
again.
"""

import argparse
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sandbox.servers import EmbeddedRedis
from tests.simulator.doing import Simulation
from tests.simulator.episodes import Run, run
from tests.simulator.wire import Wire

# Nothing of this is to be kept, and the disk is not what is tested.
OPTIONS = {"appendonly": "no", "save": '""'}


def main() -> int:
    arguments = _arguments()
    print(f"seed {arguments.seed}; again with: make simulate ARGS='--seed {arguments.seed}'", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="flashsale-simulate-") as folder,
        EmbeddedRedis(Path(folder), options=OPTIONS) as server,
    ):
        simulation = Simulation(Wire(server.url))
        seconds = None if arguments.steps and not arguments.seconds else arguments.seconds or 60.0
        done = run(simulation, arguments.seed, seconds=seconds, steps=arguments.steps, tell=_progress())
    speed = done.steps / max(done.seconds, 0.001)
    print(f"{done.steps:,} steps in {done.schedules:,} schedules, {done.seconds:.1f} s, {speed:,.0f} steps/s")
    calls = sum(simulation.calls.values())
    print(f"{calls:,} answers of {len({script for script, _ in simulation.calls})} scripts, each as the model's")
    if done.failure:
        print(f"\nA promise broke.\n{done.failure}\n\nagain with: make simulate ARGS='--seed {done.failure.seed}'")
        return 1
    print("no promise broke")
    return 0


def _arguments() -> argparse.Namespace:
    """``make`` hands its variables on in the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environ = os.environ
    parser.add_argument("--seconds", type=float, default=_number(environ.get("SECONDS")), help="how long (60)")
    parser.add_argument("--steps", type=int, default=None, help="how many steps at most")
    parser.add_argument("--seed", type=int, default=_number(environ.get("SEED")), help="which schedules (a new one)")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = secrets.randbelow(10**9)
    return arguments


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _progress() -> Callable[[Run], None]:
    """Prints a line every ten seconds."""
    due = 10.0

    def tell(done: Run) -> None:
        nonlocal due
        if done.seconds >= due:
            due += 10.0
            print(f"{done.seconds:6.0f} s  {done.steps:,} steps", flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(main())
