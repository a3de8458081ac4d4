"""The customers: each carries out its plan over HTTP, and remembers what it was told."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cli.demo.client import Answer, Client, NoAnswer
from cli.demo.plan import HOLD_TTL_SECONDS, Plan, Temper

GOOD_CARD = "pm_card_visa"
BAD_CARD = "pm_card_visa_chargeDeclined"
WAIT_SECONDS_MAX = 6.0
"""Nobody waits longer for a second chance."""
RESOLVE_SECONDS_MAX = 30.0
POLL_SECONDS = (0.2, 1.0)
BUSY_TRIES = 20
"""How often a request is sent again that was answered 503 or 502: a customer's page does so by itself."""


class Ending(StrEnum):
    """How a customer's visit ended."""

    PAID = "paid"
    SOLD_OUT = "sold out"
    EXPIRED = "hold expired"
    RELEASED = "released"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True)
class Visit:
    """What a customer lived through. ``hold_id`` and ``order_id`` are what the shop told it."""

    plan: Plan
    ending: Ending | None = None
    hold_id: str = ""
    order_id: str = ""
    trouble: str = ""


@dataclass(slots=True)
class Rush:
    """What all customers share: the shop, the payment provider as a browser reaches it, and the counts."""

    shop: Client
    provider: Client
    sale_prefix: str
    """In front of every key: two demos on one server are two."""
    visits: list[Visit] = field(default_factory=list)
    hold_seconds: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    first_holds: int = 0
    """Customers whose first request for a hold was answered, and when the last of them was (monotonic)."""
    last_first_hold: float = 0.0
    retried: int = 0
    declined: int = 0
    twice: int = 0

    def count(self, ending: Ending) -> int:
        return sum(visit.ending is ending for visit in self.visits)


class Trouble(Exception):
    """An answer that no customer should ever get."""


async def visit_shop(rush: Rush, visit: Visit, *, eager: bool = False) -> None:
    """Go through the whole plan. An ``eager`` customer comes at once, pays and is never patient."""
    plan = visit.plan
    if not eager:
        await asyncio.sleep(plan.arrives)
    try:
        hold = await _take_hold(rush, visit, eager=eager)
        if hold is None:
            visit.ending = Ending.SOLD_OUT
            return
        visit.hold_id = hold["id"]
        visit.ending = await _go_on(rush, visit, Temper.PAYS if eager else plan.temper)
    except (Trouble, NoAnswer) as error:
        visit.ending, visit.trouble = Ending.FAILED, str(error)


async def _take_hold(rush: Rush, visit: Visit, *, eager: bool) -> dict[str, Any] | None:
    plan = visit.plan
    patience = 0 if eager else plan.patience
    lines = [{"product_id": product, "qty": qty} for product, qty in plan.lines]
    body = {"customer_id": plan.customer_id, "lines": lines}
    key = f"{rush.sale_prefix}-{plan.customer_id}-hold"
    for tries_left in range(patience, -1, -1):
        answer = await _post_hold(rush, body, key, twice=plan.temper is Temper.CLICKS_TWICE)
        if not eager and tries_left == patience:
            rush.first_holds += 1
            rush.last_first_hold = time.monotonic()
        if answer.status == 201:
            return _dict(answer)
        if answer.code != "sold_out":
            raise Trouble(f"POST /v1/holds: {_said(answer)}")
        wait = answer.retry_after
        if wait is None or wait > WAIT_SECONDS_MAX or not tries_left:
            return None
        rush.retried += 1
        await asyncio.sleep(wait)
    return None


async def _post_hold(rush: Rush, body: object, key: str, *, twice: bool) -> Answer:
    async def once() -> Answer:
        answer = await _patiently(lambda: rush.shop.post("/v1/holds", body, key=key))
        rush.hold_seconds.append(answer.seconds)
        rush.answers[answer.code or str(answer.status)] += 1
        return answer

    if not twice:
        return await once()
    first, second = await asyncio.gather(once(), once())
    if first.status == second.status == 201:
        rush.twice += 1
        if first.body["id"] != second.body["id"]:
            raise Trouble(f"one Idempotency-Key, two holds: {first.body['id']} and {second.body['id']}")
    # Beside a 201 the other may be sold_out: it came first, and another customer gave back between the two.
    return first if first.status == 201 else second


async def _go_on(rush: Rush, visit: Visit, temper: Temper) -> Ending:
    if temper is Temper.ABANDONS:
        return await _abandon(rush, visit)
    await asyncio.sleep(visit.plan.thinks)
    if temper is Temper.RELEASES:
        answer = await _patiently(lambda: rush.shop.delete(f"/v1/holds/{visit.hold_id}"))
        _expect(answer, 200, "DELETE /v1/holds/{id}")
        return Ending.RELEASED
    order = await _order(rush, visit)
    if order is None:
        return Ending.EXPIRED
    if temper is Temper.CANCELS:
        return await _cancel(rush, visit)
    if temper is Temper.DECLINED_FIRST:
        answer = await _confirm(rush, order, BAD_CARD)
        if answer.status != 402:
            raise Trouble(f"a bad card was not declined: {_said(answer)}")
        rush.declined += 1
    _expect(await _confirm(rush, order, GOOD_CARD), 200, "confirming the payment")
    return await _await_paid(rush, visit)


async def _abandon(rush: Rush, visit: Visit) -> Ending:
    """Walk away. The hold reads expired from its deadline on, swept or not."""
    await asyncio.sleep(HOLD_TTL_SECONDS + 0.2)
    answer = await _patiently(lambda: rush.shop.get(f"/v1/holds/{visit.hold_id}"))
    status = _expect(answer, 200, "GET /v1/holds/{id}")["status"]
    if status != "expired":
        raise Trouble(f"an abandoned hold reads {status}")
    return Ending.EXPIRED


async def _order(rush: Rush, visit: Visit) -> dict[str, Any] | None:
    """None where the customer was too slow: on a busy machine that happens, and the unit goes to somebody else."""
    key = f"{rush.sale_prefix}-{visit.plan.customer_id}-order"
    body = {"hold_id": visit.hold_id, "metadata": {"demo": "1"}}
    answer = await _patiently(lambda: rush.shop.post("/v1/orders", body, key=key))
    if answer.code == "hold_expired":
        return None
    order = _expect(answer, 201, "POST /v1/orders")
    visit.order_id = order["id"]
    return order


async def _cancel(rush: Rush, visit: Visit) -> Ending:
    key = f"{rush.sale_prefix}-{visit.plan.customer_id}-cancel"
    answer = await _patiently(lambda: rush.shop.post(f"/v1/orders/{visit.order_id}/cancel", key=key))
    status = _expect(answer, 200, "POST /v1/orders/{id}/cancel")["status"]
    if status != "cancelled":
        raise Trouble(f"a cancelled order reads {status}")
    return Ending.CANCELLED


async def _confirm(rush: Rush, order: dict[str, Any], card: str) -> Answer:
    """As stripe.js does in a browser: the publishable key and the intent's own secret."""
    payment = order["payment"]
    path = f"/v1/payment_intents/{payment['intent_id']}/confirm"
    fields = {"client_secret": payment["client_secret"], "payment_method": card}
    return await _patiently(lambda: rush.provider.post_form(path, fields))


async def _await_paid(rush: Rush, visit: Visit) -> Ending:
    """The shop ships when the payment has succeeded, which a signed webhook and a worker bring about."""
    pause, longest = POLL_SECONDS
    waited = 0.0
    while waited < RESOLVE_SECONDS_MAX:
        await asyncio.sleep(pause)
        waited += pause
        pause = min(pause * 1.3, longest)
        answer = await _patiently(lambda: rush.shop.get(f"/v1/orders/{visit.order_id}"))
        order = _expect(answer, 200, "GET /v1/orders/{id}")
        if order["status"] == "paid" and order["payment"]["status"] == "succeeded":
            return Ending.PAID
        if order["status"] == "cancelled":
            raise Trouble("an order that was paid in time was cancelled")
    raise Trouble(f"order {visit.order_id} was not paid after {RESOLVE_SECONDS_MAX:g} s")


async def _patiently(send: Any) -> Answer:
    """Again after ``Retry-After`` where a server was busy: the same key makes it the same request."""
    for _ in range(BUSY_TRIES):
        answer: Answer = await send()
        if answer.status not in (502, 503):
            return answer
        await asyncio.sleep(answer.retry_after or 1.0)
    return answer


def _expect(answer: Answer, status: int, what: str) -> dict[str, Any]:
    if answer.status != status:
        raise Trouble(f"{what}: {_said(answer)}")
    return _dict(answer)


def _dict(answer: Answer) -> dict[str, Any]:
    if not isinstance(answer.body, dict):
        raise Trouble(f"an answer that is no object: {answer.body!r:.80}")
    return answer.body


def _said(answer: Answer) -> str:
    detail = answer.body.get("detail", "") if isinstance(answer.body, dict) else ""
    return f"{answer.status} {answer.code} {detail}".strip()
