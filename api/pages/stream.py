"""``GET /ops/stream``: what the reader sees, as server-sent events."""

import asyncio
import contextlib
import time
from typing import Final

from litestar.types import Receive, Send

from api.pages.watch import TooManyViewers, Watch
from persistence.refusals import Refusal

HEARTBEAT_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.5
"""How soon a stream notices that its process was asked to stop."""
SEND_SECONDS: Final = 10.0
"""A viewer that takes nothing for so long is gone."""
STREAM_SECONDS: Final = 1800.0
"""Then the browser comes again by itself, and its session is looked at."""
RETRY: Final = b"retry: 2000\n\n"

_START: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """An ASGI application that tells one viewer. Ends when the viewer leaves, or the process is asked to stop."""

    def __init__(self, watch: Watch) -> None:
        """Raises ``Refusal``: overloaded, where too many watch."""
        self._watch = watch
        try:
            watch.enter()
        except TooManyViewers as error:
            raise Refusal("overloaded", "Too many people watch this process.", retry_after=10) from error

    async def __call__(self, receive: Receive, send: Send) -> None:
        telling = asyncio.create_task(self._tell(send))
        hearing = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait([telling, hearing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, hearing):
                task.cancel()
            await asyncio.wait([telling, hearing])
            self._watch.leave()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            telling.result()

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(_START)})
        seen, began = 0, time.monotonic()
        said = began
        await _say(send, RETRY)
        while not self._watch.leaving and time.monotonic() - began < STREAM_SECONDS:
            news = await self._watch.wait(seen, LOOK_SECONDS)
            if news is not None:
                if not seen:
                    # The curves up to this picture; both are made in one step of the loop.
                    await _say(send, b"event: history\ndata: %s\n\n" % self._watch.history())
                seen = news[0]
                await _say(send, b"event: now\nid: %d\ndata: %s\n\n" % news)
                said = time.monotonic()
            elif time.monotonic() - said > HEARTBEAT_SECONDS:
                await _say(send, b": still here\n\n")
                said = time.monotonic()
        await send({"type": "http.response.body", "body": b"event: bye\ndata: {}\n\n", "more_body": False})


async def _say(send: Send, text: bytes) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": text, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
