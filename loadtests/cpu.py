"""CPU that processes have taken, by role: what a thing costs, however busy the machine is."""

import contextlib
from collections.abc import Iterable, Mapping

import psutil


def seconds(pids: Iterable[int]) -> float:
    """User and system seconds of these processes and of all below them, those that ended included."""
    return sum(_of_tree(psutil.Process(pid)) for pid in pids)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds between two readings, by role."""
    return {role: after[role] - taken for role, taken in before.items()}


def _of_tree(root: psutil.Process) -> float:
    taken = 0.0
    for process in (root, *root.children(recursive=True)):
        # One that ends meanwhile is in its parent's `children_` times.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            taken += times.user + times.system + times.children_user + times.children_system
    return taken
