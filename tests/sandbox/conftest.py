"""The payment stand-in of a test session, the shop's client for it, and an inbox for its webhooks."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe

from sandbox.stripe.process import StripeStandIn

Json = dict[str, Any]
NO_REDIRECTS = {"enabled": True, "allow_redirects": "never"}


class Inbox:
    """A webhook endpoint: what arrived, in its order, and what it answers. `url` and `secret` are its address."""

    def __init__(self) -> None:
        self.arrived: list[tuple[bytes, str]] = []
        self.connections: set[Any] = set()
        self.answers: list[int] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                inbox.connections.add(self.client_address)
                inbox.arrived.append((body, self.headers["Stripe-Signature"]))
                self.send_response(inbox.answers.pop(0) if inbox.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/payments/webhook"

    @property
    def events(self) -> list[Json]:
        return [json.loads(body) for body, _ in self.arrived]

    def types(self, intent: str | None = None) -> list[str]:
        return [event["type"] for event in self.events if intent in (None, intent_of(event))]

    def wait(self, count: int, seconds: float = 30.0) -> list[Json]:
        until = time.monotonic() + seconds
        while len(self.arrived) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.arrived) >= count, self.types()
        return self.events

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def intent_of(event: Json) -> str | None:
    shown: Json = event["data"]["object"]
    found: str | None = shown["id"] if shown["object"] == "payment_intent" else shown.get("payment_intent")
    return found


@pytest.fixture(scope="session")
def stand_in_of_session() -> Iterator[StripeStandIn]:
    with StripeStandIn() as server:
        yield server


@pytest.fixture
def stand_in(stand_in_of_session: StripeStandIn) -> Iterator[StripeStandIn]:
    """The session's stand-in, calm and without a webhook target before and after."""
    yield stand_in_of_session
    stand_in_of_session.calm()
    stand_in_of_session.aim(None)


def client_of(stand_in: StripeStandIn, key: str | None = None) -> stripe.StripeClient:
    return stripe.StripeClient(
        key or stand_in.secret_key, base_addresses={"api": stand_in.base_url}, max_network_retries=0
    )


@pytest.fixture
def shop(stand_in: StripeStandIn) -> stripe.StripeClient:
    """Stripe's own client with the secret key; it tries once."""
    return client_of(stand_in)


@pytest.fixture
def inbox(stand_in: StripeStandIn) -> Iterator[Inbox]:
    """The stand-in's webhooks go here."""
    box = Inbox()
    stand_in.aim(box.url)
    yield box
    stand_in.aim(None)
    box.close()


Pay = Callable[..., stripe.PaymentIntent]


@pytest.fixture
def pay(shop: stripe.StripeClient) -> Pay:
    """`pay("pm_card_visa", amount=1099, capture_method="manual")`: an intent, confirmed by the shop's server."""

    def confirmed(card: str = "pm_card_visa", *, amount: int = 1099, **params: Any) -> stripe.PaymentIntent:
        whole: Any = {
            "amount": amount,
            "currency": "usd",
            "capture_method": "manual",
            "confirm": True,
            "payment_method": card,
            "automatic_payment_methods": NO_REDIRECTS,
        } | params
        return shop.v1.payment_intents.create(whole)

    return confirmed
