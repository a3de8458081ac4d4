"""``make loadtest`` against an API that runs already, as a rehearsal against a staging copy does."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from engine.settings import Settings
from loadtests import remote
from loadtests.crowd import POSTER, SNEAKER, SOCKS
from sandbox.stripe.process import StripeStandIn
from tests.api.server import Shop, serving, settings_of
from tests.house.paths import ROOT
from tests.workers.conftest import start_pool, start_scheduler

SHOP, ADMIN = "shop-token-of-the-test-0123456789", "admin-token-of-the-test-0123456789"


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StripeStandIn]:
    with StripeStandIn() as running:
        yield running


@pytest.fixture
def settings(redis_url: str, database_url: str, stand_in: StripeStandIn) -> Settings:
    made = settings_of(stand_in, redis_url=redis_url, database_url=database_url, database_pool_size=4)
    return replace(made, shop_token=SHOP, admin_token=ADMIN)


def loadtest(*arguments: str, **env: str) -> tuple[int, str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.run", *arguments],
        cwd=ROOT, env=outer | env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_rush_comes_to_a_named_sale_with_tokens_and_is_judged_by_its_own_routes(
    settings: Settings, tmp_path: Path
) -> None:
    sale = json.loads(loadtest("--print-sale")[1])
    with ExitStack() as stack:
        scheduler, workers = start_scheduler(settings), start_pool(settings, 3)
        stack.callback(workers.end)
        stack.callback(scheduler.kill)
        url = stack.enter_context(serving(settings))
        with httpx.Client(base_url=url, timeout=15) as client:
            put = client.put(f"/v1/admin/sales/{sale['id']}", json=sale, headers={"Authorization": f"Bearer {ADMIN}"})
            assert put.status_code == 200, put.text
            assert Shop(client).stock(SOCKS)["available"] == 50_000
        code, said = loadtest(
            "--url", url, "--sale", sale["id"], "--users", "12", "--seconds", "4", "--out", str(tmp_path), "--orders",
            FLASHSALE_SHOP_TOKEN=SHOP, FLASHSALE_ADMIN_TOKEN=ADMIN,
        )  # fmt: skip
        assert code == 0, said
        assert "of sale loadtest; see" in said
        assert SHOP not in said
        assert ADMIN not in said
        found = json.loads((tmp_path / "loadtest.json").read_text())
        assert found["broken"] == found["unexpected"] == []
        assert found["requests"] > 50
        names = {each["name"] for each in json.loads((tmp_path / "locust.json").read_text())}
        assert {f"hold {SNEAKER}", f"hold {SOCKS}", f"hold {POSTER}", "order", "pay pm_card_visa"} <= names
        code, said = loadtest("--url", url, "--sale", "nope")
        assert (code, said.count("\n")) == (2, 1)
        assert "sale_not_found" in said
        code, said = loadtest("--url", url, "--sale", sale["id"], FLASHSALE_ADMIN_TOKEN="another-token")
        assert (code, said.count("\n")) == (2, 1)


@pytest.mark.parametrize("arguments", [("--url", "http://127.0.0.1:9"), ("--sale", "bf"),
                                       ("--url", "http://127.0.0.1:9", "--sale", "bf"),
                                       ("--url", "file:///etc/passwd", "--sale", "bf")])  # fmt: skip
def test_what_cannot_begin_says_so_in_a_line(arguments: tuple[str, ...]) -> None:
    code, said = loadtest(*arguments)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("make loadtest: ")


def test_units_that_do_not_add_up_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {"id": "x", "stock": {"total": 5, "available": 3, "held": 0, "sold": 1}}
    monkeypatch.setattr(remote, "_look", lambda *_: ([odd], 0))
    assert len(remote.judge("http://127.0.0.1:9", "bf", "", 0)) == 1
