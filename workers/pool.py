"""`flashsale worker`: a handful of worker processes, and a parent that starts the dead ones again."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

import structlog

from engine.settings import Settings
from workers.runtime import check
from workers.stop import Stop
from workers.worker import run_child

PROCESSES = 3
"""One for each kind of slice, so that none waits for another's end."""
WATCH_SECONDS = 0.2
RESTART_SECONDS = (0.2, 5.0)
"""Pause before a dead child is started again; it grows where children die young."""
YOUNG_SECONDS = 10.0
ASK_AGAIN_SECONDS = 0.5
DRAIN_SECONDS = 15.0
"""How long a child may take to end its slice after SIGTERM."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Place:
    """One child's place in the pool."""

    number: int
    process: BaseProcess | None = None
    started: float = 0.0
    start_at: float = 0.0
    pause: float = field(default=RESTART_SECONDS[0])


class Pool:
    """``run_once`` starts what is missing; ``run`` does so until ``stop`` is set, then ends every child."""

    def __init__(self, settings: Settings, processes: int = PROCESSES) -> None:
        check(settings)  # a setting that cannot work is said now, not by every child
        self._settings = settings
        self._places = [_Place(number) for number in range(processes)]
        # Forking shares what is imported already; this parent has no threads.
        self._context = multiprocessing.get_context("fork")
        self.stop = Stop()

    @property
    def pids(self) -> list[int]:
        return [place.process.pid for place in self._places if place.process and place.process.pid]

    def run_once(self) -> int:
        """Children that were started."""
        now = time.monotonic()
        started = 0
        for place in self._places:
            if place.process and not place.process.is_alive():
                self._bury(place, now)
            if place.process is None and now >= place.start_at:
                self._start(place, now)
                started += 1
        return started

    def run(self, leave: Callable[[], bool] = lambda: False) -> None:
        """``leave`` is asked now and then whether to stop, too."""
        try:
            while not self.stop.is_set() and not leave():
                self.run_once()
                self.stop.wait(WATCH_SECONDS)
        finally:
            self.end()

    def end(self, patience_seconds: float = DRAIN_SECONDS) -> None:
        """Ask every child to end, again where it was too young to hear it; kill what does not."""
        children = [place.process for place in self._places if place.process]
        deadline = time.monotonic() + patience_seconds
        while (alive := [child for child in children if child.is_alive()]) and time.monotonic() < deadline:
            for child in alive:
                child.terminate()
            multiprocessing.connection.wait([child.sentinel for child in alive], timeout=ASK_AGAIN_SECONDS)
        for child in children:
            if child.is_alive():
                log.warning("worker_killed", pid=child.pid)
                child.kill()
            child.join()
        for place in self._places:
            place.process = None

    def _start(self, place: _Place, now: float) -> None:
        place.process = self._context.Process(
            target=run_child, args=(self._settings, place.number, os.getpid()), name=f"worker-{place.number}"
        )
        place.started = now
        place.process.start()
        log.debug("worker_started", pid=place.process.pid, number=place.number)

    def _bury(self, place: _Place, now: float) -> None:
        assert place.process
        log.warning("worker_died", pid=place.process.pid, exit_code=place.process.exitcode)
        place.process.close()
        place.process = None
        first, longest = RESTART_SECONDS
        place.pause = first if now - place.started > YOUNG_SECONDS else min(place.pause * 2, longest)
        place.start_at = now + place.pause


def run_pool(settings: Settings, processes: int = PROCESSES, leave: Callable[[], bool] = lambda: False) -> None:
    """Until SIGTERM, SIGINT or ``leave``; then every slice ends early and this returns. Raises ``SettingError``."""
    pool = Pool(settings, processes)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: pool.stop.set())
    pool.run(leave)
