"""The API on a real socket, in a thread of the test's own process; and a client that speaks of sales."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from api.app import create_app
from api.server import OPTIONS
from engine.settings import Settings
from sandbox.stripe.process import StripeStandIn

ADMIN_TOKEN = "admin-s3cret"


def settings_of(stand_in: StripeStandIn, **more: Any) -> Settings:
    """Settings under which the stand-in takes the money."""
    return Settings(
        admin_token=ADMIN_TOKEN,
        stripe_secret_key=stand_in.secret_key,
        stripe_webhook_secret=stand_in.webhook_secret,
        stripe_api_base=stand_in.base_url,
        stripe_max_per_second=1000,
        **more,
    )


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The address of a running API."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(create_app(settings), **OPTIONS))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the API did not start"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive(), "the API did not stop"


SERVE = """
import os, sys
from api import logs
from api.server import serve
from engine.settings import Settings
from sandbox.stripe.process import StripeStandIn
logs.configure("info")
serve(Settings.from_env(os.environ), "127.0.0.1", int(sys.argv[1]), int(sys.argv[2]),
      on_ready=lambda: print("ready", flush=True))
print("ended", flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def own_process(settings: Settings, workers: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The API as a process of its own, ready, and its address."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}
    for each in dataclasses.fields(settings):
        if value := getattr(settings, each.name):
            env[f"FLASHSALE_{each.name.upper()}"] = str(value)
    child = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port), str(workers)],
        env=env | {"PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        yield child, f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()


def product(product_id: str, stock: int, **more: Any) -> dict[str, Any]:
    """A product of a sale file."""
    return {
        "id": product_id,
        "name": product_id.title(),
        "price": {"amount": 1000, "currency": "usd"},
        "stock": stock,
    } | more


@dataclass
class Shop:
    """Speaks to the API as the shop's servers and its operators do."""

    client: httpx.Client

    def load(self, *products: dict[str, Any], sale_id: str = "bf", **more: Any) -> dict[str, Any]:
        """Load a sale that must be accepted."""
        file = {"id": sale_id, "name": "Black Friday", "products": list(products)} | more
        answer = self.admin("PUT", f"/v1/admin/sales/{sale_id}", json=file)
        assert answer.status_code == 200, answer.text
        sale: dict[str, Any] = answer.json()
        return sale

    def admin(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} | more.pop("headers", {})
        return self.client.request(method, path, headers=headers, **more)

    def steer(self, verb: str, sale_id: str = "bf") -> None:
        assert self.admin("POST", f"/v1/admin/sales/{sale_id}/{verb}").status_code == 200

    def ask(self, customer: str = "ann", key: str | None = None, /, **lines: int) -> httpx.Response:
        """Ask for a hold."""
        body = {"customer_id": customer, "lines": [{"product_id": name, "qty": qty} for name, qty in lines.items()]}
        return self.client.post("/v1/holds", json=body, headers={"Idempotency-Key": key} if key else {})

    def hold(self, customer: str = "ann", key: str | None = None, /, **lines: int) -> dict[str, Any]:
        """A hold that must be given."""
        answer = self.ask(customer, key, **lines)
        assert answer.status_code == 201, answer.text
        hold: dict[str, Any] = answer.json()
        return hold

    def order(self, hold: dict[str, Any], **more: Any) -> httpx.Response:
        return self.client.post("/v1/orders", json={"hold_id": hold["id"]}, **more)

    def stock(self, product_id: str) -> dict[str, int]:
        stock: dict[str, int] = self.client.get(f"/v1/products/{product_id}").json()["stock"]
        return stock


def check_problem(answer: httpx.Response, status: int, code: str, **extra: Any) -> dict[str, Any]:
    """An answer is that problem, with everything that a problem carries; its body."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert {name: body.get(name) for name in extra} == extra
    return body


def fields(body: dict[str, Any]) -> list[str]:
    """The fields that a validation_error names."""
    assert all(error["message"] for error in body["errors"])
    return sorted(error["field"] for error in body["errors"])
