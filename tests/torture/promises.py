"""The promises of a sale whatever was killed, once all is settled. Each function tells every breach in words; an
empty list is good.
"""

from collections import defaultdict
from typing import Any

from engine import ids
from engine.command import run
from engine.commands import peek
from engine.records import HoldRecord
from loadtests import invariants
from tests.torture.ledger import Ledger, Told
from tests.torture.stage import Sale, Stage


def nothing_oversold(stage: Stage, sale: Sale) -> list[str]:
    """The books add up in Redis and in Postgres, to the unit, and paid orders are what was sold."""
    with stage.client() as client:
        found = invariants.redis_counters(client, sale.id) + invariants.stores_agree(client, stage.db, sale.id)
    paid = dict(
        stage.rows(
            "SELECT l.product_id, sum(l.qty)::int FROM order_lines l JOIN orders o ON o.id = l.order_id"
            " WHERE o.sale_id = :sale AND o.status = 'paid' GROUP BY 1",
            sale=sale.id,
        )
    )
    sold = dict(stage.rows("SELECT id, sold FROM products WHERE sale_id = :sale", sale=sale.id))
    for product, units in sale.stock.items():
        if paid.get(product, 0) > units:
            found.append(f"{product}: {paid[product]} units are paid for, of {units}")
        if paid.get(product, 0) != sold[product]:
            found.append(f"{product}: {paid.get(product, 0)} units are paid for, {sold[product]} sold")
    return found


def no_hold_lost(stage: Stage, sale: Sale, ledger: Ledger) -> list[str]:
    """Every hold that a buyer was told of is in both stores, and ended by its deadline, its release or its sale."""
    with stage.client() as client:
        found = invariants.holds_exist(client, stage.db, sale.id, ledger.told)
    states = _orders(stage, sale)
    for hold_id, record in _records(stage, sale, list(ledger.told)).items():
        if record is None:
            continue
        told = ledger.told[hold_id]
        order = states.get(ids.order_id(sale.id, hold_id[-ids.TOKEN_LENGTH :]), "")
        if record.status not in _endings(told, order):
            found.append(f"{hold_id} is {record.status}, its order {order or 'none'}; its buyer was told {told.words}")
    return found


def _endings(told: Told, order: str) -> set[str]:
    if order == "paid":
        return {"sold"}
    if order == "cancelled":
        return {"released", "expired"}
    return {"released"} if "released" in told.words else {"expired"}


def no_word_broken(stage: Stage, sale: Sale, ledger: Ledger) -> list[str]:
    """An order that a buyer cancelled or read as paid stays so, and one that was named is there."""
    states = _orders(stage, sale)
    found = list(ledger.troubles)
    for told in ledger.told.values():
        if not told.order_id:
            continue
        order = states.get(told.order_id, "unknown")
        # A buyer may cancel what is paid and not captured yet.
        last = "cancelled" if "gave up" in told.words else "paid" if "paid" in told.words else order
        if order not in {"paid", "cancelled"} & {last}:
            found.append(f"{told.order_id} is {order}; its buyer was told {told.words}")
    return found


def no_payment_unsettled(stage: Stage, sale: Sale) -> list[str]:
    """Each order is paid and captured once to the cent, or cancelled and nothing is kept; nothing is left to do."""
    found = [
        f"{order_id} is {status}, {due} is due: {error}"
        for order_id, status, due, error in stage.rows(
            "SELECT o.id, o.status, p.due, p.last_error FROM orders o JOIN payments p ON p.order_id = o.id"
            " WHERE o.sale_id = :sale AND (o.status NOT IN ('paid', 'cancelled') OR p.due IS NOT NULL)",
            sale=sale.id,
        )
    ]
    found += [
        f"event {event_id} is {status}: {reason}"
        for event_id, status, reason in stage.rows(
            "SELECT id, status, reason FROM webhook_events WHERE status NOT IN ('handled', 'ignored')"
        )
    ]
    found += [f"event {seq} was set aside: {error}" for seq, error in stage.rows("SELECT seq, error FROM set_aside")]
    kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for intent in stage.stand_in.ledger()["intents"]:
        if intent["metadata"].get("sale_id") == sale.id:
            kept[intent["metadata"]["order_id"]].append(intent)
            if intent["waiting"]:
                found.append(f"{intent['id']}: {intent['waiting']} are authorised, neither captured nor given back")
    orders = {
        order_id: (status, total)
        for order_id, status, total in stage.rows(
            "SELECT id, status, total FROM orders WHERE sale_id = :sale", sale=sale.id
        )
    }
    for order_id in orders.keys() | kept.keys():
        status, total = orders.get(order_id, ("unknown", 0))
        money = sum(intent["net"] for intent in kept[order_id])
        if money != (total if status == "paid" else 0):
            found.append(f"{order_id} is {status}, of {total}; the provider keeps {money}")
    return found


def reconciled(stage: Stage, sale: Sale) -> list[str]:
    """`flashsale reconcile` exits 0."""
    return invariants.reconciled(stage.env, sale.id)[0]


def nothing_forgotten(stage: Stage, sale: Sale) -> list[str]:
    """No data was lost, so no sale was ever restored from Postgres."""
    epoch = stage.show(sale).position.epoch
    return [] if epoch == 1 else [f"{sale.id} was rebuilt: epoch {epoch}"]


def known_is_restored(stage: Stage, sale: Sale, known: dict[str, str]) -> list[str]:
    """``known`` are the holds that Postgres had, by status, when Redis lost its data: each is there again."""
    now_ms = stage.show(sale).now_ms
    goes_on = {"held": {"held", "paying", "sold", "released"}, "paying": {"paying", "sold", "released", "expired"}}
    asked = {row[0] for row in stage.rows("SELECT hold_id FROM orders WHERE ended_because = 'asked'")}
    found = []
    for hold_id, record in _records(stage, sale, list(known)).items():
        was = known[hold_id]
        if record is None:
            found.append(f"{hold_id} was {was} in Postgres and is not in Redis")
            continue
        overdue = record.status == "expired" and record.expires_ms <= now_ms
        # A buyer may cancel what is paid and not captured yet.
        given_up = record.status == "released" and hold_id in asked
        if record.status not in goes_on.get(was, {was}) and not (overdue or given_up):
            found.append(f"{hold_id} was {was} in Postgres and is {record.status} in Redis")
    return found


def unknown_is_lost(stage: Stage, sale: Sale, ledger: Ledger, restored_at: float) -> list[str]:
    """Every hold that a buyer was told of is in both stores, or answers ``hold_lost`` and was taken before the
    rebuild. None of them answered so that Postgres knew.
    """
    named = list(ledger.told)
    kept = {row[0] for row in stage.rows("SELECT id FROM holds WHERE sale_id = :sale", sale=sale.id)}
    found = []
    for hold_id, record in _records(stage, sale, named).items():
        told = ledger.told[hold_id]
        if hold_id in kept:
            if record is None:
                found.append(f"{hold_id} is in Postgres and not in Redis")
            if "lost" in told.words:
                found.append(f"{hold_id} was answered hold_lost and Postgres knows it")
            continue
        status, body = stage.ask("GET", f"/v1/holds/{hold_id}")
        if status != 410 or body["code"] != "hold_lost":
            found.append(f"{hold_id} is not in Postgres and answers {status} {body.get('code') or body.get('status')}")
        if told.acknowledged_at > restored_at:
            found.append(f"{hold_id} was acknowledged after the rebuild, and is lost")
    return found


def _orders(stage: Stage, sale: Sale) -> dict[str, str]:
    return dict(stage.rows("SELECT id, status FROM orders WHERE sale_id = :sale", sale=sale.id))


def _records(stage: Stage, sale: Sale, hold_ids: list[str]) -> dict[str, HoldRecord | None]:
    if not hold_ids:
        return {}
    with stage.client() as client:
        _, records = run(client, peek(sale.id, [hold_id[-ids.TOKEN_LENGTH :] for hold_id in hold_ids]))
    return dict(zip(hold_ids, records, strict=True))
