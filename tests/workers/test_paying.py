"""When the steps of the payments slice run: at once when called, and in sets while there is more."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from payments import dues, inbox, refunds, wake
from payments.provider import Counters
from payments.tally import Tally
from workers import paying
from workers.paying import LIMIT, LINGER_SECONDS, Payer


class Steps:
    """Stand-ins for the steps: when each began, and what they say they found."""

    def __init__(self) -> None:
        self.began: dict[str, list[float]] = {"inbox": [], "dues": [], "refunds": [], "overdue": []}
        self.finds: dict[str, list[int]] = {}

    def step(self, name: str) -> Callable[..., int]:
        def run(*_: Any) -> int:
            self.began[name].append(time.monotonic())
            found = self.finds.get(name)
            return found.pop(0) if found else 0

        return run


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    monkeypatch.setattr(inbox, "handle_once", steps.step("inbox"))
    monkeypatch.setattr(dues, "run_once", steps.step("dues"))
    monkeypatch.setattr(refunds, "run_once", steps.step("refunds"))
    monkeypatch.setattr(paying, "release_overdue", steps.step("overdue"))
    return steps


@pytest.fixture
def payer(steps: Steps, redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Payer]:
    """One whose steps run at first, when they are called, and while they find something."""
    for period in ("wake.WAIT_SECONDS", "OVERDUE_SECONDS"):
        monkeypatch.setattr(f"workers.paying.{period}", 60.0)
    nothing: Any = None
    with ThreadPoolExecutor(4) as pool:
        yield Payer(nothing, redis_client, Tally(Counters(), redis_client), pool, pool)


def go_on(payer: Payer, steps: Steps, name: str, runs: int) -> None:
    """Until a step has run so often."""
    end = time.monotonic() + 10
    while len(steps.began[name]) < runs:
        assert time.monotonic() < end, steps.began
        payer.run_once()


def test_a_call_is_for_whoever_hears_it(payer: Payer, steps: Steps, redis_client: Redis) -> None:
    go_on(payer, steps, "overdue", 1)
    for runs in (2, 3, 4):
        wake.call(redis_client)
        go_on(payer, steps, "inbox", runs)
    assert len(steps.began["overdue"]) == len(steps.began["refunds"]) == 1


def test_after_news_a_step_lingers_so_that_its_next_set_is_larger(payer: Payer, steps: Steps) -> None:
    steps.finds["inbox"] = [3, 3, 3]
    go_on(payer, steps, "inbox", 4)
    assert all(after - before >= LINGER_SECONDS for before, after in pairwise(steps.began["inbox"]))
    assert len(steps.began["dues"]) == 1


def test_a_full_set_is_followed_by_the_next_at_once(
    payer: Payer, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paying, "LINGER_SECONDS", 60.0)
    steps.finds["dues"] = [LIMIT] * 5
    go_on(payer, steps, "dues", 6)
