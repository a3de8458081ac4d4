"""What a browser keeps apart: answers that no cache may keep, types that it may not guess, pages of other sites."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.app import PAGES, ROUTES
from engine.settings import SettingError, Settings
from tests.api.server import ADMIN_TOKEN, Shop, check_problem, product, serving

FRIEND = "https://shop.example"
HOLD = {"customer_id": "ann", "product_id": "sock", "qty": 1}
ORDINARY = {"expect": ""}
"""Takes a request off the express way."""


def _ways() -> Iterator[tuple[str, str, Any]]:
    for handler in [*ROUTES, *PAGES]:
        doc = handler.opt.get("doc")
        methods = getattr(handler, "http_methods", None) or [doc.method if doc else "GET"]
        for path in handler.paths:
            for method in methods:
                yield str(method), path, doc


def _named(path: str, name: str) -> str:
    for each in ("sale_id", "product_id", "hold_id", "order_id", "code", "version", "name", "verb"):
        path = path.replace(f"{{{each}:str}}", name)
    return path


def test_every_answer_says_what_a_browser_may_do_with_it(shop: Shop) -> None:
    shop.load(product("sock", 5))
    held = shop.ask("ann", sock=1)
    assert (held.status_code, held.headers["cache-control"], held.headers["x-content-type-options"]) == (
        201, "no-store", "nosniff",
    )  # fmt: skip
    assert shop.client.get("/v1/products/sock").headers["cache-control"] == "no-cache"
    for method, path, doc in _ways():
        private = path.startswith("/ops") or (doc is not None and doc.auth in ("shop", "admin"))
        for name in ("sock", "bf", "none"):
            target = _named(path, name)
            if target == "/ops/stream":
                continue
            for headers in ({}, ORDINARY):
                answer = shop.admin(method, target, headers=headers)
                what = (method, target, answer.status_code)
                assert answer.headers.get_list("x-content-type-options") == ["nosniff"], what
                if private:
                    assert answer.headers.get_list("cache-control") == ["no-store"], what
    with shop.client.stream("GET", "/ops/stream", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as answer:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers.get_list("cache-control") == ["no-store"]


def test_another_sites_page_sends_nothing_that_changes(settings: Settings) -> None:
    known = replace(settings, browser_origins=f"{FRIEND}, http://other.example:8080")
    with serving(known) as url, httpx.Client(base_url=url) as client:
        shop = Shop(client)
        shop.load(product("sock", 1000))
        own = url
        foreign: list[dict[str, str]] = [
            {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": ""}, {"origin": own + ".evil.example"},
            {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "Cross-Site"},
            {"origin": own, "sec-fetch-site": "same-site"},
            {"origin": "https://evil.example", "sec-fetch-site": "none"}, {"origin": FRIEND + ".evil.example"},
            {"origin": "http://shop.example"}, {"origin": "http://["},
        ]  # fmt: skip
        for headers in foreign:
            for more in ({}, ORDINARY):
                check_problem(client.post("/v1/holds", json=HOLD, headers=headers | more), 403, "forbidden")
            for method, path, _ in _ways():
                if method in ("POST", "PUT", "DELETE"):
                    check_problem(shop.admin(method, _named(path, "bf"), headers=headers), 403, "forbidden")
            assert client.get("/v1/products/sock", headers=headers).status_code == 200
        assert shop.stock("sock")["held"] == 0
        ours: list[dict[str, str]] = [
            {}, {"origin": own}, {"origin": own.upper()}, {"origin": own, "sec-fetch-site": "same-origin"},
            {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}, {"origin": FRIEND},
            {"origin": FRIEND, "sec-fetch-site": "cross-site"},
            {"origin": "http://other.example:8080", "sec-fetch-site": "same-site"},
        ]  # fmt: skip
        for headers in ours:
            for more in ({}, ORDINARY):
                assert client.post("/v1/holds", json=HOLD, headers=headers | more).status_code == 201, headers


def test_origins_are_checked_at_the_start() -> None:
    for text in (
        "shop.example",
        "https://shop.example/",
        "https://",
        "*",
        "https://a b",
        "https://u@shop.example",
        "null",
        "ftp://x",
    ):
        with pytest.raises(SettingError, match="FLASHSALE_BROWSER_ORIGINS"):
            Settings.from_env({"FLASHSALE_BROWSER_ORIGINS": f"https://ok.example,{text}"})
    found = Settings.from_env({"FLASHSALE_BROWSER_ORIGINS": "https://A.example:8443 , http://[::1]:3000,"})
    assert found.known_origins == {b"https://a.example:8443", b"http://[::1]:3000"}
