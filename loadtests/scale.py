"""What a million live holds cost, in time and in memory, and what their end does to those who buy meanwhile."""

import time
from collections.abc import Callable
from functools import partial

from engine import commands, keys
from engine.command import run
from loadtests import invariants
from loadtests.charts import Chart
from loadtests.fill import BATCH, fill, requests
from loadtests.latency import offered
from loadtests.openloop import Outcome
from loadtests.plan import STOCK, Bench
from loadtests.report import row
from loadtests.stage import Sale
from loadtests.stats import percentile, ratios
from loadtests.wrk import Peak

FEW = 1000
BUY_RATE = 1000
"""Holds a second that are offered while many others expire."""
SHIFT_MS = 7_200_000
"""Twice the time that the stage's holds live."""


def redis_cpu(bench: Bench) -> None:
    """Redis's own time for a hold in full batches, by ``INFO commandstats``; its whole CPU beside it."""
    stage = bench.stage
    times = max(bench.sizes.backlog // BATCH, 20)
    script: list[float] = []
    whole: list[float] = []
    for _ in range(bench.sizes.rounds):
        stage.clear()
        sale = stage.load(stock=STOCK)
        calls = [commands.hold(sale.id, requests(sale.product, BATCH)) for _ in range(times)]
        stage.client.config_resetstat()
        before = _cpu_seconds(bench)
        for call in calls:
            run(stage.client, call)
        stats = stage.client.info("commandstats")
        whole.append((_cpu_seconds(bench) - before) * 1e6 / (times * BATCH))
        script.append(sum(stats[name]["usec"] for name in stats if name.startswith("cmdstat_eval")) / (times * BATCH))
    detail = f"{times} batches of {BATCH}; by the wall clock, so a busy machine shows more"
    bench.add(row("Redis's time for a hold at full batches", script, unit="us", goal="<= 10", detail=detail))
    bench.add(row("the same, all CPU of its process", whole, unit="us", detail="parsing, replies and the AOF too"))


def _cpu_seconds(bench: Bench) -> float:
    info = bench.stage.client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def many_holds(bench: Bench) -> None:
    """Holds/s in a sale with a million live holds, against one with a thousand; memory; and the million's end."""
    stage, live = bench.stage, bench.sizes.live
    stage.clear()
    many = stage.load(stock=STOCK)
    bench.say(f"  taking {live:,} holds")
    before = stage.memory()
    fill(stage.client, many.id, many.product, live)
    used = stage.memory() - before - stage.stream_bytes(many)
    bench.add(
        row(
            f"memory for a live hold, {live:,} of them, all keys but undrained events",
            [used / live],
            unit="bytes",
            goal="<= 300",
            figures=_sizes(bench, many),
        )
    )

    def beside_few() -> Peak:
        few = stage.load(stock=STOCK)
        fill(stage.client, few.id, few.product, FEW)
        found = bench.holds(few)
        stage.forget(few)
        return found

    sides: dict[str, Callable[[], Peak]] = {"few": beside_few, "many": partial(bench.holds, many)}
    found = bench.rounds(sides)
    against = ratios([each.per_second for each in found["many"]], [each.per_second for each in found["few"]])
    bench.add(row(f"holds/s at {live:,} live holds against {FEW:,}", against, goal=">= 0.9"))
    _expire(bench, many)


def _sizes(bench: Bench, sale: Sale) -> dict[str, int]:
    client = bench.stage.client
    names = {
        "holds": keys.holds(sale.id),
        "customers": keys.customers(sale.id),
        "deadlines": keys.deadlines(sale.id, sale.product),
        "events": keys.events(sale.id),
    }
    return {name: int(client.memory_usage(key, samples=0) or 0) for name, key in names.items()}


def _expire(bench: Bench, sale: Sale) -> None:
    """All live holds of a sale become overdue in one moment, while others buy at a steady rate. Once, for it cannot
    be done twice with the same million.
    """
    stage, seconds = bench.stage, bench.sizes.expiring_seconds
    client = stage.client
    live = stage.show(sale).products[sale.product].held
    patience = max(120.0, live / 2000)
    with stage.workers():
        bench.say(f"  waiting until Postgres has {live:,} holds")
        waited = stage.settle(sale, patience)
        bench.add(row(f"workers drain a backlog of {live:,} holds", [live / max(waited, 0.001)], unit="/s"))
        request = sale.hold("buyer-")
        before: Outcome = offered(bench, stage.port, request, BUY_RATE, seconds, series_seconds=1.0)
        stage.settle(sale)
        # Tests move time by this shift; here it makes every deadline pass at once.
        client.hset(keys.sale(sale.id), "shift_ms", SHIFT_MS)
        began = time.monotonic()
        during: Outcome = offered(bench, stage.port, request, BUY_RATE, seconds, series_seconds=1.0)
        while client.zcount(keys.deadlines(sale.id, sale.product), "-inf", time.time() * 1000 + SHIFT_MS):
            if time.monotonic() - began > patience:
                bench.broke([f"{live:,} overdue holds were not swept within {patience:g} s"])
                break
            time.sleep(0.05)
        swept = time.monotonic() - began
        stage.settle(sale, patience)
        bench.broke(invariants.stores_agree(client, stage.db, sale.id))
    bench.broke(invariants.redis_counters(client, sale.id))
    calm, busy = _p99(before), _p99(during, swept)
    name = f"p99 of holds at {BUY_RATE:,}/s while {live:,} holds expire, against before"
    detail = f"p99 {calm:.1f} ms before, {busy:.1f} ms meanwhile; all were back after {swept:.0f} s"
    bench.add(row(name, [busy / calm], goal="<= 2", detail=detail))
    bench.report.charts.append(
        Chart(
            name="expiry",
            title=f"p99 of holds at {BUY_RATE:,}/s, before and while {live:,} holds expire",
            x="seconds",
            y="ms",
            lines={
                "before": [(each["at"], each["p99"]) for each in before.series],
                "while they expire": [(each["at"], each["p99"]) for each in during.series],
            },
        )
    )


def _p99(found: Outcome, seconds: float = float("inf")) -> float:
    """The median of the seconds' p99; of the first ones only where what comes after them would water it down."""
    stretches = [each["p99"] for each in found.series if each["at"] < max(seconds, 1.0)]
    return percentile(sorted(stretches), 0.5)
