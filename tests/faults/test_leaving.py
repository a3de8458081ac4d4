"""SIGTERM in mid-sale, to every role and to `flashsale up`: each leaves with 0, and nothing acknowledged is lost."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sandbox.stack import RunningStack
from tests.api.server import Shop, product
from tests.cli.conftest import FILE, Background, Run, gone, run, start
from tests.faults.house import House
from tests.workers.conftest import eventually

__all__ = ["run", "start"]  # fixtures
pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(240)]

CUSTOMERS = 6
ENOUGH = 60
"""Holds after which a sale is under way."""


class Crowd:
    """Customers that buy until they are told to stop. ``held`` are the holds that they were given."""

    def __init__(self, url: str, product_id: str) -> None:
        self.held: list[str] = []
        self.other: set[int] = set()
        self._url, self._product = url, product_id
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._rush, args=(number,)) for number in range(CUSTOMERS)]

    def _rush(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    answer = Shop(client).ask(f"c{number}", **{self._product: 1})
                except httpx.TransportError:
                    self._stop.wait(0.05)
                    continue
                if answer.status_code == 201:
                    self.held.append(answer.json()["id"])
                else:
                    self.other.add(answer.status_code)

    def is_on(self) -> None:
        wanted = len(self.held) + ENOUGH
        eventually(lambda: len(self.held) >= wanted, "the rush is on", 30)

    @contextmanager
    def rushing(self) -> Iterator["Crowd"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def test_every_role_leaves_in_mid_sale(open_house: House, sale_id: str) -> None:
    name = f"{sale_id}-sock"
    with open_house.shop() as shop:
        shop.load(product(name, 100_000), sale_id=sale_id)
    with Crowd(open_house.url, name).rushing() as crowd:
        for role in ("worker", "scheduler", "api"):
            crowd.is_on()
            assert open_house.end(role) == 0
            open_house.start(role)
        crowd.is_on()
    assert crowd.other == set()
    eventually(lambda: open_house.drained(sale_id), "drained", 30)
    known = "SELECT count(*) FROM holds WHERE sale_id = :sale AND status = 'held' AND id = ANY(:ids)"
    assert open_house.query(known, sale=sale_id, ids=crowd.held) == len(set(crowd.held)) == len(crowd.held)
    open_house.settled(sale_id)


def test_up_leaves_in_mid_sale_and_everything_acknowledged_is_there_again(
    start: Callable[..., Background], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sale.yaml"
    file.write_text(FILE.replace("stock: 10", "stock: 100000").replace("hold_ttl_seconds: 1", "hold_ttl_seconds: 600"))
    file.write_text(file.read_text().replace("    per_customer_limit: 2\n", ""))
    up = start("up", "--port", "0", "--data-dir", "data")
    url = up.ready()
    assert run("sale", "load", str(file)).code == 0
    with Crowd(url, "sneaker").rushing() as crowd:
        crowd.is_on()
        family = up.family
        assert up.stop(signal.SIGTERM) == 0
    assert not gone(family)
    assert crowd.other == set()

    again = start("up", "--port", "0", "--data-dir", "data")
    url = again.ready()
    for hold_id in crowd.held[-CUSTOMERS:]:
        assert json.loads(httpx.get(f"{url}/v1/holds/{hold_id}").text)["status"] == "held"
    record = RunningStack.read(tmp_path / "data")
    assert record
    held = httpx.get(f"{url}/v1/products/sneaker").json()["stock"]["held"]
    assert 0 <= held - len(crowd.held) <= CUSTOMERS, "at most those whose answers were cut off with their connection"
    assert run("reconcile", "bf").code == 0
    assert again.stop(signal.SIGTERM) == 0
