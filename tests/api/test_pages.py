"""The pages without a browser: who may come in, what is served and how, and the stream."""

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.pages import files, rates, watch
from api.pages.rates import Reading
from api.pages.session import COOKIE, SESSION_SECONDS, Sessions
from api.server import FINISH_SECONDS
from engine.settings import Settings
from tests.api.server import ADMIN_TOKEN, Shop, check_problem, own_process, product, serving

FORM = {"content-type": "application/x-www-form-urlencoded"}
BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


def own(client: httpx.Client) -> dict[str, str]:
    """What a browser says of a request that our own page makes."""
    return {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}


def log_in(client: httpx.Client, token: str = ADMIN_TOKEN, **headers: str) -> httpx.Response:
    return client.post("/ops/login", content=f"token={token}", headers=own(client) | FORM | headers)


@contextmanager
def events(client: httpx.Client) -> Iterator[Iterator[tuple[str, Any]]]:
    """The stream's events, as (name, data)."""

    def read(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    with client.stream("GET", "/ops/stream", headers=BEARER) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield read(answer)


# --- who may come in


def test_the_token_becomes_a_session_that_only_this_site_can_use(shop: Shop) -> None:
    client = shop.client
    assert "Admin token" in client.get("/ops").text
    refused = log_in(client, "another")
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert "not the admin token" in refused.text

    answer = log_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ops")
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(rf"{COOKIE}=\S+; Path=/ops; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict", cookie), (
        cookie
    )
    assert ADMIN_TOKEN not in cookie
    assert "products" in client.get("/ops").text
    assert "; Secure" in log_in(client, **{"x-forwarded-proto": "https"}).headers["set-cookie"]

    client.post("/ops/logout", headers=own(client))
    assert "Admin token" in client.get("/ops").text


def test_another_sites_page_changes_nothing(shop: Shop) -> None:
    shop.load(product("sock", 5))
    client = shop.client
    log_in(client)
    foreign = {"origin": "https://evil.example"}
    for headers in ({}, foreign, own(client) | {"sec-fetch-site": "same-site"}, {"origin": "null"}):
        for path in ("/ops/sales/bf/pause", "/ops/products/sock/stock", "/ops/logout"):
            check_problem(client.post(path, headers=headers, json={}), 403, "forbidden")
        check_problem(
            client.post("/ops/login", content=f"token={ADMIN_TOKEN}", headers=FORM | headers), 403, "forbidden"
        )
    assert client.get("/v1/sales/bf").json()["status"] == "live"
    check_problem(client.post("/v1/admin/sales/bf/pause", headers=own(client)), 401, "unauthorized")


def test_without_a_session_nothing_is_told_or_changed(shop: Shop) -> None:
    shop.load(product("sock", 5))
    client = shop.client
    check_problem(client.get("/ops/stream"), 401, "unauthorized")
    check_problem(client.get("/ops/stream", headers={"Authorization": "Bearer x"}), 403, "forbidden")
    check_problem(client.post("/ops/sales/bf/end", headers=own(client)), 401, "unauthorized")
    for forged in ("x", "99999999999.a.b", f"99999999999.aaaa.{'A' * 43}", "..", "é"):
        headers = {"cookie": f"{COOKIE}={forged}".encode("latin-1")}
        check_problem(client.get("/ops/stream", headers=headers), 401, "unauthorized")  # type: ignore[arg-type]


def test_a_session_ends_by_itself_and_with_its_token() -> None:
    class Asked(dict[str, str]):
        """A request's headers."""

    now = 1000.0
    sessions = Sessions("secret", clock=lambda: now)
    cookie = sessions.begin("secret", secure=False)
    assert cookie
    headers: Any = Asked(cookie=cookie.decode().partition(";")[0])
    assert sessions.knows(headers)
    assert not Sessions("another", clock=lambda: now).knows(headers)
    now += SESSION_SECONDS
    assert not sessions.knows(headers)
    assert Sessions("").begin("", secure=False) is None


def test_without_an_admin_token_nobody_comes_in(settings: Settings) -> None:
    with serving(replace(settings, admin_token="")) as url, httpx.Client(base_url=url) as client:
        assert "FLASHSALE_ADMIN_TOKEN is not set" in client.get("/ops").text
        assert log_in(client, "").status_code == 403
        check_problem(client.get("/ops/stream"), 401, "unauthorized")


# --- what the buttons do


def test_the_buttons_do_what_the_admin_routes_do(shop: Shop) -> None:
    shop.load(product("sock", 5))
    client = shop.client
    log_in(client)
    headers = own(client) | {"idempotency-key": "click-1"}
    assert client.post("/ops/sales/bf/pause", headers=headers, json={}).json()["status"] == "paused"
    assert client.post("/ops/sales/bf/resume", headers=headers).json()["status"] == "live"
    for _ in range(2):
        answer = client.post("/ops/products/sock/stock", headers=headers, json={"delta": 2, "reason": "found"})
        assert answer.json()["stock"]["total"] == 7
    check_problem(
        client.post("/ops/products/sock/stock", headers=own(client), json={"delta": -99, "reason": "x"}),
        409,
        "stock_below_committed",
    )
    check_problem(client.post("/ops/sales/bf/explode", headers=headers), 404, "not_found")
    assert client.post("/ops/sales/bf/end", headers=headers).json()["status"] == "ended"


# --- what is served


def test_pages_allow_nothing_that_is_not_ours(shop: Shop) -> None:
    shop.load(product("sock", 5))
    for path in ("/ops", "/shop", "/shop/bf"):
        answer = shop.client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "//" not in re.sub(r"<!doctype html>", "", answer.text), "no other host"
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|\{\{", answer.text)
    assert shop.client.get("/").headers["location"] == "/shop"
    check_problem(shop.client.get("/shop/b%20f"), 404, "sale_not_found")


def test_files_are_kept_for_ever_under_their_own_version_only(shop: Shop) -> None:
    client = shop.client
    version = files.load().version
    for name in files.load().others:
        answer = client.get(f"/static/{version}/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    old = client.get("/static/0000/ops.js")
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")
    again = client.get("/static/0000/ops.js", headers={"if-none-match": old.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("ops.html", "nope.js", "..%2Fops.py"):
        check_problem(client.get(f"/static/{version}/{name}"), 404, "not_found")


def test_the_window_says_who_may_buy_and_who_takes_the_money(settings: Settings) -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "open", "stand-in"),
        ({"shop_token": "s"}, "closed", "stand-in"),
        ({"stripe_api_base": "", "stripe_secret_key": "sk_test_1"}, "open", "test"),
        ({"stripe_api_base": "https://api.stripe.com", "stripe_secret_key": "sk_live_1"}, "open", "live"),
    ]
    for changes, orders, payments in cases:
        with serving(replace(settings, **changes)) as url:
            text = httpx.get(f"{url}/shop/bf").text
            assert f'data-sale="bf" data-orders="{orders}" data-payments="{payments}"' in text
            assert "sk_" not in text


# --- the stream


def test_the_stream_tells_what_redis_says_each_second(shop: Shop) -> None:
    shop.load(product("sock", 5))
    with events(shop.client) as told:
        assert next(told)[0] == "history"
        with httpx.Client(base_url=shop.client.base_url) as other:
            Shop(other).hold("ann", sock=2)
        for name, now in told:
            assert name == "now"
            [sale] = now["live"]["sales"]
            if sale["stock"]["held"]:
                break
        assert sale["stock"] == {"total": 5, "available": 3, "held": 2, "sold": 0}
        assert now["live"]["promises"]["never_oversold"] == 0
        assert now["sales"]["bf"][1:4] == [3, 2, 0]
        _, later = next(told)
        [created] = [each for each in later["rates"]["answers"] if each["status"] == 201]
        assert created["total"] == 1
        assert later["rates"]["p99_ms"] > 0
    with events(shop.client) as told:
        name, history = next(told)
        assert (name, len(history["sales"]["bf"]) > 1) == ("history", True)


@pytest.mark.parametrize(
    ("away", "live"),
    [({"database_url": "postgresql://nobody@127.0.0.1:1/none"}, True), ({"redis_url": "redis://127.0.0.1:1"}, False)],
)
def test_the_stream_goes_on_without_either_store(settings: Settings, away: dict[str, Any], live: bool) -> None:
    with serving(settings) as url, httpx.Client(base_url=url, timeout=15) as client:
        Shop(client).load(product("sock", 5))
    with (
        serving(replace(settings, **away)) as url,
        httpx.Client(base_url=url, timeout=15) as client,
        events(client) as told,
    ):
        now = next(data for name, data in told if name == "now")
        assert (now["live"] is not None) == live
        if live:
            assert not now["live"]["postgres"]
            assert now["live"]["promises"] == dict.fromkeys(now["live"]["promises"])
            assert now["live"]["sales"][0]["stock"]["available"] == 5


def test_viewers_are_bounded_and_make_room_when_they_leave(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "VIEWERS_MAX", 1)
    url = str(shop.client.base_url).rstrip("/")
    with events(shop.client) as told:
        next(told)
        problem = check_problem(httpx.get(f"{url}/ops/stream", headers=BEARER), 503, "overloaded")
        assert "watch" in problem["detail"]
    end = time.monotonic() + 10
    while True:
        with (
            httpx.Client(base_url=shop.client.base_url) as again,
            again.stream("GET", "/ops/stream", headers=BEARER) as it,
        ):
            if it.status_code == 200:
                break
        assert time.monotonic() < end, "no room was made"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_holds_up_nobody_who_leaves(settings: Settings, number: signal.Signals) -> None:
    with (
        own_process(settings, 1) as (server, url),
        httpx.Client(base_url=url, timeout=15) as client,
        events(client) as told,
    ):
        next(told)
        began = time.monotonic()
        server.send_signal(number)
        assert [name for name, _ in told][-1] == "bye"
        assert server.wait(40) == 0
        assert time.monotonic() - began < FINISH_SECONDS - 3, "it waited for the viewer"


# --- rates


def test_rates_are_what_the_counters_grew_by() -> None:
    bounds = (0.01, 0.1, 1.0, float("inf"))
    before = Reading(100.0, dict.fromkeys(bounds, 10.0), {(201, ""): 10.0})
    now = Reading(
        110.0, dict(zip(bounds, (60.0, 100.0, 110.0, 110.0), strict=True)), {(201, ""): 60.0, (409, "sold_out"): 50.0}
    )
    found = rates.between(before, now)
    assert (found.holds_per_second, found.p50_ms, found.p99_ms) == (10.0, 10.0, 910.0)
    assert [(each.status, each.code, each.per_second, each.total) for each in found.answers] == [
        (201, "", 5.0, 60),
        (409, "sold_out", 5.0, 50),
    ]
    assert rates.between(now, now).p50_ms is None
    assert rates.quantile({1.0: 0.0, float("inf"): 5.0}, 0.5) == 1000.0
