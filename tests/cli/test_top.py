"""`flashsale top`: what it shows is what Redis, Postgres and the API say."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from rich.console import Console

from cli.top.frame import Frame, Rates
from cli.top.scrape import Counts, parse, quantile, since
from cli.top.view import view
from engine import connections
from engine.settings import Settings
from persistence import database
from persistence.drain import drain_once
from sandbox.stripe.process import StripeStandIn
from tests.api.server import Shop, serving
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn() as running:
        yield running


@pytest.fixture
def shop(loaded: Path, redis_url: str, database_url: str, stand_in: StripeStandIn) -> Iterator[Shop]:
    """An API of the sale `bf` of ten sneakers; seven of them are held by seven customers, one who wants three more is
    refused.
    """
    settings = Settings(
        redis_url=redis_url,
        database_url=database_url,
        stripe_secret_key=stand_in.secret_key,
        stripe_webhook_secret=stand_in.webhook_secret,
        stripe_api_base=stand_in.base_url,
    )
    with serving(settings) as url, httpx.Client(base_url=url, timeout=15) as client:
        made = Shop(client)
        for number in range(7):
            made.hold(f"customer-{number}", sneaker=1)
        made.ask("greedy", sneaker=3)
        db, redis = database.connect(database_url, 1), connections.connect(redis_url)
        drain_once(db, redis, "bf")
        redis.close()
        db.dispose()
        yield made


def test_a_frame_is_what_the_stores_and_the_api_say(shop: Shop, run: Run) -> None:
    url = str(shop.client.base_url)
    result = run("top", "--once", "--json", "--interval", "0.3", "--api", url)
    assert result.code == 0, result.err
    frame = result.json
    [sale] = frame["live"]["sales"]
    assert (sale["id"], sale["stock"]["total"]) == ("bf", 10)
    assert sum(sale["stock"][name] for name in ("available", "held", "sold")) == 10
    assert sale["lag_events"] == 0
    assert sale["holds"] == 7
    assert frame["rates"]["bf"] == {"holds_per_second": 0.0, "conversion": 0.0}
    assert frame["api"]["url"] == url.rstrip("/")
    assert frame["live"]["promises"]["never_oversold"] == 0


def test_without_a_terminal_it_prints_plain_lines(shop: Shop, run: Run) -> None:
    result = run("top", "--once", "--interval", "0.3")
    assert result.code == 0, result.err
    assert "\x1b" not in result.out
    assert "of 10" in result.out
    assert "holds/s" in result.out
    assert "API  none answers" in result.out


def test_rates_and_answers_are_of_the_interval() -> None:
    text = """
# TYPE flashsale_http_responses_total counter
flashsale_http_responses_total{{method="POST",route="/v1/holds",status="201",code=""}} {held}
flashsale_http_responses_total{{method="POST",route="/v1/holds",status="409",code="sold_out"}} {refused}
# TYPE flashsale_http_request_duration_seconds histogram
flashsale_http_request_duration_seconds_bucket{{method="POST",route="/v1/holds",le="0.01"}} {held}
flashsale_http_request_duration_seconds_bucket{{method="POST",route="/v1/holds",le="0.1"}} {all}
flashsale_http_request_duration_seconds_bucket{{method="POST",route="/v1/holds",le="+Inf"}} {all}
flashsale_http_request_duration_seconds_bucket{{method="GET",route="/metrics",le="+Inf"}} 99
"""
    before, now = parse(text.format(held=5, refused=5, all=10)), parse(text.format(held=105, refused=105, all=210))
    between = since(now, before)
    assert between.answers == {"201": 100, "sold_out": 100}
    assert quantile(between.buckets, 0.5) == pytest.approx(0.01)
    assert quantile(between.buckets, 0.75) == pytest.approx(0.055)
    assert since(before, now).answers == before.answers, "an API that began anew"
    assert quantile({0.1: 0.0, float("inf"): 5.0}, 0.99) == 0.1, "past the last bound"
    assert quantile(Counts().buckets, 0.5) is None


def test_in_a_terminal_it_is_one_page_until_ctrl_c(shop: Shop) -> None:
    """The holds that are taken meanwhile are seen."""
    parent, child = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "top", "--interval", "0.2", "--api", str(shop.client.base_url)],
        stdin=child,
        stdout=child,
        stderr=subprocess.PIPE,
        env=env,
    )
    os.close(child)
    try:
        seen = ""
        end = time.monotonic() + 60
        while "API  " not in seen:
            assert time.monotonic() < end, seen[-2000:]
            if select.select([parent], [], [], 0.2)[0]:
                seen += os.read(parent, 65536).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            assert time.monotonic() < end
            if select.select([parent], [], [], 0.2)[0]:
                try:
                    os.read(parent, 65536)
                except OSError:
                    break
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
        os.close(parent)
    assert process.returncode == 0, said
    assert "Black Friday" in seen
    assert "never_oversold 0" in seen


def test_a_redis_that_is_away_is_one_line(run: Run, loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHSALE_REDIS_URL", "redis://127.0.0.1:9")
    result = run("top", "--once")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "Redis does not answer" in result.err


def test_every_part_can_be_missing(shop: Shop, run: Run) -> None:
    """No Postgres, no API, a fenced sale: it is shown all the same."""
    shown = run("top", "--once", "--json", "--interval", "0.2").out
    frame = msgspec.json.decode(shown, type=Frame)
    [sale] = frame.live.sales
    bare = msgspec.structs.replace(sale, fenced=True, lag_events=None, lag_seconds=None, money=None, overdue=1)
    live = msgspec.structs.replace(frame.live, postgres=False, waiting=None, notices=[], sales=[bare])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(view(msgspec.structs.replace(frame, live=live, rates={"bf": Rates(2.0, None)}, api=None)))
    text = console.export_text()
    assert "FENCED" in text
    assert "Postgres does not answer" in text
    assert "lag ?" in text
