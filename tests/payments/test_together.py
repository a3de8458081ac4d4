"""Callers that come together are served in sets: each gets its own answer, and what is wrong with one is its own."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from redis.exceptions import ConnectionError as RedisAway

from payments.checkout import OrderRequest, place_order
from payments.once import Answer
from payments.together import Together
from persistence.refusals import Refusal
from tests.payments.shop import Shop


class Line:
    """Work that the first set waits in, so that what comes meanwhile is the next one."""

    def __init__(self, answer: Callable[[int], int | Exception]) -> None:
        self.sets: list[list[int]] = []
        self._answer = answer
        self._together = Together()
        self._began, self._go = threading.Event(), threading.Event()

    def _work(self, wishes: Sequence[int]) -> list[int | Exception]:
        self.sets.append(list(wishes))
        self._began.set()
        self._go.wait(5)
        return [self._answer(wish) for wish in wishes]

    def ask(self, wish: int) -> int:
        return self._together.do("lane", self._work, wish)

    def ask_all(self, first: int, *others: int) -> list[int | BaseException | None]:
        """``first`` alone, and the others while it is under way."""
        with ThreadPoolExecutor(len(others) + 1) as threads:
            asked = [threads.submit(self.ask, first)]
            assert self._began.wait(5)
            for wish in others:
                asked.append(threads.submit(self.ask, wish))
                _until(lambda: len(self._together._lanes["lane"]) == len(asked) - 1)
            self._go.set()
            return [each.exception() or each.result() for each in asked]


def _until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to that")


def test_what_comes_meanwhile_is_the_next_set() -> None:
    line = Line(lambda wish: wish * 10)
    assert line.ask_all(1, 2, 3, 4) == [10, 20, 30, 40]
    assert line.sets == [[1], [2, 3, 4]]
    assert line.ask(5) == 50
    assert line._together._lanes == {}


def test_each_gets_its_own_refusal() -> None:
    found = Line(lambda wish: ValueError("mine") if wish == 3 else wish).ask_all(1, 2, 3)
    assert (found[:2], type(found[2])) == ([1, 2], ValueError)


def test_where_a_set_fails_each_is_tried_by_itself() -> None:
    def answer(wish: int) -> int:
        if wish == 3:
            raise ValueError("mine")
        return wish

    line = Line(answer)
    found = line.ask_all(1, 2, 3, 4)
    assert (found[:2], type(found[2]), found[3]) == ([1, 2], ValueError, 4)
    assert line.sets == [[1], [2, 3, 4], [2], [3], [4]]


def test_what_is_away_is_asked_once_for_all() -> None:
    def answer(wish: int) -> int:
        if wish > 1:
            raise RedisAway
        return wish

    line = Line(answer)
    assert [type(each) for each in line.ask_all(1, 2, 3)] == [int, RedisAway, RedisAway]
    assert line.sets == [[1], [2, 3]]


def test_a_thread_that_is_ended_leaves_nobody_waiting() -> None:
    def answer(wish: int) -> int:
        if wish == 2:
            raise SystemExit
        return wish

    line = Line(answer)
    assert [type(each) for each in line.ask_all(1, 2, 3)] == [int, SystemExit, SystemExit]
    assert line.ask(4) == 4


def test_orders_that_come_at_the_same_time_are_each_their_own(shop: Shop) -> None:
    held = [shop.hold(f"customer-{number}") for number in range(8)]
    requests = [*held, *held, f"hold_{shop.sale}_{'A' * 20}"]
    lane = ("orders", shop.sale)
    with ThreadPoolExecutor(len(requests) + 2) as threads, shop.ctx.db.begin() as conn:
        conn.exec_driver_sql("LOCK TABLE answers")  # nobody gets past its claim before all have come
        asked = [threads.submit(_place, shop, hold_id) for hold_id in requests]
        _until(lambda: len(shop.ctx.together._lanes.get(lane, ())) == len(requests) - 1)
        late = [
            threads.submit(_place, shop, held[0], cart="another body"),
            threads.submit(_place, shop, held[0], "another key"),
        ]
        _until(lambda: len(shop.ctx.together._lanes.get(lane, ())) == len(requests) + 1)
        conn.commit()
    assert [_refusal(each) for each in (asked.pop(), *late)] == [
        "hold_not_found", "idempotency_mismatch", "hold_already_used",
    ]  # fmt: skip
    for hold_id, first, second in zip(held, asked[:8], asked[8:], strict=True):
        assert (first.result().status, first.result().body) == (201, second.result().body)
        assert shop.read(first.result().body)["hold_id"] == hold_id
    assert shop.rows("SELECT count(*), count(DISTINCT hold_id) FROM orders") == [(8, 8)]
    assert shop.rows("SELECT count(*) FROM attempts") == [(8,)]
    for each in asked[:8]:
        shop.confirm(shop.read(each.result().body))
    shop.work()
    shop.check()


def _place(shop: Shop, hold_id: str, key: str = "", **metadata: str) -> Answer:
    return place_order(shop.ctx, OrderRequest(hold_id=hold_id, metadata=metadata), key or f"key of {hold_id}")


def _refusal(asked: Future[Answer]) -> str:
    error = asked.exception()
    return error.code if isinstance(error, Refusal) else repr(error)
