"""Orders paid from end to end: hold, order, intent at the stand-in, card, webhook, settled, in Postgres, captured.

``python -m loadtests.paid JSON`` is the customers' side, in a process of its own; it prints one line of JSON.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final
from urllib.parse import urlencode

import uvloop
from sqlalchemy import text

from loadtests import cpu, invariants
from loadtests.plan import Bench
from loadtests.report import row
from loadtests.stats import add_up, percentiles, ratios
from loadtests.wire import Connection, word

HOST: Final = "127.0.0.1"
CARD: Final = "pm_card_visa"
CUSTOMERS: Final = 48
"""Who are under way at once."""
SETTLED_SECONDS: Final = 120.0
LOOK_SECONDS: Final = (0.02, 0.5)
"""The least and the most between two looks at Postgres: a look is load too, and the last one tells the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shoppers:
    """How many buy, where, and with which publishable key their browsers speak to the payment provider."""

    port: int
    stripe_port: int
    publishable_key: str
    product: str
    count: int
    at_once: int = CUSTOMERS


@dataclass(slots=True)
class Bought:
    """Answers by step, milliseconds from the hold's request to the confirmed card, when the first hold was asked for
    (Unix time), and CPU seconds from there on.
    """

    answers: dict[str, int] = field(default_factory=dict)
    ms: dict[str, float] = field(default_factory=dict)
    began: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Round:
    """Orders a second from the first hold to the last capture, and what an order took of each role's CPU."""

    per_second: float
    shopping_ms: dict[str, float]
    cpu_ms: dict[str, float]


class Line:
    """One keep-alive connection that asks and waits."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    async def ask(self, path: str, body: bytes, kind: str, headers: str = "") -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        if self._connection is None:
            _, self._connection = await loop.create_connection(lambda: Connection(self._lost), HOST, self._port)
        head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {kind}\r\n{headers}"
        head += f"content-length: {len(body)}\r\n\r\n"
        answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._connection.send(head.encode() + body, lambda status, read: answer.set_result((status, read)))
        return await answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _lost(self, _: Connection) -> None:
        self._connection = None


async def shop(shoppers: Shoppers) -> Bought:
    """Everybody buys one unit."""
    numbers = iter(range(shoppers.count))
    counts: list[dict[str, int]] = []
    times: list[float] = []
    began, cpu_began = time.time(), time.process_time()

    async def one_after_another() -> None:
        shop_line, card_line = Line(shoppers.port), Line(shoppers.stripe_port)
        for number in numbers:
            begin = time.perf_counter()
            counts.append(await _buy(shoppers, shop_line, card_line, number))
            times.append((time.perf_counter() - begin) * 1000)
        shop_line.close()
        card_line.close()

    await asyncio.gather(*(one_after_another() for _ in range(shoppers.at_once)))
    return Bought(add_up(counts), percentiles(times), began, time.process_time() - cpu_began)


async def _buy(shoppers: Shoppers, shop_line: Line, card_line: Line, number: int) -> dict[str, int]:
    kind = "application/json"
    wanted = {"customer_id": f"paid-{number}", "product_id": shoppers.product, "qty": 1}
    status, read = await shop_line.ask("/v1/holds", json.dumps(wanted).encode(), kind)
    said = {f"hold {word(status, read)}": 1}
    if status != 201:
        return said
    hold_id = json.loads(read)["id"]
    body = json.dumps({"hold_id": hold_id}).encode()
    status, read = await shop_line.ask("/v1/orders", body, kind, f"idempotency-key: order-{hold_id}\r\n")
    said[f"order {word(status, read)}"] = 1
    if status != 201:
        return said
    payment = json.loads(read)["payment"]
    form = urlencode(
        {"key": shoppers.publishable_key, "client_secret": payment["client_secret"], "payment_method": CARD}
    )
    path = f"/v1/payment_intents/{payment['intent_id']}/confirm"
    status, read = await card_line.ask(path, form.encode(), "application/x-www-form-urlencoded")
    said[f"card {word(status, read)}"] = 1
    return said


def end_to_end(bench: Bench) -> None:
    """From the first hold to the last capture in Postgres, against the empty typed POST of the same round."""
    orders = bench.sizes.paid
    posts: list[float] = []
    rounds: list[Round] = []
    bench.stage.clear()
    with bench.stage.workers():
        for _ in range(bench.sizes.rounds):
            posts.append(bench.empty_post().per_second)
            rounds.append(_round(bench, orders))
    per_second = [each.per_second for each in rounds]
    figures = {
        "shopping_ms": [each.shopping_ms for each in rounds],
        "cpu_ms_an_order": [each.cpu_ms for each in rounds],
    }
    name = f"paid orders from end to end, {orders:,} of them"
    bench.add(row(name, per_second, unit="/s", detail=_shares(rounds), figures=figures))
    bench.add(row("paid orders against the empty typed POST", ratios(per_second, posts), goal=">= 0.02"))


def _round(bench: Bench, orders: int) -> Round:
    stage = bench.stage
    sale = stage.load(stock=orders)
    shoppers = Shoppers(
        port=stage.port,
        stripe_port=stage.stand_in.port,
        publishable_key=stage.stand_in.publishable_key,
        product=sale.product,
        count=orders,
    )
    before = stage.cpu_seconds()
    bought = _run(shoppers)
    captured = _wait_captured(bench, sale.id, orders, bought.began)
    seconds = time.time() - bought.began
    spent = cpu.spent(before, stage.cpu_seconds()) | {"customers": bought.cpu_seconds}
    bench.broke(invariants.only(bought.answers, "hold 201", "order 201", "card 200"))
    if captured != orders:
        bench.broke([f"{captured} of {orders} orders were paid and captured after {SETTLED_SECONDS:g} s"])
    stage.settle(sale)
    bench.broke(invariants.redis_counters(stage.client, sale.id))
    bench.broke(invariants.stores_agree(stage.client, stage.db, sale.id))
    return Round(captured / seconds, bought.ms, {role: taken * 1000 / orders for role, taken in spent.items()})


def _shares(rounds: Sequence[Round]) -> str:
    """Where an order's CPU goes: each role's median."""
    medians = {role: median(each.cpu_ms[role] for each in rounds) for role in rounds[0].cpu_ms}
    shares = ", ".join(f"{role} {taken:.1f}" for role, taken in medians.items())
    return f"CPU for an order {sum(medians.values()):.1f} ms: {shares}"


def _run(shoppers: Shoppers) -> Bought:
    argv = [sys.executable, "-m", "loadtests.paid", json.dumps(asdict(shoppers))]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    values: dict[str, Any] = json.loads(done.stdout)
    return Bought(**values)


def _wait_captured(bench: Bench, sale_id: str, orders: int, began: float) -> int:
    """Orders that are paid and whose money is captured, in Postgres; returns once it is all of them."""
    query = text(
        "SELECT count(*) FROM orders JOIN payments ON order_id = id"
        " WHERE sale_id = :sale AND orders.status = 'paid' AND payments.status = 'succeeded'"
    )
    end = time.time() + SETTLED_SECONDS
    least, most = LOOK_SECONDS
    while True:
        with bench.stage.db.connect() as conn:
            captured: int = conn.execute(query, {"sale": sale_id}).scalar_one()
        now = time.time()
        if captured >= orders or now > end:
            return captured
        # Half of the time that the rest takes at this rate.
        rest = (now - began) * (orders - captured) / captured / 2 if captured else most
        time.sleep(min(max(rest, least), most))


def main() -> int:
    bought = uvloop.run(shop(Shoppers(**json.loads(sys.argv[1]))))
    print(json.dumps(asdict(bought)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
