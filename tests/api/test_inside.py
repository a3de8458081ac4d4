"""What the API promises inside: shared reads that miss nothing, bounded threads, defects without a traceback."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from api import shop as shop_reads
from api.reads import Together
from api.sets import Sets
from api.threads import Threads
from engine.batcher import Overloaded
from tests.api.server import Shop, check_problem

pytestmark = pytest.mark.anyio


async def test_one_read_serves_all_who_wait_and_began_after_they_asked() -> None:
    value, reads, go = 0, [], asyncio.Event()

    async def read(key: str) -> int:
        reads.append(seen := value)
        await go.wait()
        return seen

    together: Together[str, int] = Together(read)
    first = asyncio.create_task(together.get("k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reads == [0]
    value = 1  # somebody is told so, and asks
    later = [asyncio.create_task(together.get("k")) for _ in range(50)]
    await asyncio.sleep(0)
    go.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [1] * 50
    assert reads == [0, 1]


async def test_a_read_that_fails_fails_those_who_waited_and_nobody_else() -> None:
    fail = True

    async def read(key: str) -> str:
        if fail:
            raise ConnectionError
        return key

    together: Together[str, str] = Together(read)
    failed = await asyncio.gather(*(together.get("k") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in failed] == [ConnectionError] * 3
    fail = False
    assert await together.get("k") == "k"


async def test_what_waits_is_done_in_one_set_and_each_gets_its_own_answer() -> None:
    threads, go = Threads("test", size=2, queue_max=2, seconds=5), threading.Event()
    taken: list[list[int]] = []

    def work(wishes: Sequence[int]) -> list[int | Exception]:
        taken.append(list(wishes))
        go.wait(5)
        if 9 in wishes:
            raise ConnectionError
        return [ValueError() if wish == 3 else wish * 10 for wish in wishes]

    sets: Sets[int, int] = Sets(threads, work, queue_max=3)
    asked = [asyncio.create_task(sets.do(0))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked += [asyncio.create_task(sets.do(wish)) for wish in (1, 2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await sets.do(4)
    go.set()
    first, one, two, three = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, one, two, type(three)) == (0, 10, 20, ValueError)
    assert taken == [[0], [1, 2, 3]]
    with pytest.raises(ConnectionError):
        await sets.do(9)
    assert await sets.do(5) == 50
    await sets.close()
    await threads.close()


async def test_what_comes_while_sets_linger_shares_the_next_one() -> None:
    threads, taken = Threads("test", size=1, queue_max=4, seconds=5), []

    def work(wishes: Sequence[int]) -> list[int | Exception]:
        taken.append(list(wishes))
        return list(wishes)

    sets: Sets[int, int] = Sets(threads, work, queue_max=4, linger_seconds=0.5)
    assert await sets.do(0) == 0, "with nobody before it, at once"
    one = asyncio.create_task(sets.do(1))
    await asyncio.sleep(0.01)
    assert (await sets.do(2), await one) == (2, 1)
    assert taken == [[0], [1, 2]]
    await sets.close()
    await threads.close()


async def test_calls_that_wait_for_a_thread_are_bounded_in_number_and_in_time() -> None:
    threads, go = Threads("test", size=1, queue_max=1, seconds=0.2), threading.Event()
    done: list[str] = []

    def work(name: str) -> None:
        go.wait(5)
        done.append(name)

    began = asyncio.create_task(threads.run(work, "began"))
    queued = asyncio.create_task(threads.run(work, "queued"))
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded):
        await threads.run(work, "one too many")
    for each in (began, queued):
        with pytest.raises(TimeoutError):
            await each
    go.set()
    await threads.close()
    assert done == ["began"], "what waited for a thread is dropped, what has begun is finished"


def test_a_defect_is_answered_without_a_traceback(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("s3cret")

    monkeypatch.setattr(shop_reads, "read_sale", broken)
    answer = shop.client.get("/v1/sales/bf", headers={"X-Request-Id": "r-1"})
    check_problem(answer, 500, "internal_error", request_id="r-1")
    assert "s3cret" not in answer.text
    assert "Traceback" not in answer.text


def test_many_slow_clients_do_not_hold_up_a_quick_one(shop: Shop, api_url: str) -> None:
    import socket  # noqa: PLC0415

    host, port = api_url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    for each in idle[:100]:
        each.sendall(b"POST /v1/holds HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    began = time.monotonic()
    assert shop.client.get("/health/live").status_code == 200
    assert time.monotonic() - began < 10, "a slow one is cut off after twenty seconds"
    for each in idle:
        each.close()
