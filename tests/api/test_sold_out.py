"""What a process says by itself of a product that is sold out: for a moment, and never to whom it could be wrong."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from math import ceil

import httpx
import pytest

from api.sold_out import SoldOut
from api.wire import Answer
from engine.commands import HoldAnswer
from engine.outcomes import Outcome
from engine.records import Position
from engine.settings import Settings
from tests.api.server import Shop, product, serving


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(sold_out: SoldOut, sale_id: str = "bf", qty: int = 1) -> int | None:
    """The seconds to the next deadline that are said, 0 for none; None where nothing is said."""
    found = sold_out.answer(
        sale_id, "sock", qty, lambda answer: Answer(409, b"%d" % max(ceil(answer.wait_ms / 1000), 0))
    )
    return None if found is None else int(found.body)


def said(*, wait_ms: int = -1, limit: int = 0, available: int = 0) -> HoldAnswer:
    return HoldAnswer(
        Position(1, 1), 0, Outcome.SOLD_OUT, product="sock", available=available, held=1, wait_ms=wait_ms, limit=limit
    )


def test_it_is_said_again_for_the_window_and_no_longer() -> None:
    clock = Clock()
    sold_out = SoldOut(5, clock)
    assert ask(sold_out) is None
    sold_out.remember("bf", said())
    clock.now += 0.0049
    assert ask(sold_out) == 0
    assert ask(sold_out, "other") is None
    clock.now += 0.0002
    assert ask(sold_out) is None


def test_never_past_the_next_deadline() -> None:
    clock = Clock()
    sold_out = SoldOut(60_000, clock)
    sold_out.remember("bf", said(wait_ms=2500))
    assert ask(sold_out) == 3
    clock.now += 1
    assert ask(sold_out) == 2
    clock.now += 1.4
    assert ask(sold_out) == 1
    clock.now += 0.1001
    assert ask(sold_out) is None


def test_fewer_units_may_be_there() -> None:
    sold_out = SoldOut(1000, Clock())
    sold_out.remember("bf", said(available=2))
    assert ask(sold_out, qty=2) is None
    assert ask(sold_out, qty=3) == 0


@pytest.mark.parametrize(("window", "limit"), [(0, 0), (1000, 2)])
def test_never_where_it_is_off_or_a_limit_comes_first(window: int, limit: int) -> None:
    sold_out = SoldOut(window, Clock())
    sold_out.remember("bf", said(limit=limit))
    assert ask(sold_out) is None


@pytest.fixture
def patient(settings: Settings) -> Iterator[Shop]:
    """An API that says it for a long time."""
    with serving(replace(settings, sold_out_ms=60_000)) as url, httpx.Client(base_url=url, timeout=15) as client:
        yield Shop(client)


def test_over_http(patient: Shop) -> None:
    patient.load(product("sock", 1), product("few", 1, per_customer_limit=1))
    hold = patient.hold(sock=1)
    first, again = patient.ask("bob", sock=1), patient.ask("cid", sock=1)
    assert (first.status_code, first.json()["code"]) == (409, "sold_out")
    assert {**again.json(), "detail": ""} == {**first.json(), "detail": ""}
    assert "flashsale_hold_batch_size_count 2.0" in patient.client.get("/metrics").text, "the third did not ask Redis"
    assert patient.ask("cid", "k", sock=1).status_code == 409
    assert "flashsale_hold_batch_size_count 3.0" in patient.client.get("/metrics").text, "one with a key asks Redis"

    patient.client.delete(f"/v1/holds/{hold['id']}")
    assert patient.ask("bob", sock=1).status_code == 201, "what this process released is known to be back"

    mine = patient.ask("ann", few=1).json()
    assert patient.ask("bob", few=1).json()["code"] == "sold_out"
    assert patient.ask("ann", few=1).json()["hold_ids"] == [mine["id"]], "the limit comes before the stock"


def test_nobody_who_waits_is_forgotten(patient: Shop) -> None:
    patient.load(product("sock", 3))
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: codes.append(patient.ask(f"c{n}", sock=1).status_code)) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert sorted(codes) == [201] * 3 + [409] * 9
