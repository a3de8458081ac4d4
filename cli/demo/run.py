"""The course of the demo: the rush, the last call for units that came back, and the wait until all is in its place."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.demo.client import Answer, Client
from cli.demo.customers import Ending, Rush, Visit, visit_shop
from cli.demo.plan import Sale, make_plans, make_sale
from cli.failures import Failure

SHOP_CONNECTIONS = 96
PROVIDER_CONNECTIONS = 32
LAST_CALLS_MAX = 20
"""Rounds in which units that came back late are offered to those who left with nothing."""
SETTLED_SECONDS_MAX = 30.0
POLL_SECONDS = 0.1
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Addresses:
    shop: str
    admin_token: str
    shop_token: str
    provider: str
    publishable_key: str


@dataclass(frozen=True, slots=True)
class Course:
    """What happened, and what the shop says at the end: the sale, each order's last change, the reconciliation."""

    rush: Rush
    sale: Sale
    rush_seconds: float
    seconds: float
    shown: dict[str, Any]
    orders: dict[str, dict[str, Any]]
    reconciliation: dict[str, Any]
    known_holds: set[str]
    """The holds, of those that customers were told of, that the shop still knows."""


class Demo:
    """One sale. ``tell`` gets a sentence at each turn; ``rush`` can be watched meanwhile."""

    def __init__(self, at: Addresses, customers: int, stock: int, seed: int, tell: Callable[[str], None]) -> None:
        self.sale = make_sale(stock)
        self._tell = tell
        shop = {"Authorization": f"Bearer {at.shop_token}"} if at.shop_token else None
        self._shop = Client(at.shop, connections=SHOP_CONNECTIONS, headers=shop)
        self._admin = Client(at.shop, connections=4, headers={"Authorization": f"Bearer {at.admin_token}"})
        provider = {"Authorization": f"Bearer {at.publishable_key}"}
        self._provider = Client(at.provider, connections=PROVIDER_CONNECTIONS, headers=provider)
        self.rush = Rush(self._shop, self._provider, self.sale.id)
        self.rush.visits = [Visit(plan) for plan in make_plans(self.sale, customers, seed)]

    async def run(self) -> Course:
        """Raises ``Failure`` where the shop does not do what no demo can do without."""
        try:
            return await self._run()
        finally:
            for client in (self._shop, self._admin, self._provider):
                client.close()

    async def _run(self) -> Course:
        _ok(await self._admin.put(f"/v1/admin/sales/{self.sale.id}", self.sale.file), "loading the sale")
        units = sum(self.sale.stock.values())
        self._tell(f"{len(self.rush.visits)} customers rush at {units} units of {len(self.sale.stock)} products")
        began = time.monotonic()
        await asyncio.gather(*(visit_shop(self.rush, visit) for visit in self.rush.visits))
        rush_seconds = self.rush.last_first_hold - began
        await self._last_calls()
        self._tell("everybody has left; waiting until every unit and every cent is in its place")
        shown = await self._settle()
        seconds = time.monotonic() - began
        orders = await self._read_orders()
        report = await self._admin.get(f"/v1/admin/sales/{self.sale.id}/reconciliation")
        reconciliation = _ok(report, "reconciling")
        return Course(
            self.rush, self.sale, rush_seconds, seconds, shown, orders, reconciliation, await self._known_holds()
        )

    async def _last_calls(self) -> None:
        """Offer what came back to those who left with nothing, until nothing is left or nobody wants it."""
        for _ in range(LAST_CALLS_MAX):
            shown = await self._settle()
            available = {each["id"]: each["stock"]["available"] for each in shown["products"]}
            called = wanting(self.rush.visits, available)
            if not called:
                return
            self._tell(f"last call: {sum(available.values())} units came back, {len(called)} customers return")
            for visit in called:
                visit.ending = None
            await asyncio.gather(*(visit_shop(self.rush, visit, eager=True) for visit in called))

    async def _settle(self) -> dict[str, Any]:
        """Wait until nothing is held and Postgres has every event; the sale as it is then, or as it is after that
        time.
        """
        end = time.monotonic() + SETTLED_SECONDS_MAX
        while True:
            answer = await self._admin.get(f"/v1/admin/sales/{self.sale.id}")
            shown = _ok(answer, "reading the sale")
            held = sum(product["stock"]["held"] for product in shown["products"])
            drained = shown["drain"]["seq"] == shown["drain"]["drained_seq"]
            if (not held and drained) or time.monotonic() > end:
                return shown
            await asyncio.sleep(POLL_SECONDS)

    async def _read_orders(self) -> dict[str, dict[str, Any]]:
        """This sale's orders as their last change shows them: what the shop's own order system would have."""
        orders: dict[str, dict[str, Any]] = {}
        after = ""
        while True:
            query = f"limit={PAGE}" + (f"&after={after}" if after else "")
            page = _ok(await self._admin.get(f"/v1/admin/orders?{query}"), "reading the orders")
            for change in page["data"]:
                if change["order"]["sale_id"] == self.sale.id:
                    orders[change["order"]["id"]] = change["order"]
            if len(page["data"]) < PAGE:
                return orders
            after = page["next"]

    async def _known_holds(self) -> set[str]:
        async def is_known(hold_id: str) -> str | None:
            answer = await self._shop.get(f"/v1/holds/{hold_id}")
            return hold_id if answer.status == 200 else None

        told = [visit.hold_id for visit in self.rush.visits if visit.hold_id]
        return {hold_id for hold_id in await asyncio.gather(*map(is_known, told)) if hold_id}


def wanting(visits: list[Visit], available: dict[str, int]) -> list[Visit]:
    """Customers who left with nothing, as many as can be served now."""
    left = dict(available)
    found = []
    for visit in visits:
        if visit.ending is Ending.SOLD_OUT and all(left[product] >= qty for product, qty in visit.plan.lines):
            for product, qty in visit.plan.lines:
                left[product] -= qty
            found.append(visit)
    return found


def _ok(answer: Answer, what: str) -> dict[str, Any]:
    if answer.status != 200 or not isinstance(answer.body, dict):
        raise Failure(f"{what} failed: {answer.status} {answer.code} {answer.body!r:.200}")
    return answer.body
