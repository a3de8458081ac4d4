"""Holds that wait in a process go to Redis together: one script call takes all that wait for a sale, and what arrives
while it is on its way is the next one. No timer: with nobody waiting, a request leaves at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from redis.exceptions import ConnectionError, TimeoutError

from engine import commands
from engine.command import AsyncClient, Command
from engine.commands import HoldAnswer, HoldRequest
from engine.futures import telling
from engine.line import Line

STANDING_SECONDS: Final = 0.025
"""A queue that was not empty for so long stands: more comes in than is served. What arrives at one moment does not."""
CALLS_MAX: Final = 2
"""Calls of a sale that are on their way at once: while Redis waits for the disk, the next one is there already."""
SECOND_MIN: Final = 8
"""Requests that must wait for a second call, or a whole batch: what a call costs by itself, fewer had better share."""
STANDING_BATCHES: Final = 2
"""Batches that may wait in a queue that stands behind the calls on their way, so that nobody who is let in waits for
more than four calls, its own among them.
"""

Done = Callable[[HoldAnswer | Exception], None]
"""Is told the answer to a request, or why there is none. Must not raise."""


class Overloaded(RuntimeError):
    """More requests wait than the queue may hold."""


class Waiting:
    """A request that was handed in."""

    __slots__ = ("done", "request")

    def __init__(self, request: HoldRequest, done: Done) -> None:
        self.request = request
        self.done: Done | None = done

    def withdraw(self) -> None:
        """Its client gave up: it is not sent any more, and nobody is told what became of it."""
        self.done = None


Answered = list[tuple[Waiting, HoldAnswer | Exception]]
"""The requests of a batch, each with its own answer."""


@dataclass(slots=True)
class _Lane:
    """One sale's queue; ``senders`` are the tasks that empty it, one for each call on its way. ``filled`` is when it
    was last empty, in seconds of the loop's clock.
    """

    filled: float
    queue: deque[Waiting] = field(default_factory=deque)
    senders: set[asyncio.Task[None] | None] = field(default_factory=set)


class Batcher:
    """For the tasks of one event loop. Each caller gets the answer to its own request."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        batch_max: int = 256,
        queue_max: int = 4096,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        """``on_batch`` is told of each batch that was answered: its size, and the seconds until its answer."""
        self._client = client
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._standing_max = STANDING_BATCHES * batch_max
        self._second_min = min(SECOND_MIN, batch_max)
        self._on_batch = on_batch
        self._lanes: dict[str, _Lane] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Requests that were not sent yet."""
        return self._waiting

    def submit(self, sale_id: str, request: HoldRequest, done: Done) -> Waiting:
        """Hand a request in; ``done`` is told ``RedisError`` where Redis did not answer: then the same request (the
        same token) may be sent again. Raises ``Overloaded`` where the queue is full, or stands: a rush that comes at
        once may wait, one that goes on is told so.
        """
        if self._waiting >= self._queue_max:
            raise Overloaded
        lane = self._lanes.get(sale_id)
        if lane is None:
            lane = self._lanes[sale_id] = _Lane(asyncio.get_running_loop().time())
        elif len(lane.queue) >= self._standing_max and self._stands(lane):
            raise Overloaded
        waiting = Waiting(request, done)
        lane.queue.append(waiting)
        self._waiting += 1
        if not lane.senders or (len(lane.queue) >= self._second_min and len(lane.senders) < CALLS_MAX):
            lane.senders.add(asyncio.create_task(self._empty(sale_id, lane)))
        return waiting

    @staticmethod
    def _stands(lane: _Lane) -> bool:
        return asyncio.get_running_loop().time() - lane.filled > STANDING_SECONDS

    async def take(self, sale_id: str, request: HoldRequest) -> HoldAnswer:
        """``submit``, and wait for the answer. Raises ``Overloaded`` and ``RedisError``."""
        answer: asyncio.Future[HoldAnswer] = asyncio.get_running_loop().create_future()
        waiting = self.submit(sale_id, request, telling(answer))
        try:
            return await answer
        finally:
            waiting.withdraw()

    async def close(self) -> None:
        """Wait until everybody who waits has an answer."""
        while senders := [sender for lane in self._lanes.values() for sender in lane.senders if sender]:
            await asyncio.wait(senders)

    async def _empty(self, sale_id: str, lane: _Lane) -> None:
        """A batch leaves before those of the one before are told, so that Redis does not wait until all of them are."""
        answered: Answered = []
        line = Line(self._client)
        try:
            while lane.queue:
                sending: Awaitable[Answered] = self._send(line, sale_id, self._next_batch(lane))
                if answered:
                    sending = asyncio.ensure_future(sending)
                    await asyncio.sleep(0)  # its call is written
                    self._tell(answered)
                answered = await sending
                if not lane.queue:
                    self._tell(answered)
                    answered = []
        finally:
            # At once: whoever comes next must not count on a sender that has looked for the last time.
            lane.senders -= {asyncio.current_task()}
            if not lane.senders:
                self._lanes.pop(sale_id, None)
            await line.close()

    def _next_batch(self, lane: _Lane) -> list[Waiting]:
        batch: list[Waiting] = []
        while lane.queue and len(batch) < self._batch_max:
            waiting = lane.queue.popleft()
            self._waiting -= 1
            if waiting.done is not None:
                batch.append(waiting)
        if not lane.queue:
            lane.filled = asyncio.get_running_loop().time()
        return batch

    async def _send(self, line: Line, sale_id: str, batch: list[Waiting]) -> Answered:
        if not batch:
            return []
        began = time.perf_counter()
        try:
            answers = await self._ask(line, commands.hold(sale_id, [waiting.request for waiting in batch]))
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody is left waiting
            return [(waiting, error) for waiting in batch]
        if self._on_batch:
            self._on_batch(len(batch), time.perf_counter() - began)
        return list(zip(batch, answers, strict=True))

    @staticmethod
    def _tell(answered: Answered) -> None:
        for waiting, answer in answered:
            if waiting.done is not None:
                waiting.done(answer)

    async def _ask(self, line: Line, call: Command[list[HoldAnswer]]) -> list[HoldAnswer]:
        try:
            return await line.run(call)
        except (ConnectionError, TimeoutError):
            # The reply was lost, perhaps after the script ran. The tokens make a second try find its own first.
            return await line.run(call)
