"""What every list and every answer share: pages, newest first, and `expand[]`."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sandbox.stripe import shapes
from sandbox.stripe.errors import invalid, no_such
from sandbox.stripe.records import Record
from sandbox.stripe.shapes import Json
from sandbox.stripe.store import StoredEvent
from sandbox.stripe.world import Call, World

R = TypeVar("R", bound=Record)
LIMIT_DEFAULT, LIMIT_MAX = 10, 100
BOUNDS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def limit_of(params: Json) -> int:
    limit: int = params.get("limit", LIMIT_DEFAULT)
    if limit < 1:
        raise invalid("This value must be greater than or equal to 1.", "limit", "parameter_invalid_integer")
    if limit > LIMIT_MAX:
        message = f"This value must be less than or equal to {LIMIT_MAX}."
        raise invalid(message, "limit", "parameter_invalid_integer")
    return limit


def page(call: Call, rows: Sequence[R], show: Callable[[R], Json], url: str, by_id: dict[str, R], what: str) -> Json:
    """One page of `rows` (oldest first), as Stripe lists: newest first, after or before a cursor."""
    params, limit = call.params, limit_of(call.params)
    first, last = _created(rows, params.get("created"))
    upward = False
    if "starting_after" in params:
        cursor = _cursor(params["starting_after"], "starting_after", by_id, what)
        last = min(last, bisect_left(rows, cursor.seq, key=lambda row: row.seq))
    elif "ending_before" in params:
        cursor = _cursor(params["ending_before"], "ending_before", by_id, what)
        first, upward = max(first, bisect_right(rows, cursor.seq, key=lambda row: row.seq)), True
    chosen = rows[first : min(first + limit, last)] if upward else rows[max(first, last - limit) : last]
    return listed([show(row) for row in reversed(chosen)], url, has_more=last - first > limit)


def listed(data: list[Json], url: str, *, has_more: bool) -> Json:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def _cursor(identifier: str, param: str, by_id: dict[str, R], what: str) -> R:
    row = by_id.get(identifier)
    if row is None:
        raise no_such(what, identifier[:100], param)
    return row


def _created(rows: Sequence[Record], wanted: Any) -> tuple[int, int]:
    """The stretch of `rows` that `created` (a time, or bounds) lets through."""
    first, last = 0, len(rows)
    if wanted is None:
        return first, last
    bounds = {"gte": wanted, "lte": wanted} if isinstance(wanted, int) else wanted
    for bound, at in bounds.items():
        if bound == "gt":
            first = max(first, bisect_right(rows, at, key=lambda row: row.created))
        elif bound == "gte":
            first = max(first, bisect_left(rows, at, key=lambda row: row.created))
        elif bound == "lt":
            last = min(last, bisect_left(rows, at, key=lambda row: row.created))
        else:
            last = min(last, bisect_right(rows, at, key=lambda row: row.created))
    return first, max(first, last)


def event_filter(params: Json, cursor: StoredEvent | None) -> tuple[list[str], list[object]]:
    """The events' list lives in SQL: clauses and their values."""
    clauses: list[str] = []
    values: list[object] = []
    created = params.get("created")
    if isinstance(created, int):
        created = {"gte": created, "lte": created}
    for bound, at in (created or {}).items():
        clauses.append(f"created {BOUNDS[bound]} ?")
        values.append(at)
    kinds = params.get("types") or ([params["type"]] if "type" in params else [])
    if kinds:
        clauses.append(f"({' OR '.join('type GLOB ?' for _ in kinds)})")
        values += kinds
    if "delivery_success" in params:
        clauses.append(
            "state IN ('delivered', 'none')" if params["delivery_success"] else "state IN ('pending', 'failed')"
        )
    if cursor is not None:
        clauses.append("seq > ?" if "ending_before" in params else "seq < ?")
        values.append(cursor.seq)
    return clauses, values


# -- expand
_EXPANDABLE: dict[str, frozenset[str]] = {
    "payment_intent": frozenset(
        {"customer", "latest_charge", "payment_method", "application", "on_behalf_of", "review", "source"}
    ),
    "charge": frozenset(
        {"customer", "payment_intent", "balance_transaction", "refunds", "application", "on_behalf_of", "review"}
    ),
    "refund": frozenset({"charge", "payment_intent", "balance_transaction"}),
    "dispute": frozenset({"charge", "payment_intent"}),
    "payment_method": frozenset({"customer"}),
    "customer": frozenset({"default_source"}),
}


def expand(world: World, shown: Json, paths: list[str]) -> Json:
    """`expand[]=latest_charge`, `expand[]=data.payment_intent.customer`: ids replaced by what they name."""
    for place, path in enumerate(paths):
        _expand(world, shown, path.split("."), path, f"expand[{place}]")
    return shown


def _expand(world: World, shown: Json, steps: list[str], path: str, param: str) -> None:
    if shown.get("object") == "list" and steps[0] == "data":
        for item in shown["data"]:
            if len(steps) > 1:
                _expand(world, item, steps[1:], path, param)
        return
    step = steps[0]
    if step not in _EXPANDABLE.get(str(shown.get("object")), frozenset()) or len(steps) > 4:
        raise invalid(f"This property cannot be expanded ({path}).", param)
    if step == "refunds":
        rows = [row for row in world.refunds_of[shown["payment_intent"]] if row.charge == shown["id"]]
        data = [shapes.refund_shape(row) for row in reversed(rows)]
        shown[step] = listed(data, f"/v1/charges/{shown['id']}/refunds", has_more=False)
    elif isinstance(shown.get(step), str):
        shown[step] = _named(world, shown[step])
    if len(steps) > 1 and isinstance(shown.get(step), dict):
        _expand(world, shown[step], steps[1:], path, param)


def _named(world: World, identifier: str) -> Json | str:
    prefix = identifier.partition("_")[0]
    if prefix == "pi":
        return shapes.intent_shape(world.intents.by_id[identifier])
    if prefix == "ch":
        return shapes.charge_shape(world.charges.by_id[identifier])
    if prefix == "pm":
        return shapes.method_shape(world.methods.by_id[identifier])
    if prefix == "cus":
        return shapes.customer_shape(world.customers.by_id[identifier])
    if prefix == "txn":
        charge = world.charges.by_id.get(f"ch_{identifier.removeprefix('txn_')}")
        return identifier if charge is None else shapes.transaction_shape(charge)
    return identifier
