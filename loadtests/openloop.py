"""Open-loop load in a process of its own: requests leave when they are due, whether or not the ones before were
answered, and a request's latency counts from the moment at which it was due. So a server that stalls is not spared the
requests that would have come meanwhile (no coordinated omission).

``python -m loadtests.openloop '{"port": 8000, "method": "GET", "path": "/", "rate": 2000, "count": 20000}'`` prints one
line of JSON. ``rate`` 0 sends everything at once, as many at a time as there are connections.
"""

import asyncio
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from loadtests.stats import percentiles
from loadtests.wire import Connection, Request, word

COUNT_MAX: Final = 2_000_000
SECONDS_MAX: Final = 300.0
DRAIN_SECONDS: Final = 15.0
"""How long the last answers are waited for."""
HOST: Final = "127.0.0.1"
"""Load goes to this machine only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``rate`` in requests a second. ``keep``: also return what was created, as [id, ...] of the 201s."""

    port: int
    method: str
    path: str
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    rate: float = 0.0
    count: int = 0
    connections: int = 64
    first: int = 0
    keep: bool = False
    series_seconds: float = 0.0
    """Above 0: latency p99 for each stretch of that many seconds."""

    @property
    def request(self) -> Request:
        return Request(self.method, self.path, self.body, self.headers)


@dataclass(slots=True)
class Outcome:
    """What became of a plan. Latencies are milliseconds from when the request was due."""

    sent: int
    seconds: float
    answers: dict[str, int]
    ms: dict[str, float]
    late_ms: dict[str, float]
    """How late the generator itself was: above a few ms the machine was too busy to measure."""
    ids: list[str]
    series: list[dict[str, float]]
    ms_of: dict[str, dict[str, float]] = field(default_factory=dict)
    """The latencies of each kind of answer by itself."""

    @property
    def per_second(self) -> float:
        return self.sent / self.seconds if self.seconds else 0.0


class Generator:
    """One run of a plan in one event loop."""

    def __init__(self, plan: Plan) -> None:
        if plan.count > COUNT_MAX or (plan.rate and plan.count / plan.rate > SECONDS_MAX):
            raise ValueError("a plan is bounded: fewer requests, please")
        self._plan = plan
        self._encode = plan.request.encoder()
        self._free: deque[Connection] = deque()
        self._due: deque[tuple[int, float]] = deque()
        self._latencies: list[tuple[float, float]] = []
        self._late: list[float] = []
        self._latencies_of: dict[str, list[float]] = {}
        self._answers: dict[str, int] = {}
        self._ids: list[str] = []
        self._left = plan.count
        self._finished = asyncio.Event()
        self._reconnecting: set[asyncio.Task[None]] = set()
        self._ending = False

    async def run(self) -> Outcome:
        plan, loop = self._plan, asyncio.get_running_loop()
        await asyncio.gather(*(self._connect() for _ in range(plan.connections)))
        start = loop.time() + 0.05
        if plan.rate:
            for number in range(plan.count):
                moment = start + number / plan.rate
                pause = moment - loop.time()
                if pause > 0:
                    await asyncio.sleep(pause)
                self._late.append((loop.time() - moment) * 1000)
                self._due.append((number, moment))
                self._pump()
        else:
            start = loop.time()
            self._due.extend((number, start) for number in range(plan.count))
            self._pump()
        try:
            await asyncio.wait_for(self._finished.wait(), DRAIN_SECONDS if plan.rate else SECONDS_MAX)
        except TimeoutError:
            self._answers["no answer"] = self._answers.get("no answer", 0) + self._left
        seconds = loop.time() - start
        self._ending = True
        for connection in self._free:
            connection.close()
        return Outcome(
            sent=plan.count,
            seconds=seconds,
            answers=self._answers,
            ms=percentiles([latency for _, latency in self._latencies]),
            late_ms=percentiles(self._late),
            ids=self._ids,
            series=self._series(),
            ms_of={said: percentiles(values) for said, values in self._latencies_of.items()},
        )

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self._lost), HOST, self._plan.port)
        except OSError:
            await asyncio.sleep(0.05)
            self._lost(None)
            return
        self._free.append(connection)
        self._pump()

    def _lost(self, connection: Connection | None) -> None:
        if connection is not None and connection in self._free:
            self._free.remove(connection)
        if not self._ending:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)

    def _pump(self) -> None:
        while self._due and self._free:
            number, moment = self._due.popleft()
            self._send(self._free.popleft(), number, moment)

    def _send(self, connection: Connection, number: int, moment: float) -> None:
        now = asyncio.get_running_loop().time

        def done(status: int, body: bytes) -> None:
            ms = (now() - moment) * 1000
            self._latencies.append((moment, ms))
            said = word(status, body)
            self._latencies_of.setdefault(said, []).append(ms)
            self._answers[said] = self._answers.get(said, 0) + 1
            if self._plan.keep and status == 201:
                self._ids.append(json.loads(body)["id"])
            if status:
                self._free.append(connection)
            self._left -= 1
            if not self._left:
                self._finished.set()
            self._pump()

        connection.send(self._encode(self._plan.first + number), done)

    def _series(self) -> list[dict[str, float]]:
        width = self._plan.series_seconds
        if not width or not self._latencies:
            return []
        begin = min(moment for moment, _ in self._latencies)
        stretches: dict[int, list[float]] = {}
        for moment, latency in self._latencies:
            stretches.setdefault(int((moment - begin) / width), []).append(latency)
        return [{"at": index * width, **percentiles(stretches[index])} for index in sorted(stretches)]


def run(plan: Plan) -> Outcome:
    """In this process. ``select`` waits to the microsecond; epoll rounds up to a millisecond, which would count too."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(Generator(plan).run())


class Running:
    """A plan under way in a child process."""

    def __init__(self, plan: Plan) -> None:
        argv = [sys.executable, "-m", "loadtests.openloop", json.dumps(asdict(plan))]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.started = time.time()

    def result(self) -> Outcome:
        """Wait for its end. Raises ``RuntimeError`` where it failed."""
        out, _ = self._process.communicate(timeout=SECONDS_MAX + 2 * DRAIN_SECONDS)
        if self._process.returncode:
            raise RuntimeError("the load generator failed; what it said is above")
        return Outcome(**json.loads(out))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def measure(plan: Plan) -> Outcome:
    """A plan from beginning to end in a child process."""
    running = Running(plan)
    try:
        return running.result()
    finally:
        running.stop()


def main() -> int:
    values: dict[str, Any] = json.loads(sys.argv[1])
    if hasattr(os, "nice") and "nice" in values:
        os.nice(values.pop("nice"))
    print(json.dumps(asdict(run(Plan(**values)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
