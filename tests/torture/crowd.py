"""Buyers who do not know that anything is killed: each wants something, asks again while nobody answers, and writes
down what it was told. The same seed is the same buyers.
"""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import count
from typing import Any

from cli.demo.client import Answer, Client, NoAnswer
from tests.torture.ledger import Ledger, Told

BUYERS = 12
"""At once; the next comes when one has left."""
PATIENCE_SECONDS = 300.0
"""How long somebody asks again who gets no answer."""
GOOD_CARD, BAD_CARD = "pm_card_visa", "pm_card_chargeDeclined"
ACTS = {
    "saved card": 30, "browser": 22, "declined first": 12, "cancels": 9, "leaves": 7,
    "abandons": 11, "releases": 9,
}  # fmt: skip
AGAIN = {"unavailable", "overloaded", "sale_unavailable", "payment_provider_unavailable"}
"""Codes after which a buyer sends the same request again."""
LATE = {"hold_expired", "order_not_payable"}
"""Codes that are right once the deadline has passed."""


class Impatient(Exception):
    """No answer within the patience of a buyer."""


class Crowd:
    """Comes with ``start``, in a thread of its own. ``urls`` are the shop's and the payment provider's, ``key`` is the
    latter's publishable one. ``loses_data``: holds may be answered ``hold_lost`` and sales ``sale_unavailable``.
    """

    def __init__(
        self, urls: tuple[str, str], key: str, products: list[str], name: str, seed: int, *, loses_data: bool = False
    ) -> None:
        self.ledger = Ledger()
        self._urls = urls
        self._key = key
        self._name = name
        self._products = products
        self._seed = seed
        self._loses_data = loses_data
        self._leave = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="crowd", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self, seconds: float = PATIENCE_SECONDS + 30) -> None:
        """Nobody new comes; returns once all have left."""
        self._leave.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.ledger.trouble("buyers still wait for an answer")

    async def _run(self) -> None:
        shop = Client(self._urls[0], connections=BUYERS * 2)
        provider = Client(self._urls[1], connections=BUYERS, headers={"Authorization": f"Bearer {self._key}"})
        numbers = count()

        async def come_and_go() -> None:
            while not self._leave.is_set():
                number = next(numbers)
                buyer = Buyer(shop, provider, self.ledger, f"{self._name}-{number}", loses_data=self._loses_data)
                try:
                    await buyer.visit(self._products, random.Random(self._seed * 1_000_003 + number))
                except Impatient as error:
                    self.ledger.trouble(f"{buyer.name}: {error}")
                except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                    self.ledger.trouble(f"{buyer.name}: {type(error).__name__}: {error}")

        await asyncio.gather(*(come_and_go() for _ in range(BUYERS)))
        shop.close()
        provider.close()


class Buyer:
    """One visit. Every POST has a key, so asking again is the same request."""

    def __init__(self, shop: Client, provider: Client, ledger: Ledger, name: str, *, loses_data: bool) -> None:
        self.name = name
        self._shop = shop
        self._provider = provider
        self._ledger = ledger
        self._loses_data = loses_data
        self._luck = random.Random(0)

    async def visit(self, products: list[str], luck: random.Random) -> None:
        self._luck = luck
        lines = [
            {"product_id": product, "qty": luck.randint(1, 2)}
            for product in luck.sample(products, 2 if luck.random() < 0.2 else 1)
        ]
        act = luck.choices(list(ACTS), list(ACTS.values()))[0]
        await asyncio.sleep(luck.uniform(0, 0.1))
        told = await self._hold(lines)
        if told is None:
            return
        await asyncio.sleep(luck.uniform(0, 0.2))
        if act == "releases":
            await self._release(told)
        elif act != "abandons":
            await self._buy(told, act)

    async def _hold(self, lines: list[dict[str, Any]]) -> Told | None:
        body = {"customer_id": self.name, "lines": lines}
        answer = await self._ask("POST holds", lambda: self._shop.post("/v1/holds", body, key=f"{self.name}-hold"))
        if answer.status != 201:
            self._expect(answer, "POST holds", "sold_out")
            return None
        shown = answer.body
        told = self._ledger.hold(shown, datetime.fromisoformat(shown["expires_at"]).timestamp())
        if not self._loses_data and self._luck.random() < 0.2:  # a customer clicks again
            again = await self._ask("POST holds", lambda: self._shop.post("/v1/holds", body, key=f"{self.name}-hold"))
            if again.status != 201 or again.body != shown:
                self._trouble("POST holds again", again, f"after {shown['id']}")
        return told

    async def _release(self, told: Told) -> None:
        answer = await self._ask("DELETE holds", lambda: self._shop.delete(f"/v1/holds/{told.hold_id}"))
        if answer.status == 200:
            if answer.body["status"] == "released":
                told.words.add("released")
            elif answer.body["status"] != "expired":
                self._trouble("DELETE holds", answer, f"reads {answer.body['status']}")
        else:
            self._lost_or_trouble(told, answer, "DELETE holds")

    async def _buy(self, told: Told, act: str) -> None:
        card = {"saved card": GOOD_CARD, "declined first": BAD_CARD, "cancels": self._luck.choice([GOOD_CARD, None])}
        order = await self._order(told, card.get(act))
        if order is None or act == "leaves":
            return
        if act == "browser":
            await self._pay_in_browser(order)
        elif act == "declined first":
            await self._pay_again(told)
        elif act == "cancels":
            await self._cancel(told)
            return
        await self._await_paid(told)

    async def _order(self, told: Told, card: str | None) -> dict[str, Any] | None:
        body: dict[str, Any] = {"hold_id": told.hold_id} | ({"payment_method_id": card} if card else {})
        answer = await self._ask("POST orders", lambda: self._shop.post("/v1/orders", body, key=f"{self.name}-order"))
        if answer.status == 201:
            told.order_id = answer.body["id"]
            self._note(told, answer.body)
            return dict(answer.body)
        if answer.status == 402 and card == BAD_CARD:
            told.order_id = answer.body["order_id"]
            return {}
        if answer.code == "hold_already_used" and self._loses_data:
            told.order_id = answer.body["order_id"]
            return None
        self._late_or_trouble(told, answer, "POST orders")
        return None

    async def _pay_in_browser(self, order: dict[str, Any]) -> None:
        payment = order["payment"]
        if payment["intent_id"] is None:
            return
        fields = {"client_secret": payment["client_secret"], "payment_method": GOOD_CARD}
        path = f"/v1/payment_intents/{payment['intent_id']}/confirm"
        await self._ask("confirm", lambda: self._provider.post_form(path, fields))

    async def _pay_again(self, told: Told) -> None:
        path, body = f"/v1/orders/{told.order_id}/pay", {"payment_method_id": GOOD_CARD}
        answer = await self._ask("POST pay", lambda: self._shop.post(path, body, key=f"{self.name}-pay"))
        if answer.status == 200:
            self._note(told, answer.body)
        else:
            self._late_or_trouble(told, answer, "POST pay")

    async def _cancel(self, told: Told) -> None:
        path = f"/v1/orders/{told.order_id}/cancel"
        answer = await self._ask("POST cancel", lambda: self._shop.post(path, key=f"{self.name}-cancel"))
        if answer.status == 200:
            told.words.add("gave up")
        else:
            self._expect(answer, "POST cancel", "order_not_cancellable")

    async def _await_paid(self, told: Told) -> None:
        """Look a few times, as a shop does; what it reads once stays so."""
        for _ in range(3):
            answer = await self._ask("GET orders", lambda: self._shop.get(f"/v1/orders/{told.order_id}"))
            if answer.status != 200:
                self._trouble("GET orders", answer, told.order_id)
                return
            self._note(told, answer.body)
            if answer.body["status"] != "pending_payment":
                return
            await asyncio.sleep(0.15)

    def _note(self, told: Told, order: dict[str, Any]) -> None:
        if order["status"] == "paid":
            told.words.add("paid")
        if order["payment"]["status"] == "succeeded":
            told.words.add("captured")

    async def _ask(self, what: str, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Again while nobody answers or the answer says so."""
        end = time.monotonic() + PATIENCE_SECONDS
        said = ""
        while time.monotonic() < end:
            try:
                answer = await send()
            except NoAnswer:
                said = "no answer"
            else:
                said = f"{answer.status} {answer.code}".strip()
                if answer.code not in AGAIN:
                    self._ledger.answers[f"{what} {said}"] += 1
                    return answer
                if answer.code == "sale_unavailable" and not self._loses_data:
                    self._trouble(what, answer, "and nothing was lost")
            self._ledger.answers[f"{what} {said}"] += 1
            await asyncio.sleep(0.1)
        raise Impatient(f"{what}: {said} for {PATIENCE_SECONDS:g} s")

    def _late_or_trouble(self, told: Told, answer: Answer, what: str) -> None:
        # Where data was lost, a hold that no longer fits ends before its time.
        if answer.code in LATE and (self._loses_data or time.time() >= told.expires_at):
            return
        self._lost_or_trouble(told, answer, what)

    def _lost_or_trouble(self, told: Told, answer: Answer, what: str) -> None:
        if answer.code == "hold_lost" and self._loses_data:
            told.words.add("lost")
        else:
            self._trouble(what, answer, told.hold_id)

    def _expect(self, answer: Answer, what: str, *codes: str) -> None:
        if answer.code not in codes:
            self._trouble(what, answer, "")

    def _trouble(self, what: str, answer: Answer, more: str) -> None:
        detail = answer.body.get("detail", "") if isinstance(answer.body, dict) else ""
        self._ledger.trouble(f"{self.name}: {what}: {answer.status} {answer.code} {detail} {more}".strip())
