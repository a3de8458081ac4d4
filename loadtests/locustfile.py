"""The crowd of a sale, for Locust. Headless: ``make loadtest``. With Locust's own page, as docs/sizing.md says it.

An answer that a user did not expect is a failure, and Locust's exit status is 1.
"""

import hashlib
import hmac
import json
import random
import time
from itertools import count
from typing import Any, Final
from uuid import uuid4

from locust import FastHttpUser, between, constant, task

from loadtests.crowd import Target

CARD: Final = "pm_card_visa"
DECLINED: Final = "pm_card_chargeDeclined"
PAID_WITHIN_SECONDS: Final = 30.0
HELD: Final = frozenset({"201"})
NOT_NOW: Final = frozenset({"409 sold_out", "409 limit_exceeded", "409 sale_not_started"})

_target = Target.find()
_customers = count(1)
_run = uuid4().hex[:8]


class Shopper(FastHttpUser):
    """What every user can do. ``customer`` is this user's own."""

    abstract = True
    network_timeout = 30.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        self.new_customer()

    def new_customer(self) -> None:
        self.customer = f"locust-{_run}-{next(_customers)}"

    def expect(self, method: str, path: str, allowed: frozenset[str], **options: Any) -> tuple[str, Any]:
        """Send, and fail where the answer is none of these, each as ``201`` or ``409 sold_out``: that and its body."""
        if _target.shop_token and path.startswith(("/v1/holds", "/v1/orders")):
            token = {"authorization": f"Bearer {_target.shop_token}"}
            options["headers"] = token | (options.get("headers") or {})
        with self.client.request(method, path, catch_response=True, **options) as answer:
            read = _json(answer.text)
            code = read.get("code", "") if answer.status_code >= 400 and isinstance(read, dict) else ""
            said = f"{answer.status_code} {code}".strip()
            if said in allowed:
                answer.success()
            else:
                answer.failure(f"{said}: {(answer.text or '')[:120]}")
            return said, read

    def hold(self, product: str, *, also: frozenset[str] = frozenset(), key: str = "") -> dict[str, Any] | None:
        headers = {"idempotency-key": key} if key else {}
        wanted = {"customer_id": self.customer, "product_id": product, "qty": 1}
        said, answer = self.expect(
            "POST", "/v1/holds", HELD | also, json=wanted, headers=headers, name=f"hold {product}"
        )
        return answer if said in HELD else None

    def look(self, product: str) -> dict[str, Any]:
        _, answer = self.expect("GET", f"/v1/products/{product}", frozenset({"200"}), name=f"look at {product}")
        return answer if isinstance(answer, dict) else {}

    def order(self, hold_id: str) -> dict[str, Any] | None:
        """In a rush a hold may have run out before its order."""
        said, answer = self.expect(
            "POST",
            "/v1/orders",
            frozenset({"201", "410 hold_expired"}),
            json={"hold_id": hold_id, "metadata": {"from": "locust"}},
            headers={"idempotency-key": f"order-{hold_id}"},
            name="order",
        )
        return answer if said == "201" else None

    def confirm(self, order: dict[str, Any], card: str) -> None:
        """As a browser does it, at the payment provider."""
        payment = order["payment"]
        form = {
            "key": _target.publishable_key,
            "client_secret": payment["client_secret"],
            "payment_method": card,
        }
        path = f"{_target.stripe_url}/v1/payment_intents/{payment['intent_id']}/confirm"
        # 400: the order ran out and its intent was cancelled meanwhile.
        self.expect("POST", path, frozenset({"200", "400", "402"}), data=form, name=f"card {card}")

    def pay(self, order: dict[str, Any], *, declined_first: bool = False) -> None:
        """At the payment provider, or by a saved card where the provider cannot be reached from here."""
        cards = [DECLINED, CARD] if declined_first else [CARD]
        for card in cards:
            if _target.stripe_url:
                self.confirm(order, card)
            else:
                path = f"/v1/orders/{order['id']}/pay"
                allowed = frozenset({"200", "402 card_declined", "409 order_not_payable", "410 hold_expired"})
                self.expect("POST", path, allowed, json={"payment_method_id": card}, name=f"pay {card}")
        self.wait_until_paid(order)

    def give_back(self, hold: dict[str, Any]) -> None:
        self.expect("DELETE", f"/v1/holds/{hold['id']}", frozenset({"200"}), name="give a hold back")

    def wait_until_paid(self, order: dict[str, Any]) -> None:
        end = time.monotonic() + PAID_WITHIN_SECONDS
        while time.monotonic() < end:
            _, now = self.expect("GET", f"/v1/orders/{order['id']}", frozenset({"200"}), name="look at order")
            if not isinstance(now, dict) or now.get("status") != "pending_payment":
                return
            time.sleep(0.5)  # gevent's own


class InTheRush(Shopper):
    """Waits for the opening, wants the one thing that all want, and tries again as long as units may come back."""

    weight = 6
    wait_time = between(0.2, 1.0)

    @task
    def try_to_get_one(self) -> None:
        product = self.look(_target.scarce)
        if not product or product["sale"]["status"] == "scheduled":
            return
        hold = self.hold(_target.scarce, also=NOT_NOW)
        if hold is None:
            return
        if not _target.sells:
            self.give_back(hold)
        elif random.random() < 0.7 and (order := self.order(hold["id"])):
            self.pay(order)
        self.new_customer()


class Buying(Shopper):
    """Holds, orders and pays; some cards are declined first."""

    weight = 3
    wait_time = between(0.5, 2.0)

    @task
    def hold_and_pay(self) -> None:
        self.new_customer()
        key = uuid4().hex
        hold = self.hold(_target.plenty, also=NOT_NOW, key=key)
        if hold is None:
            return
        again = self.hold(_target.plenty, also=NOT_NOW, key=key)
        if again is not None and again["id"] != hold["id"]:
            raise RuntimeError("one Idempotency-Key took two holds")
        if not _target.sells:
            self.give_back(hold)
        elif order := self.order(hold["id"]):
            self.pay(order, declined_first=random.random() < 0.2)


class Abandoning(Shopper):
    """Holds and leaves; some give the hold back, some order and never pay."""

    weight = 3
    wait_time = between(0.2, 1.0)

    @task
    def take_and_leave(self) -> None:
        self.new_customer()
        hold = self.hold(_target.plenty, also=NOT_NOW)
        if hold is None:
            return
        choice = random.random()
        if choice < 0.3:
            self.give_back(hold)
        elif choice < 0.4 and _target.sells:
            self.order(hold["id"])


class TooLate(Shopper):
    """The storm on what is sold out."""

    weight = 4
    wait_time = constant(0.05)

    @task
    def ask_for_what_is_gone(self) -> None:
        self.new_customer()
        self.hold(_target.gone, also=NOT_NOW)


class Webhooks(Shopper):
    """The payment provider in a bad hour: events that are repeated, unknown to us, or forged."""

    weight = 2 if _target.webhook_secret else 0
    wait_time = constant(0.1)

    @task(4)
    def send_one_twice(self) -> None:
        event = self._event()
        for _ in range(2):
            self._send(event, _target.webhook_secret, frozenset({"200"}), "webhook")

    @task(1)
    def forge_one(self) -> None:
        self._send(self._event(), "whsec_forged", frozenset({"400 invalid_signature"}), "forged webhook")

    def _event(self) -> bytes:
        intent = {"id": f"pi_{uuid4().hex[:24]}", "object": "payment_intent", "amount": 1900, "currency": "usd"}
        event = {
            "id": f"evt_{uuid4().hex[:24]}",
            "object": "event",
            "type": "charge.updated",
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": {"id": f"ch_{uuid4().hex[:24]}", "object": "charge", "payment_intent": intent["id"]}},
        }
        return json.dumps(event).encode()

    def _send(self, event: bytes, secret: str, allowed: frozenset[str], name: str) -> None:
        now = int(time.time())
        signed = hmac.new(secret.encode(), f"{now}.".encode() + event, hashlib.sha256).hexdigest()
        headers = {"stripe-signature": f"t={now},v1={signed}", "content-type": "application/json"}
        self.expect("POST", "/v1/payments/webhook", allowed, data=event, headers=headers, name=name)


def _json(body: str | None) -> Any:
    try:
        return json.loads(body or "null")
    except ValueError:
        return None
