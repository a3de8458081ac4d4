"""How many requests a second: ours against handlers that do nothing, and against the same API on Postgres alone."""

from functools import partial

from loadtests import invariants, wrk
from loadtests.charts import Chart
from loadtests.plan import EMPTY_RAW, STOCK, Bench
from loadtests.report import row
from loadtests.stats import ratios
from loadtests.wire import Request


def per_second(found: list[wrk.Peak]) -> list[float]:
    return [each.per_second for each in found]


def holds_per_second(bench: Bench) -> None:
    """Workers are stopped: how the drain keeps up has a figure of its own."""
    for connections in (64, 256):
        stage = bench.stage
        stage.clear()
        sale = stage.load(stock=STOCK)
        found = bench.rounds(
            {
                "post": partial(bench.empty_post, connections),
                "hold": partial(bench.holds, sale, connections),
                "raw": partial(bench.peak, bench.yardstick_port, EMPTY_RAW, connections),
            }
        )
        post, hold, raw = (per_second(found[name]) for name in ("post", "hold", "raw"))
        bench.add(row(f"empty typed POST, {connections} connections", post, unit="/s"))
        bench.add(row(f"empty raw route, {connections} connections", raw, unit="/s"))
        bench.add(row(f"holds, {connections} connections", hold, unit="/s", figures=_latencies(found["hold"])))
        bench.add(
            row(f"holds against the empty typed POST, {connections} connections", ratios(hold, post), goal=">= 1.2")
        )


def holds_with_workers(bench: Bench) -> None:
    """The same with everything on: the drain shares the two cores."""
    stage = bench.stage
    stage.clear()
    with stage.workers():
        sale = stage.load(stock=STOCK)

        def holds() -> wrk.Peak:
            found = bench.holds(sale)
            stage.settle(sale)
            return found

        found = bench.rounds({"post": bench.empty_post, "hold": holds})
        bench.broke(invariants.stores_agree(stage.client, stage.db, sale.id))
    post, hold = per_second(found["post"]), per_second(found["hold"])
    name = "holds against the empty typed POST, 64 connections, while the drain runs on the same cores"
    bench.add(row(name, ratios(hold, post), figures={"holds": hold, "posts": post}))


def against_postgres(bench: Bench) -> None:
    """The hot row costs the peer a commit each; ours shares one."""
    stage, port = bench.stage, bench.peer_port()
    stage.clear()
    sale = stage.load(stock=STOCK)
    with stage.db.begin() as conn:
        conn.exec_driver_sql("INSERT INTO peer.products VALUES ('hot', 1900, 'usd', 9000000, 9000000)")
    request = Request("POST", "/v1/holds", '{"customer_id":"wrk-{n}","product_id":"hot","qty":1}')
    found = bench.rounds({"peer": lambda: bench.peak(port, request, 64), "hold": lambda: bench.holds(sale)})
    with stage.db.connect() as conn:
        total, left = conn.exec_driver_sql("SELECT total, available FROM peer.products").one()
        rows = conn.exec_driver_sql("SELECT count(*) FROM peer.holds").scalar_one()
    if total - left != rows:
        bench.broke([f"the peer took {total - left} units for {rows} holds"])
    peer, hold = per_second(found["peer"]), per_second(found["hold"])
    bench.add(row("holds of the same API on Postgres alone, 64 connections", peer, unit="/s"))
    bench.add(row("holds against Postgres alone, 64 connections", ratios(hold, peer), goal=">= 20"))


def sold_out(bench: Bench) -> None:
    """Everybody but the first is refused; no answer may be anything else."""
    _sold_out(bench, "sold-out answers against the empty typed POST, 64 connections", goal=">= 1.5")
    _sold_out(bench, "the same, of a product with a limit a customer: each is asked of Redis", limit=2)
    bench.stage.start_api(sold_out_ms=0)
    try:
        _sold_out(bench, "the same without a limit, FLASHSALE_SOLD_OUT_MS=0: each is asked of Redis")
    finally:
        bench.stage.start_api()


def _sold_out(bench: Bench, name: str, *, goal: str = "", limit: int | None = None) -> None:
    stage = bench.stage
    stage.clear()
    sale = stage.load(stock=1, limit=limit)
    stage.ask("POST", "/v1/holds", {"customer_id": "first", "product_id": sale.product, "qty": 1})

    def refusals() -> wrk.Peak:
        found = bench.peak(stage.port, sale.hold("late-"), 64)
        if found.refused != found.requests:
            bench.broke([f"{found.requests - found.refused} of {found.requests} answers were no refusal"])
        return found

    found = bench.rounds({"post": bench.empty_post, "sold_out": refusals})
    bench.broke(invariants.redis_counters(stage.client, sale.id))
    post, refused = per_second(found["post"]), per_second(found["sold_out"])
    bench.add(row(name, ratios(refused, post), goal=goal, figures={"sold_out": refused, "posts": post}))


def product_reads(bench: Bench) -> None:
    """A product page's stock."""
    stage = bench.stage
    stage.clear()
    sale = stage.load(stock=STOCK)
    request = Request("GET", f"/v1/products/{sale.product}")

    def read() -> wrk.Peak:
        found = bench.peak(stage.port, request, 64)
        if found.refused:
            bench.broke([f"{found.refused} product reads were refused"])
        return found

    found = bench.rounds({"get": bench.empty_get, "read": read})
    get, reads = per_second(found["get"]), per_second(found["read"])
    bench.add(
        row(
            "product reads against the empty typed GET, 64 connections",
            ratios(reads, get),
            goal=">= 1.0",
            figures={"reads": reads, "gets": get},
        )
    )


def by_connections(bench: Bench) -> None:
    """The charts: throughput and latency against connections."""
    stage = bench.stage
    stage.clear()
    sale = stage.load(stock=STOCK)
    throughput: dict[str, list[tuple[float, float]]] = {"hold": [], "empty POST": []}
    latency: dict[str, list[tuple[float, float]]] = {"hold p99": [], "empty POST p99": []}
    for connections in bench.sizes.connections:
        for name, found in (
            ("hold", bench.holds(sale, connections)),
            ("empty POST", bench.empty_post(connections)),
        ):
            throughput[name].append((connections, found.per_second))
            latency[f"{name} p99"].append((connections, found.p99_ms))
    bench.report.charts += [
        Chart(
            name="throughput",
            title="Requests a second, by connections",
            x="connections",
            y="requests/s",
            lines=throughput,
            log_x=True,
        ),
        Chart(
            name="latency",
            title="p99 at full load, by connections",
            x="connections",
            y="ms",
            lines=latency,
            log_x=True,
        ),
    ]


def _latencies(found: list[wrk.Peak]) -> dict[str, list[float]]:
    return {"p50_ms": [each.p50_ms for each in found], "p99_ms": [each.p99_ms for each in found]}
