"""How the demo shows that it moves: a live line on a terminal, a plain one each second elsewhere."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.demo.customers import Ending, Rush

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 1.0


class Screen:
    """Where the demo speaks. Sentences stay; the live line below them goes."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def tell(self, sentence: str) -> None:
        if self._live:
            self._live.console.print(Text(sentence))
        else:
            click.echo(sentence)

    @contextlib.asynccontextmanager
    async def watch(self, rush: Rush) -> AsyncIterator[None]:
        """Show how the rush goes until the block ends."""
        began = time.monotonic()
        if sys.stdout.isatty():
            self._live = Live(Text(), console=Console(), transient=True, auto_refresh=False)
        ticking = asyncio.create_task(self._tick(rush, began))
        try:
            with self._live or contextlib.nullcontext():
                yield
        finally:
            self._live = None
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    async def _tick(self, rush: Rush, began: float) -> None:
        while True:
            await asyncio.sleep(LIVE_SECONDS if self._live else PLAIN_SECONDS)
            state = _state(rush, time.monotonic() - began)
            if self._live:
                self._live.update(Text(state, no_wrap=True, overflow="ellipsis"), refresh=True)
            else:
                click.echo(state)


def _state(rush: Rush, seconds: float) -> str:
    gone = sum(visit.ending is not None for visit in rush.visits)
    counts = "  ".join(f"{ending.value} {rush.count(ending)}" for ending in Ending if rush.count(ending))
    return f"{seconds:5.1f} s  {gone}/{len(rush.visits)} done  {counts}"
