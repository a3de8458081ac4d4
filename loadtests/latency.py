"""Latency at a rate that both sides can carry, from the moment at which each request was due."""

from collections.abc import Callable
from functools import partial

from loadtests import invariants, openloop
from loadtests.openloop import Outcome, Plan
from loadtests.plan import EMPTY_POST, STOCK, Bench
from loadtests.report import row
from loadtests.stats import ratios
from loadtests.wire import Request

RATE = 2000


def offered(bench: Bench, port: int, request: Request, rate: int = RATE, seconds: int = 0, **more: float) -> Outcome:
    """Load at a rate. Every answer must be a 201."""
    plan = Plan(
        port=port,
        method=request.method,
        path=request.path,
        body=request.body,
        rate=rate,
        count=rate * (seconds or bench.sizes.rate_seconds),
        first=bench.first(),
        **more,  # type: ignore[arg-type]
    )
    found = openloop.measure(plan)
    bench.broke(invariants.only(found.answers, "201"))
    return found


def at_a_rate(bench: Bench) -> None:
    """p99 of a hold, and of a handler that does nothing, at 2,000/s offered; workers running."""
    stage = bench.stage
    stage.clear()
    with stage.workers():
        sale = stage.load(stock=STOCK)

        def holds() -> Outcome:
            found = offered(bench, stage.port, sale.hold("rate-"))
            stage.settle(sale)
            return found

        posts = partial(offered, bench, bench.yardstick_port, EMPTY_POST)
        sides: dict[str, Callable[[], Outcome]] = {"post": posts, "hold": holds}
        found = bench.rounds(sides)
    bench.broke(invariants.redis_counters(stage.client, sale.id))
    post, hold = ([each.ms["p99"] for each in found[name]] for name in ("post", "hold"))
    late = max(each.late_ms.get("p99", 0.0) for side in found.values() for each in side)
    figures = {name: [each.ms for each in side] for name, side in found.items()}
    bench.add(row(f"empty typed POST at {RATE:,}/s offered: p99", post, unit="ms"))
    bench.add(row(f"hold at {RATE:,}/s offered: p99", hold, unit="ms", figures=figures))
    name = f"p99 of a hold against the empty POST's at {RATE:,}/s offered"
    detail = f"workers running; the generator itself was {late:.2f} ms late at its p99"
    bench.add(row(name, ratios(hold, post), goal="<= 2", detail=detail))
