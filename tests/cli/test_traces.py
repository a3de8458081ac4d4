"""Traces: one order's spans from API, workers and Stripe's calls in one trace, with no secret in them; and nothing of
OpenTelemetry's machinery where nobody asked for it.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.stack import RunningStack
from tests.cli.collector import Collector
from tests.cli.conftest import FILE, Background, Run
from tests.cli.test_up import wait_for
from tests.house.paths import ROOT

CALLER = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield collector
    collector.close()


def post(url: str, body: object) -> Any:
    head = {"Content-Type": "application/json", "traceparent": f"00-{CALLER}-b7ad6b7169203331-01"}
    request = urllib.request.Request(url, json.dumps(body).encode(), head, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.timeout(300)
def test_an_order_is_one_trace_across_processes(
    collector: Collector,
    start: Callable[..., Background],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sale.yaml"
    file.write_text(FILE)
    up = start("up", "--port", "0", "--data-dir", "data")
    url = up.ready()
    assert run("sale", "load", str(file)).code == 0
    hold = post(f"{url}/v1/holds", {"customer_id": "ann-of-cleves", "product_id": "sneaker", "qty": 1})
    order = post(f"{url}/v1/orders", {"hold_id": hold["id"], "payment_method_id": "pm_card_visa"})
    about = {"flashsale__order__id": order["id"]}
    wait_for(lambda: bool(collector.named("order.due", **about)), 60)
    record = RunningStack.read(tmp_path / "data")
    assert record
    assert up.stop() == 0

    # What was asked is in the caller's trace, and leads to the order's.
    [asked] = collector.named("POST /v1/orders", http__response__status_code=201, **about)
    assert asked.trace == CALLER
    [placed] = collector.named("order.place", **about)
    assert (asked.trace, asked.id) in placed.links
    assert (placed.trace, placed.id) in asked.links
    assert asked.attributes["flashsale.request.id"]

    # The order's own trace: its root from the event, what the API did, what workers did, Stripe, scripts and SQL.
    trace = [span for span in collector.spans if span.trace == placed.trace]
    [root] = [span for span in trace if not span.parent]
    assert root.name == "order paying"
    assert placed.parent == root.id
    assert {span.service for span in trace} == {"flashsale-api", "flashsale-worker"}
    names = {(span.service, span.name) for span in trace}
    assert {
        ("flashsale-api", "POST /v1/payment_intents"),
        ("flashsale-api", "checkout.lua"),
        ("flashsale-api", "settle.lua"),
        ("flashsale-api", "INSERT"),
        ("flashsale-worker", "order.due"),
        ("flashsale-worker", "POST /v1/payment_intents/{id}/capture"),
        ("flashsale-worker", "UPDATE"),
    } <= names
    assert [span for span in trace if span.name == "order settled"]
    known = {span.id for span in trace}
    assert all(span.parent in known for span in trace if span.parent), "no span hangs in the air"

    # A hold leads from its request to the script call, and on by its event to the drain.
    [held] = collector.named("POST /v1/holds", http__response__status_code=201)
    [batch] = collector.named("hold.lua", flashsale__event="1-2")
    assert (held.trace, held.id) in batch.links
    assert [span for span in collector.named("drain") if (batch.trace, batch.id) in span.links]

    for secret in (
        record.admin_token,
        record.stripe_secret_key,
        record.stripe_webhook_secret,
        order["payment"]["client_secret"],
        record.redis_url.rpartition("@")[0].rpartition(":")[2],
        "ann-of-cleves",
    ):
        assert secret
        assert secret.encode() not in collector.raw


OFF = """
import sys
from api.app import create_app
from cli.main import cli
from engine import tracing
from engine.settings import Settings
from persistence import database
from workers.runtime import open_runtime
settings = Settings(redis_url="redis://127.0.0.1:9", database_url="postgresql://127.0.0.1:9/none",
                    stripe_secret_key="sk_test_x", stripe_webhook_secret="whsec_x")
tracing.start("test")
create_app(settings)
open_runtime(settings).close()
assert not tracing.on
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""


def test_where_nobody_asked_for_traces_nothing_of_them_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


SET = """
from engine import tracing
tracing.start("test")
orders = ["order_bf_" + letter * 20 for letter in "AB"]
for order in orders:
    with tracing.of_order("one", order):
        pass
with tracing.of_orders("set", orders), tracing.span("within"):
    pass
with tracing.of_orders("set of one", orders[:1]):
    pass
tracing.stop()
"""


def test_what_is_done_about_a_set_of_orders_leads_to_each_of_their_traces(collector: Collector) -> None:
    done = subprocess.run([sys.executable, "-c", SET], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = collector.named("one")
    [of_both] = collector.named("set")
    assert of_both.trace not in (first.trace, second.trace)
    assert of_both.links == {(each.trace, each.parent) for each in (first, second)}
    [within] = collector.named("within")
    assert (within.trace, within.parent) == (of_both.trace, of_both.id)
    [of_one] = collector.named("set of one")
    assert (of_one.trace, of_one.parent) == (first.trace, first.parent)
