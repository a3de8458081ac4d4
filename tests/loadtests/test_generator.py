"""The load generator tells the truth: what it sends, what it counts, and how long a stalled server really took."""

import asyncio
import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from loadtests import wrk
from loadtests.openloop import Generator, Outcome, Plan
from loadtests.stats import Spread, add_up, percentile, percentiles, ratios
from loadtests.wire import Request, word

ROOT = Path(__file__).resolve().parents[2]

Serve = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextlib.asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[int]:
    """A server whose answers the test writes; ``serve`` gets the request's number, its bytes, and where to write."""
    served = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                if b"content-length: " in request:
                    request += await reader.readexactly(int(request.split(b"content-length: ")[1].split(b"\r\n")[0]))
                served += 1
                await serve(served - 1, request, writer)

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def generate(serve: Serve, **plan: object) -> Outcome:
    async def run() -> Outcome:
        async with server(serve) as port:
            return await Generator(Plan(port=port, **{"method": "GET", "path": "/", **plan})).run()  # type: ignore[arg-type]

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(run())


def test_every_request_has_a_customer_of_its_own_and_the_right_length() -> None:
    request = Request("POST", "/v1/holds", '{"customer_id":"c{n}"}', {"x-shop": "one"}).encoder()(42)
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b'{"customer_id":"c000000042"}'
    assert f"content-length: {len(body)}".encode() in head
    assert b"x-shop: one" in head
    assert Request("GET", "/raw").encoder()(1).endswith(b"\r\n\r\n")


def test_answers_are_counted_by_status_and_code() -> None:
    assert word(201, b"{}") == "201"
    assert word(409, b'{"code": "sold_out"}') == "409 sold_out"
    assert word(502, b"<html>") == "502"
    assert word(0, b"") == "no answer"


def test_answers_in_pieces_are_whole() -> None:
    async def in_pieces(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        whole = answer(201, b'{"id": "hold-%d"}' % number)
        for at in range(0, len(whole), 7):
            writer.write(whole[at : at + 7])
            await writer.drain()
            await asyncio.sleep(0)

    outcome = generate(in_pieces, count=20, connections=2, keep=True)
    assert outcome.answers == {"201": 20}
    assert sorted(outcome.ids) == sorted(f"hold-{number}" for number in range(20))


def test_a_stalled_server_is_not_spared_the_requests_that_would_have_come() -> None:
    async def stall_once(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 0:
            time.sleep(0.3)  # noqa: ASYNC251 - the whole server stands still
        writer.write(answer(200, b"{}"))

    outcome = generate(stall_once, rate=200, count=60, connections=1)
    assert outcome.answers == {"200": 60}
    # 60 requests are due within those 0.3 s: a closed loop would have seen one slow answer.
    assert outcome.ms["p50"] > 50
    assert outcome.ms["max"] > 290


def test_a_connection_that_breaks_is_counted_and_made_again() -> None:
    async def break_the_fifth(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 4:
            writer.close()
            return
        writer.write(answer(200, b"{}"))

    outcome = generate(break_the_fifth, count=30, connections=3)
    assert outcome.answers == {"200": 29, "no answer": 1}


def test_a_plan_is_bounded() -> None:
    with pytest.raises(ValueError, match="bounded"):
        Generator(Plan(port=1, method="GET", path="/", rate=1, count=1000))


def test_numbers() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentiles([]) == {}
    assert percentiles([5.0])["p999"] == 5.0
    assert Spread.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert ratios([2.0, 1.0], [1.0, 0.0]) == [2.0, float("inf")]
    assert add_up([{"a": 1}, {"a": 2, "b": 1}]) == {"a": 3, "b": 1}


def test_without_wrk_one_line_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.bench", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == f"bench: {wrk.MISSING}"
