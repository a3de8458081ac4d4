"""The drain: how fast it is alone, and how far behind it falls while holds are taken."""

import time

from engine.records import Position
from loadtests import invariants, openloop
from loadtests.charts import Chart
from loadtests.fill import BATCH, fill
from loadtests.lag import LagSampler, by_second
from loadtests.openloop import Plan
from loadtests.plan import STOCK, Bench
from loadtests.report import row
from loadtests.stage import Sale
from loadtests.stats import percentile, ratios
from persistence.drain import drain_once

RATE = 2000


def alone(bench: Bench) -> None:
    """One drainer and a backlog, in batches as a rush makes them, and in events of one hold each."""
    backlog = bench.sizes.backlog
    batched = [_drain_backlog(bench, backlog, BATCH) for _ in range(bench.sizes.rounds)]
    single = [_drain_backlog(bench, backlog // 5, 1) for _ in range(bench.sizes.rounds)]
    name = f"holds that the drainer alone writes, {BATCH} in an event"
    bench.add(row(name, batched, unit="/s", goal=">= 10,000"))
    bench.add(row("the same, each in an event of its own", single, unit="/s"))


def _drain_backlog(bench: Bench, holds: int, batch: int) -> float:
    stage = bench.stage
    stage.clear()
    sale = stage.load(stock=holds)
    fill(stage.client, sale.id, sale.product, holds, batch)
    end: Position = stage.show(sale).position
    begin = time.perf_counter()
    while True:
        drained = drain_once(stage.db, stage.client, sale.id)
        if drained and drained.position >= end:
            break
    seconds = time.perf_counter() - begin
    _check(bench, sale)
    return holds / seconds


def at_a_rate(bench: Bench) -> None:
    """2,000 holds/s offered over HTTP with workers running: when is each hold's row there?"""
    stage = bench.stage
    stage.clear()
    p50: list[float] = []
    p99: list[float] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    with stage.workers():
        for number in range(bench.sizes.rounds):
            sale = stage.load(stock=STOCK)
            request = sale.hold("rate-")
            with LagSampler(stage.db, sale.id) as sampler:
                found = openloop.measure(
                    Plan(
                        port=stage.port,
                        method=request.method,
                        path=request.path,
                        body=request.body,
                        rate=RATE,
                        count=RATE * bench.sizes.rate_seconds,
                    )
                )
                stage.settle(sale)
                time.sleep(0.05)
            bench.broke(invariants.only(found.answers, "201"))
            _check(bench, sale)
            lags = sorted(sampler.lag_seconds())
            if len(lags) != found.sent:
                bench.broke([f"{found.sent} holds were taken and {len(lags)} rows came"])
            p50.append(percentile(lags, 0.50))
            p99.append(percentile(lags, 0.99))
            lines[f"{RATE}/s, round {number + 1}"] = by_second(sampler.lags())
    name = f"from a hold to its row in Postgres at {RATE:,}/s: p99"
    bench.add(row(name, p99, unit="s", goal="<= 1", figures={"p50": p50}))
    bench.report.charts.append(_chart("lag", f"Longest lag of each half second at {RATE:,} holds/s", lines))


def at_full_rate(bench: Bench) -> None:
    """Holds at the rate that the door reaches beside a running drain: the lag must stay flat."""
    stage = bench.stage
    stage.clear()
    drained: list[float] = []
    taken: list[float] = []
    p99: list[float] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    with stage.workers():
        for number in range(bench.sizes.rounds):
            sale = stage.load(stock=STOCK)
            with LagSampler(stage.db, sale.id) as sampler:
                bench.holds(sale)
                stage.settle(sale)
                time.sleep(0.05)
            _check(bench, sale)
            lags = sampler.lags()
            holds = sum(each for _, _, each in lags)
            taken.append(holds / (lags[-1][0] - lags[0][0]))
            drained.append(holds / (lags[-1][0] + lags[-1][1] - lags[0][0] - lags[0][1]))
            p99.append(percentile(sorted(sampler.lag_seconds()), 0.99))
            lines[f"round {number + 1}"] = by_second(lags)
    bench.add(row("holds taken while the drain runs, 64 connections", taken, unit="/s"))
    detail = "from the first row to the last, against from the first hold to the last; to two places"
    against = [round(each, 2) for each in ratios(drained, taken)]
    bench.add(row("drained holds against holds taken, both running", against, goal=">= 1", detail=detail))
    bench.add(row("lag p99 meanwhile", p99, unit="s", goal="< 1"))
    bench.report.charts.append(_chart("lag-full", "Longest lag of each half second at full rate", lines))


def _check(bench: Bench, sale: Sale) -> None:
    stage = bench.stage
    bench.broke(invariants.redis_counters(stage.client, sale.id))
    bench.broke(invariants.stores_agree(stage.client, stage.db, sale.id))


def _chart(name: str, title: str, lines: dict[str, list[tuple[float, float]]]) -> Chart:
    return Chart(name=name, title=title, x="seconds into the run", y="seconds of lag", lines=lines)
