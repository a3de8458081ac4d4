"""How full this process's pools are, looked at once a second: between two scrapes nobody else could say."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.multiprocess import mark_process_dead

LOOK_SECONDS: Final = 1.0


class Use(NamedTuple):
    """``busy`` of at most ``size``, and how many wait for one of them."""

    busy: int
    size: int
    waiting: int = 0


class Pools:
    """Three gauges by pool, and the pools that they are of: ``read`` and ``money`` are threads, ``database``
    connections, ``holds`` the requests that wait for the hold script.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, says: str) -> Gauge:
            return Gauge(name, says, ("pool",), registry=registry, multiprocess_mode="livesum")

        self._busy = gauge("flashsale_pool_busy", "Places of a pool that are taken.")
        self._size = gauge("flashsale_pool_size", "Places that a pool has.")
        self._waiting = gauge("flashsale_pool_waiting", "Calls that wait for a place in a pool.")

    async def watch(self, pools: dict[str, Callable[[], Use]]) -> None:
        """Look at each, over and over."""
        while True:
            for name, use in pools.items():
                busy, size, waiting = use()
                self._busy.labels(name).set(busy)
                self._size.labels(name).set(size)
                self._waiting.labels(name).set(waiting)
            await asyncio.sleep(LOOK_SECONDS)


def forget_dead(folder: str) -> None:
    """Drop the gauges of processes that died: they would stay at their last value."""
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if not pid.isdigit():
            continue
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            with contextlib.suppress(FileNotFoundError):  # somebody else's scrape was first
                mark_process_dead(int(pid), folder)  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
