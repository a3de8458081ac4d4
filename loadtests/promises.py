"""What a sale promises while everybody comes at once: exact counts, and units that come back at their deadline."""

import time
from datetime import datetime

from loadtests import invariants, openloop
from loadtests.fill import fill
from loadtests.openloop import Outcome, Plan
from loadtests.plan import Bench
from loadtests.report import row
from loadtests.stage import Sale

ASK_SECONDS = 0.002
"""Pause between two tries to buy a unit that is about to come back."""


def rush(bench: Bench) -> None:
    """500 units, 5,000 customers at once over 200 connections."""
    stage = bench.stage
    stage.clear()
    held: list[float] = []
    p99: list[float] = []
    with stage.workers():
        for _ in range(bench.sizes.rounds):
            sale = stage.load(stock=500)
            found = _at_once(bench, sale, customers=5000, connections=200)
            held.append(found.answers.get("201", 0))
            p99.append(found.ms["p99"])
            if found.answers != {"201": 500, "409 sold_out": 4500}:
                bench.broke([f"a rush of 5,000 for 500 units was answered {found.answers}"])
            _check(bench, sale, found)
    bench.add(row("holds of 500 units, 5,000 customers at once over 200 connections", held, goal="= 500"))
    bench.add(row("the same: p99 of an answer, from the moment all asked", p99, unit="ms"))


def contested(bench: Bench) -> None:
    """101 units, 400 customers at once, again and again; each hold is in Redis and in Postgres."""
    stage = bench.stage
    stage.clear()
    held: list[float] = []
    with stage.workers():
        for _ in range(bench.sizes.burst_times):
            sale = stage.load(stock=101)
            found = _at_once(bench, sale, customers=400, connections=400)
            held.append(found.answers.get("201", 0))
            if found.answers != {"201": 101, "409 sold_out": 299}:
                bench.broke([f"400 customers for 101 units were answered {found.answers}"])
            _check(bench, sale, found)
    bench.add(
        row(
            f"holds of 101 units, 400 customers at once, {bench.sizes.burst_times} times",
            held,
            goal="= 101",
            detail="every 201 names a hold that Redis and Postgres have",
        )
    )


def _at_once(bench: Bench, sale: Sale, customers: int, connections: int) -> Outcome:
    request = sale.hold("rush-")
    plan = Plan(
        port=bench.stage.port,
        method=request.method,
        path=request.path,
        body=request.body,
        count=customers,
        connections=connections,
        keep=True,
    )
    return openloop.measure(plan)


def _check(bench: Bench, sale: Sale, found: Outcome) -> None:
    stage = bench.stage
    stage.settle(sale)
    bench.broke(invariants.redis_counters(stage.client, sale.id))
    bench.broke(invariants.stores_agree(stage.client, stage.db, sale.id))
    bench.broke(invariants.holds_exist(stage.client, stage.db, sale.id, found.ids))


def abandoned(bench: Bench) -> None:
    """When an abandoned unit can be bought again."""
    crowd = bench.sizes.crowd
    alone = [_bought_after(bench, crowd=0) for _ in range(bench.sizes.rounds)]
    bench.add(row("abandoned unit bought again after its deadline, no worker running", alone, unit="s", goal="<= 0.1"))
    behind = [_bought_after(bench, crowd=crowd) for _ in range(bench.sizes.rounds)]
    name = f"the same, {crowd:,} overdue holds of another product before it"
    bench.add(row(name, behind, unit="s", goal="<= 0.1"))
    shown = [_shown_after(bench, crowd=crowd) for _ in range(bench.sizes.rounds)]
    name = f"abandoned unit on show again after its deadline, workers running, among {crowd:,} overdue holds of another"
    bench.add(row(name, shown, unit="s", goal="<= 1"))


def _abandon(bench: Bench, crowd: int, *, overdue_first: bool) -> tuple[Sale, float]:
    """The sale of one unit that somebody holds and will not buy, and its deadline."""
    stage = bench.stage
    ttl = 3 + crowd // 50_000
    sale = stage.load(stock={"unit": 1, "other": max(crowd, 1)}, ttl_seconds=ttl)
    if crowd:
        fill(stage.client, sale.id, sale.products[1], crowd)
        if overdue_first:
            time.sleep(ttl)
    status, hold = stage.ask("POST", "/v1/holds", {"customer_id": "gone", "product_id": sale.product, "qty": 1})
    if status != 201:
        raise RuntimeError(f"the unit could not be held: {status} {hold}")
    return sale, datetime.fromisoformat(hold["expires_at"]).timestamp()


def _bought_after(bench: Bench, crowd: int) -> float:
    """Seconds from the deadline to the answer that gives the unit to the next customer."""
    stage = bench.stage
    stage.clear()
    sale, deadline = _abandon(bench, crowd, overdue_first=True)
    time.sleep(max(deadline - time.time() - 0.1, 0))
    wanted = {"customer_id": "next", "product_id": sale.product, "qty": 1}
    while True:
        status, answer = stage.ask("POST", "/v1/holds", wanted)
        now = time.time()
        if status == 201:
            break
        if answer.get("code") != "sold_out" or now > deadline + 30:
            raise RuntimeError(f"the unit did not come back: {status} {answer}")
        time.sleep(ASK_SECONDS)
    if now < deadline:
        bench.broke([f"a unit was given away {deadline - now:.3f} s before its deadline"])
    bench.broke(invariants.redis_counters(stage.client, sale.id))
    return max(now - deadline, 0.0)


def _shown_after(bench: Bench, crowd: int) -> float:
    """Seconds from the deadline until the product is shown as available, and it must be bought then."""
    stage = bench.stage
    stage.clear()
    with stage.workers():
        sale, deadline = _abandon(bench, crowd, overdue_first=False)
        time.sleep(max(deadline - time.time() - 0.1, 0))
        while stage.ask("GET", f"/v1/products/{sale.product}")[1]["stock"]["available"] < 1:
            if time.time() > deadline + 60:
                raise RuntimeError("the unit did not come back")
            time.sleep(ASK_SECONDS)
        after = max(time.time() - deadline, 0.0)
        wanted = {"customer_id": "next", "product_id": sale.product, "qty": 1}
        status, answer = stage.ask("POST", "/v1/holds", wanted)
        if status != 201:
            bench.broke([f"a unit that was on show could not be bought: {answer}"])
        stage.settle(sale)
    bench.broke(invariants.redis_counters(stage.client, sale.id))
    return after
