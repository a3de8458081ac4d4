"""The processes that serve: they start without their servers, say so, and leave well."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from engine.settings import SettingError, Settings
from tests.api.server import Shop, check_problem, free_port, own_process, product, serving
from tests.workers.conftest import eventually


def _check_metrics_add_up(url: str) -> None:
    for _ in range(20):  # another connection each, so that every process gets some
        assert httpx.get(f"{url}/health/live").status_code == 200
    counted, end = 0, time.monotonic() + 15
    while counted < 20:  # the other processes tell what they counted each second
        assert time.monotonic() < end
        text = httpx.get(f"{url}/metrics").text
        match = re.search(r'responses_total\{code="",method="GET",route="/health/live",status="200"\} (\d+)', text)
        counted = int(match[1]) if match else 0
        time.sleep(0.05)
    assert "flashsale_orders_refused 0.0" in text, "what the stores say is there once, whoever is asked"
    assert 'flashsale_provider_events_total{event="calls"} ' in text


def test_where_it_listens_is_told(settings: Settings) -> None:
    with own_process(settings, 1) as (process, url):
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    [line] = [line for line in map(json.loads, log.splitlines()) if line["event"] == "listening"]
    assert line["url"] == url


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_turns_readiness_off_finishes_what_is_under_way_and_exits_0(settings: Settings, workers: int) -> None:
    with own_process(settings, workers) as (process, url), httpx.Client(base_url=url, timeout=15) as client:
        shop = Shop(client)
        shop.load(product("sock", 100_000))
        assert client.get("/health/ready").status_code == 200
        if workers > 1:
            _check_metrics_add_up(url)
        answers: list[int] = []
        stop = threading.Event()

        def rush(customer: str) -> None:
            with httpx.Client(base_url=url, timeout=15) as mine:
                while not stop.is_set():
                    try:
                        answers.append(Shop(mine).ask(customer, sock=1).status_code)
                    except httpx.TransportError:
                        return  # closed between two requests

        crowd = [threading.Thread(target=rush, args=(f"c{number}",)) for number in range(8)]
        for each in crowd:
            each.start()
        eventually(lambda: len(answers) > 50, "the rush is on")
        process.send_signal(signal.SIGTERM)
        if workers == 1:
            eventually(lambda: client.get("/health/ready").json()["status"] == "leaving", "it says so")
        assert process.wait(20) == 0
        stop.set()
        for each in crowd:
            each.join(10)
        assert process.stdout
        assert process.stdout.read() == "ended\n"
        assert process.stderr
        assert "Traceback" not in process.stderr.read()
    with serving(settings) as again, httpx.Client(base_url=again) as client:
        held = Shop(client).stock("sock")["held"]
        assert held >= answers.count(201) > 0
        assert held - answers.count(201) <= 8, "at most the ones whose answers were cut off with their connection"
        assert set(answers) == {201}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sigterm_that_comes_while_it_starts_is_not_forgotten(workers: int) -> None:
    early = """
import signal, sys
from api import server
from engine.settings import Settings
make = server.create_app
def make_when_told_to_leave(settings):
    signal.raise_signal(signal.SIGTERM)
    return make(settings)
server.create_app = make_when_told_to_leave
server.serve(Settings(stripe_secret_key="sk_test_x", stripe_webhook_secret="whsec_x"), "127.0.0.1", 0, int(sys.argv[1]))
"""
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", early, str(workers)], env=env, timeout=120, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_starts_without_redis_and_postgres_and_says_so(settings: Settings) -> None:
    away = replace(
        settings,
        redis_url=f"redis://127.0.0.1:{free_port()}",
        database_url=f"postgresql://nobody@127.0.0.1:{free_port()}/none",
    )
    with serving(away) as url, httpx.Client(base_url=url, timeout=20) as client:
        shop = Shop(client)
        assert client.get("/health/live").json() == {"status": "live", "checks": {}}
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not_ready", "checks": {"redis": "away", "postgres": "away"}}
        for answer in (
            shop.ask(sock=1),
            shop.ask("ann", "k", sock=1),
            client.get("/v1/products/sock"),
            client.get("/v1/products"),
            client.get("/v1/sales/bf"),
            client.get("/v1/holds/hold_bf_AAAAAAAAAAAAAAAAAAAA"),
            client.get("/v1/orders/order_bf_AAAAAAAAAAAAAAAAAAAA"),
            client.post("/v1/orders", json={"hold_id": "hold_bf_AAAAAAAAAAAAAAAAAAAA"}),
            shop.admin("GET", "/v1/admin/sales/bf"),
            shop.admin("PUT", "/v1/admin/sales/bf", json={"name": "x", "products": [product("sock", 1)]}),
        ):
            check_problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1


def test_holds_go_on_without_postgres(settings: Settings, api_url: str) -> None:
    with httpx.Client(base_url=api_url) as client:
        Shop(client).load(product("sock", 5))
    away = replace(settings, database_url=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    with serving(away) as url, httpx.Client(base_url=url, timeout=20) as client:
        shop = Shop(client)
        hold = shop.hold(sock=1)
        assert client.get(f"/v1/holds/{hold['id']}").json() == hold
        assert shop.stock("sock")["held"] == 1
        assert client.delete(f"/v1/holds/{hold['id']}").json()["status"] == "released"
        check_problem(shop.order(shop.hold(sock=1)), 503, "unavailable")
        assert client.get("/health/ready").json()["checks"] == {"redis": "ok", "postgres": "away"}


def test_a_schema_that_is_not_migrated_is_not_ready(settings: Settings, empty_database_url: str) -> None:
    fresh = replace(settings, database_url=empty_database_url)
    with serving(fresh) as url, httpx.Client(base_url=url, timeout=20) as client:
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["postgres"]) == (503, "not migrated")
        check_problem(Shop(client).ask(sock=1), 503, "unavailable")
        check_problem(Shop(client).admin("GET", "/v1/admin/orders"), 503, "unavailable")


@pytest.mark.parametrize("name", ["redis_url", "database_url", "stripe_secret_key", "stripe_webhook_secret"])
def test_a_setting_that_is_missing_is_named(settings: Settings, name: str) -> None:
    with pytest.raises(SettingError, match=f"FLASHSALE_{name.upper()}"):
        create_app(replace(settings, **{name: ""}))  # type: ignore[arg-type]


def test_a_database_url_that_cannot_be_read_is_named(settings: Settings) -> None:
    with pytest.raises(SettingError, match="FLASHSALE_DATABASE_URL"):
        create_app(replace(settings, database_url="postgresql://h/d?nonsense=1"))


def test_a_queue_that_is_full_is_overloaded(settings: Settings) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    narrow = replace(settings, hold_queue_max=1, hold_batch_max=1)
    # As many as there are threads: of more than it keeps the client closes one that another thread has just taken.
    kept = httpx.Limits(max_connections=30, max_keepalive_connections=30)
    with serving(narrow) as url, httpx.Client(base_url=url, timeout=20, limits=kept) as client:
        shop = Shop(client)
        shop.load(product("sock", 10_000))
        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda number: shop.ask(f"c{number}", sock=1), range(600)))
        refused = [answer for answer in answers if answer.status_code != 201]
        assert refused
        for answer in refused:
            check_problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        assert shop.stock("sock")["held"] == len(answers) - len(refused)
