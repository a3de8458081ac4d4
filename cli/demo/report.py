"""Whether it adds up: what the customers were told, what Redis, Postgres and the payment provider have, and the
figures.
"""

from collections import Counter
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import click

from cli.demo.customers import Ending
from cli.demo.run import Course, wanting
from cli.output import money, table

TROUBLES_SHOWN = 5
HELD = (Ending.PAID, Ending.EXPIRED, Ending.RELEASED, Ending.CANCELLED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``oversold`` and ``left_over`` count units, intents or orders; ``lost`` whatever somebody was told and is not
    so. ``findings`` says each in words.
    """

    oversold: int
    lost: int
    left_over: int
    findings: list[str]

    @property
    def ok(self) -> bool:
        return not (self.oversold or self.lost or self.left_over or self.findings)


class _Findings:
    def __init__(self) -> None:
        self.words: list[str] = []

    def count(self, number: int, what: str) -> int:
        if number:
            self.words.append(f"{number} {what}")
        return number


def judge(course: Course, ledger: dict[str, Any]) -> Verdict:
    """``ledger`` is the payment stand-in's own."""
    found = _Findings()
    stocks = {product["id"]: product["stock"] for product in course.shown["products"]}
    paid = paid_units(course)
    oversold = found.count(
        sum(max(paid[product] - units, 0) for product, units in course.sale.stock.items()),
        "units paid for beyond the stock",
    ) + found.count(
        sum(max(each["sold"] - each["total"], 0) for each in stocks.values()), "units sold beyond the stock"
    )
    lost = (
        found.count(
            sum(abs(each["total"] - each["available"] - each["held"] - each["sold"]) for each in stocks.values()),
            "units that are neither available, held nor sold",
        )
        + found.count(
            sum(abs(stocks[product]["sold"] - paid[product]) for product in stocks),
            "units between Redis and the orders",
        )
        + found.count(_unknown_holds(course), "holds that a customer was given and the shop does not know")
        + found.count(_other_orders(course), "orders that are not as their customer was told")
        + found.count(_unpaid_orders(course, ledger), "paid orders without their money")
        + found.count(course.rush.count(Ending.FAILED), "customers who met an answer that nobody should")
    )
    available = {product: each["available"] for product, each in stocks.items()}
    left_over = (
        found.count(sum(each["held"] for each in stocks.values()), "units still held")
        + found.count(
            sum(order["status"] == "pending_payment" for order in course.orders.values()), "orders still unresolved"
        )
        + found.count(_money_for_nothing(course, ledger), "payments authorised or taken for no order")
        + found.count(len(wanting(course.rush.visits, available)), "customers sent away from units that are there")
    )
    troubled = [visit for visit in course.rush.visits if visit.trouble]
    found.words += [f"{visit.plan.customer_id}: {visit.trouble}" for visit in troubled[:TROUBLES_SHOWN]]
    if not course.reconciliation["consistent"]:
        found.words.append(f"reconcile found drift: {course.reconciliation['drift'][:3]}")
    return Verdict(oversold, lost, left_over, found.words)


def paid_units(course: Course) -> Counter[str]:
    """Units of paid orders by product, as Postgres has them."""
    units: Counter[str] = Counter()
    for order in course.orders.values():
        if order["status"] == "paid":
            for line in order["lines"]:
                units[line["product_id"]] += line["qty"]
    return units


def summary(course: Course, verdict: Verdict, customers: int, stock: int) -> dict[str, Any]:
    """The last line of ``demo --json``."""
    rush = course.rush
    p50, p99 = _percentiles(rush.hold_seconds)
    return {
        "ok": verdict.ok,
        "customers": customers,
        "stock": stock,
        "held": sum(rush.count(ending) for ending in HELD),
        "sold_out": rush.count(Ending.SOLD_OUT),
        "expired": rush.count(Ending.EXPIRED),
        "paid": rush.count(Ending.PAID),
        "oversold": verdict.oversold,
        "lost": verdict.lost,
        "left_over": verdict.left_over,
        "holds_per_second": round(rush.first_holds / max(course.rush_seconds, 0.001), 1),
        "hold_p50_ms": round(p50 * 1000, 2),
        "hold_p99_ms": round(p99 * 1000, 2),
        "reconcile": course.reconciliation,
    }


def print_report(course: Course, verdict: Verdict, figures: dict[str, Any], ledger: dict[str, Any]) -> None:
    rush = course.rush
    rows = [(ending.value, rush.count(ending)) for ending in Ending if rush.count(ending)]
    table(("customers", ""), [*rows, ("in all", len(rush.visits))], title="Each customer")
    click.echo(
        f"{rush.retried} came back after Retry-After, {rush.declined} cards were declined first, "
        f"{rush.twice} clicked twice and got one hold"
    )
    _print_units(course, ledger)
    _print_money(course, ledger)
    answers = ", ".join(f"{count} {what}" for what, count in sorted(rush.answers.items()))
    click.echo(
        f"\nHolds: {figures['holds_per_second']:.0f}/s in the rush, p50 {figures['hold_p50_ms']:.1f} ms, "
        f"p99 {figures['hold_p99_ms']:.1f} ms ({answers})"
    )
    consistent = "consistent" if course.reconciliation["consistent"] else "DRIFT"
    click.echo(f"Reconcile: {consistent} at event {course.reconciliation['seq']}")
    for finding in verdict.findings:
        click.echo(f"NOT SO: {finding}")
    verb = "It adds up" if verdict.ok else "It does NOT add up"
    click.echo(
        f"{verb}: {verdict.oversold} oversold, {verdict.lost} lost, {verdict.left_over} left over, "
        f"after {course.seconds:.1f} s"
    )


def _print_units(course: Course, ledger: dict[str, Any]) -> None:
    paid, charged = paid_units(course), _charged_units(course, ledger)
    rows = [
        (
            each["name"],
            each["stock"]["total"],
            each["stock"]["sold"],
            paid[each["id"]],
            charged[each["id"]],
            each["stock"]["held"],
            each["stock"]["available"],
        )
        for each in course.shown["products"]
    ]
    columns = ("product", "stock", "sold in Redis", "paid in Postgres", "captured at provider", "held", "available")
    table(columns, rows, title="Units, three ways")


def _print_money(course: Course, ledger: dict[str, Any]) -> None:
    paid = sum(order["total"]["amount"] for order in course.orders.values() if order["status"] == "paid")
    ours = _ours(course, ledger)
    captured, waiting = (sum(intent[name] for intent in ours) for name in ("captured", "waiting"))
    click.echo(
        f"Money: {money(paid, 'usd')} in paid orders, {money(captured, 'usd')} captured at the provider, "
        f"{money(waiting, 'usd')} authorised and waiting"
    )


def _ours(course: Course, ledger: dict[str, Any]) -> list[dict[str, Any]]:
    """The intents of this sale's orders. Another sale on the same servers has its own."""
    return [each for each in ledger["intents"] if f"_{course.sale.id}_" in each["metadata"].get("order_id", "")]


def _charged_units(course: Course, ledger: dict[str, Any]) -> Counter[str]:
    """Units of the orders whose money the provider has."""
    charged = {intent["id"] for intent in ledger["intents"] if intent["net"] > 0}
    units: Counter[str] = Counter()
    for order in course.orders.values():
        if order["payment"]["intent_id"] in charged:
            for line in order["lines"]:
                units[line["product_id"]] += line["qty"]
    return units


def _unknown_holds(course: Course) -> int:
    told = {visit.hold_id for visit in course.rush.visits if visit.hold_id}
    return len(told - course.known_holds)


def _other_orders(course: Course) -> int:
    wanted = {Ending.PAID: "paid", Ending.CANCELLED: "cancelled"}
    return sum(
        course.orders.get(visit.order_id, {}).get("status") != wanted[visit.ending]
        for visit in course.rush.visits
        if visit.ending in wanted
    )


def _unpaid_orders(course: Course, ledger: dict[str, Any]) -> int:
    net = {intent["id"]: intent["net"] for intent in ledger["intents"]}
    return sum(
        net.get(order["payment"]["intent_id"], 0) != order["total"]["amount"]
        for order in course.orders.values()
        if order["status"] == "paid"
    )


def _money_for_nothing(course: Course, ledger: dict[str, Any]) -> int:
    paid = {order["payment"]["intent_id"] for order in course.orders.values() if order["status"] == "paid"}
    return sum(
        intent["waiting"] > 0 or (intent["net"] > 0 and intent["id"] not in paid) for intent in _ours(course, ledger)
    )


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99."""
    if len(seconds) < 2:
        return (seconds or [0.0])[0], (seconds or [0.0])[0]
    cuts = quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[98]
