"""The batcher: each caller its own answer, neighbours never harmed, nobody left waiting."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest
import redis.asyncio

from engine import commands, connections, ids
from engine.batcher import Batcher, Overloaded
from engine.command import run, run_async
from engine.commands import HoldRequest, LoadItem
from engine.line import Line
from engine.outcomes import Outcome


@pytest.fixture
def stocked(redis_url: str) -> Iterator[str]:
    client = connections.connect(redis_url)
    for sale_id, stock in (("bf", 101), ("other", 5)):
        items = [LoadItem(f"sneaker-{sale_id}", "Sneaker", 1000, 0, "usd", stock, 0)]
        call = commands.load(
            sale_id, create=True, name="", starts_ms=0, ends_ms=0, hold_ttl_ms=9_000, payment_ttl_ms=9_000, items=items
        )
        run(client, call)
    yield redis_url
    client.close()


def request(customer: str, product: str = "sneaker-bf", qty: int = 1) -> HoldRequest:
    return HoldRequest(ids.new_token(), customer, ((product, qty),))


class _Opened:
    def __init__(self, url: str) -> None:
        self.client = connections.connect_async(url)

    async def __aenter__(self) -> redis.asyncio.Redis:
        assert isinstance(self.client, redis.asyncio.Redis)
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()


def test_400_contenders_101_units_each_its_own_answer(stocked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.batcher.STANDING_SECONDS", 60)  # a rush is one moment, however slow the machine

    async def rush() -> None:
        sizes: list[int] = []
        async with _Opened(stocked) as client:
            batcher = Batcher(client, batch_max=64, on_batch=lambda size, _: sizes.append(size))
            requests = [request(f"customer-{n}") for n in range(400)]
            answers = await asyncio.gather(*(batcher.take("bf", each) for each in requests))
            won = [(r, a) for r, a in zip(requests, answers, strict=True) if a.outcome is Outcome.HELD]
            assert len(won) == 101
            for mine, answer in won:
                assert answer.hold
                assert answer.hold.customer == mine.customer
            _, records = await peek(client, [r.token for r, _ in won])
            assert all(records)
        assert sum(sizes) == 400
        assert max(sizes) <= 64
        assert len(sizes) < 12

    asyncio.run(rush())


async def peek(client: redis.asyncio.Redis, tokens: list[str]) -> tuple[object, list[object]]:
    reply, records = await run_async(client, commands.peek("bf", tokens))
    return reply, list(records)


def test_sales_do_not_share_a_batch(stocked: str) -> None:
    async def both() -> None:
        async with _Opened(stocked) as client:
            batcher = Batcher(client)
            one, two = await asyncio.gather(
                batcher.take("bf", request("ann")), batcher.take("other", request("ann", "sneaker-other"))
            )
            assert one.outcome is two.outcome is Outcome.HELD

    asyncio.run(both())


def test_a_full_queue_refuses_at_once_and_recovers(stocked: str) -> None:
    async def flood() -> None:
        async with _Opened(stocked) as client:
            batcher = Batcher(client, queue_max=10)
            results = await asyncio.gather(
                *(batcher.take("bf", request(f"c{n}")) for n in range(30)), return_exceptions=True
            )
            refused = [result for result in results if isinstance(result, Overloaded)]
            assert len(refused) == 20
            assert (await batcher.take("bf", request("late"))).outcome is Outcome.HELD

    asyncio.run(flood())


class _Waits:
    """A connection whose calls wait until it is opened."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client, self.opened = client, asyncio.Event()

    async def execute_command(self, *args: object) -> object:
        await self.opened.wait()
        return await self.client.execute_command(*args)  # type: ignore[no-untyped-call]


def test_a_rush_may_wait_and_a_queue_that_stands_may_not_grow(stocked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rush() -> None:
        async with _Opened(stocked) as client:
            road = _Waits(client)
            batcher = Batcher(road, batch_max=4)  # type: ignore[arg-type]
            monkeypatch.setattr("engine.batcher.STANDING_SECONDS", 60)
            waiting = [asyncio.create_task(batcher.take("bf", request(f"c{n}"))) for n in range(40)]
            await asyncio.sleep(0.01)
            assert batcher.waiting == 32, "they came at one moment"
            monkeypatch.setattr("engine.batcher.STANDING_SECONDS", 0)
            with pytest.raises(Overloaded):
                await batcher.take("bf", request("late"))
            road.opened.set()
            answers = await asyncio.gather(*waiting)
            assert {answer.outcome for answer in answers} == {Outcome.HELD}, "who was let in is served"
            assert (await batcher.take("bf", request("later"))).outcome is Outcome.HELD

    asyncio.run(rush())


class _Tells:
    """A connection that says when a call leaves."""

    def __init__(self, client: redis.asyncio.Redis, said: list[str]) -> None:
        self.client, self.said = client, said

    async def execute_command(self, *args: object) -> object:
        if args[0] == "EVALSHA":
            self.said.append("call")
        return await self.client.execute_command(*args)  # type: ignore[no-untyped-call]


def test_a_batch_leaves_before_those_of_the_one_before_are_told(stocked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.batcher.CALLS_MAX", 1)

    async def three_batches() -> None:
        async with _Opened(stocked) as client:
            said: list[str] = []
            batcher = Batcher(_Tells(client, said), batch_max=2)  # type: ignore[arg-type]

            def tell(number: int, _: object) -> None:
                said.append(f"told {number}")

            for number in range(6):
                batcher.submit("bf", request(f"c{number}"), partial(tell, number))
            await batcher.close()
            told = [["told 0", "told 1"], ["told 2", "told 3"], ["told 4", "told 5"]]
            assert said == ["call", "call", *told[0], "call", *told[1], *told[2]]

    asyncio.run(three_batches())


def test_who_gave_up_is_not_sent(stocked: str) -> None:
    async def give_up() -> None:
        async with _Opened(stocked) as client:
            batcher = Batcher(client)
            first = asyncio.create_task(batcher.take("bf", request("first")))
            await asyncio.sleep(0)
            gone = request("gone")
            leaving = asyncio.create_task(batcher.take("bf", gone))
            staying = asyncio.create_task(batcher.take("bf", request("staying")))
            await asyncio.sleep(0)
            leaving.cancel()
            assert (await first).outcome is (await staying).outcome is Outcome.HELD
            await batcher.close()
            assert await peek(client, [gone.token]) is not None
            _, [record] = await peek(client, [gone.token])
            assert record is None

    asyncio.run(give_up())


class _LosesReplies:
    """A connection whose first ``losses`` replies are lost after the script ran."""

    def __init__(self, client: redis.asyncio.Redis, losses: int) -> None:
        self.client, self.losses = client, losses

    async def execute_command(self, *args: object) -> object:
        answer = await self.client.execute_command(*args)  # type: ignore[no-untyped-call]
        if self.losses:
            self.losses -= 1
            raise redis.exceptions.ConnectionError("reply lost")
        return answer


@pytest.mark.parametrize("losses", [1, 2])
def test_a_lost_reply_takes_nothing_twice(stocked: str, losses: int) -> None:
    async def lose() -> None:
        async with _Opened(stocked) as client:
            batcher = Batcher(_LosesReplies(client, losses))  # type: ignore[arg-type]
            results = await asyncio.gather(
                *(batcher.take("bf", request(f"c{n}")) for n in range(5)), return_exceptions=True
            )
            first = results[0]
            if losses == 2:
                assert isinstance(first, redis.exceptions.ConnectionError)
            else:
                assert not isinstance(first, BaseException)
                assert first.outcome in (Outcome.REPLAYED, Outcome.HELD)
            shown = await run_async(client, commands.show("bf"))
            held = await client.hlen("fs:{bf}:holds")
            assert shown.products["sneaker-bf"].held == held <= 5
            assert (await batcher.take("bf", request("later"))).outcome is Outcome.HELD

    asyncio.run(lose())


def test_a_connection_that_is_cut_between_two_calls_is_opened_again(stocked: str) -> None:
    async def cut() -> None:
        async with _Opened(stocked) as client:
            line = Line(client)
            one, two = request("ann"), request("ben")
            [first] = await line.run(commands.hold("bf", [one]))
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal")  # type: ignore[no-untyped-call]
            with pytest.raises(redis.exceptions.ConnectionError):
                await line.run(commands.hold("bf", [two]))
            [second] = await line.run(commands.hold("bf", [two]))
            await line.close()
            assert [first.outcome, second.outcome] == [Outcome.HELD, Outcome.HELD]
            assert second.hold
            assert second.hold.customer == "ben"

    asyncio.run(cut())


def test_an_answer_that_comes_too_late_is_nobodys(stocked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def late() -> None:
        async with _Opened(stocked) as client:
            line, other = Line(client), connections.connect(stocked)
            assert (await line.run(commands.hold("bf", [request("warm")])))[0].outcome is Outcome.HELD
            monkeypatch.setattr("engine.line.REPLY_SECONDS", 0.1)
            other.client_pause(400)
            ann, ben = request("ann"), request("ben")
            with pytest.raises(redis.exceptions.TimeoutError):
                await line.run(commands.hold("bf", [ann]))
            monkeypatch.setattr("engine.line.REPLY_SECONDS", 10)
            [found] = await line.run(commands.hold("bf", [ben]))
            assert found.hold
            assert found.hold.customer == "ben"
            [again] = await line.run(commands.hold("bf", [ann]))
            assert again.outcome in (Outcome.HELD, Outcome.REPLAYED)
            assert again.hold
            assert again.hold.customer == "ann"
            shown = await run_async(client, commands.show("bf"))
            assert shown.products["sneaker-bf"].held == 3
            await line.close()
            other.close()

    asyncio.run(late())


def test_a_dead_server_fails_everybody_and_leaves_nobody_waiting() -> None:
    async def dead() -> None:
        async with _Opened("redis://127.0.0.1:1") as client:
            batcher = Batcher(client)
            results = await asyncio.wait_for(
                asyncio.gather(*(batcher.take("bf", request(f"c{n}")) for n in range(5)), return_exceptions=True), 10
            )
            assert all(isinstance(result, redis.exceptions.ConnectionError) for result in results)

    asyncio.run(dead())
