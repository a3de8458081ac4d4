"""Which request is which: method and path, its typed parameters, and the function that answers it."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from sandbox.stripe import disputes, intents, methods, refunds, shapes
from sandbox.stripe.errors import no_such
from sandbox.stripe.lists import event_filter, limit_of, listed, page
from sandbox.stripe.params import Schema, operation
from sandbox.stripe.shapes import Json
from sandbox.stripe.store import StoredEvent
from sandbox.stripe.world import API_VERSION, Call, World

Handler = Callable[[World, Call], Json]


class Route(NamedTuple):
    """`public`: a browser may call it with the publishable key."""

    schema: Schema
    handler: Handler
    public: bool = False


# -- reads that need no module of their own
def retrieve_charge(world: World, call: Call) -> Json:
    return shapes.charge_shape(world.charges.get(call.id, "charge", status=404))


def list_charges(world: World, call: Call) -> Json:
    rows = world.charges.rows
    if "payment_intent" in call.params:
        rows = world.charges_of.get(call.params["payment_intent"], [])
    if "customer" in call.params:
        rows = [row for row in rows if row.customer == call.params["customer"]]
    return page(call, rows, shapes.charge_shape, "/v1/charges", world.charges.by_id, "charge")


def _event_shape(event: StoredEvent) -> Json:
    shown: Json = msgspec.json.decode(event.body)
    return shown | {"pending_webhooks": int(event.state == "pending")}


def retrieve_event(world: World, call: Call) -> Json:
    event = world.store.event(call.id)
    if event is None:
        raise no_such("event", call.id[:100], "id", status=404)
    return _event_shape(event)


def list_events(world: World, call: Call) -> Json:
    params, limit, cursor = call.params, limit_of(call.params), None
    for name in ("starting_after", "ending_before"):
        if name in params:
            cursor = world.store.event(params[name])
            if cursor is None:
                raise no_such("event", params[name][:100], name)
    clauses, values = event_filter(params, cursor)
    upward = "ending_before" in params
    found = world.store.events_where(clauses, values, limit=limit + 1, upward=upward)
    chosen = found[:limit][::-1] if upward else found[:limit]
    return listed([_event_shape(event) for event in chosen], "/v1/events", has_more=len(found) > limit)


def list_webhook_endpoints(world: World, call: Call) -> Json:
    """The one target that it sends to, as an account with one endpoint would show it."""
    target = world.outbox.target
    for name in ("starting_after", "ending_before"):
        if name in call.params:
            raise no_such("webhook_endpoint", call.params[name][:100], name)
    limit_of(call.params)
    shown = [shapes.webhook_endpoint_shape(target.url, sorted(target.events))] if target else []
    return listed(shown, "/v1/webhook_endpoints", has_more=False)


def balance(world: World, _: Call) -> Json:
    totals = world.ledger.totals() or {"usd": {"net": 0}}
    pending = [
        {"amount": sums["net"], "currency": currency, "source_types": {"card": sums["net"]}}
        for currency, sums in sorted(totals.items())
    ]
    available = [{"amount": 0, "currency": item["currency"], "source_types": {"card": 0}} for item in pending]
    return {"object": "balance", "available": available, "livemode": False, "pending": pending}


def account(_: World, __: Call) -> Json:
    return {
        "id": "acct_standin",
        "object": "account",
        "business_profile": {"name": "flashsale payment stand-in"},
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": None,
        "metadata": {},
        "payouts_enabled": True,
        "settings": {"dashboard": {"display_name": f"stand-in of Stripe {API_VERSION}"}},
        "type": "standard",
    }


def table() -> dict[tuple[str, str], Route]:
    """(method, path with `{id}`) -> Route. Built once at start-up: reading the package's types takes a moment."""
    pi, pm, cus = "/v1/payment_intents", "/v1/payment_methods", "/v1/customers"
    routes: dict[tuple[str, str], tuple[str, Handler, bool]] = {
        ("POST", pi): ("payment_intent_create", intents.create, False),
        ("GET", pi): ("payment_intent_list", intents.list_intents, False),
        ("GET", f"{pi}/{{id}}"): ("payment_intent_retrieve", intents.retrieve, True),
        ("POST", f"{pi}/{{id}}"): ("payment_intent_update", intents.update, False),
        ("POST", f"{pi}/{{id}}/confirm"): ("payment_intent_confirm", intents.confirm, True),
        ("POST", f"{pi}/{{id}}/capture"): ("payment_intent_capture", intents.capture, False),
        ("POST", f"{pi}/{{id}}/cancel"): ("payment_intent_cancel", intents.cancel, False),
        ("POST", "/v1/refunds"): ("refund_create", refunds.create, False),
        ("GET", "/v1/refunds"): ("refund_list", refunds.list_refunds, False),
        ("GET", "/v1/refunds/{id}"): ("refund_retrieve", refunds.retrieve, False),
        ("POST", "/v1/refunds/{id}"): ("refund_update", refunds.update, False),
        ("POST", "/v1/refunds/{id}/cancel"): ("refund_cancel", refunds.cancel, False),
        ("GET", "/v1/charges"): ("charge_list", list_charges, False),
        ("GET", "/v1/charges/{id}"): ("charge_retrieve", retrieve_charge, False),
        ("POST", cus): ("customer_create", methods.create_customer, False),
        ("GET", cus): ("customer_list", methods.list_customers, False),
        ("GET", f"{cus}/{{id}}"): ("customer_retrieve", methods.retrieve_customer, False),
        ("POST", f"{cus}/{{id}}"): ("customer_update", methods.update_customer, False),
        ("GET", f"{cus}/{{id}}/payment_methods"): ("customer_list_payment_methods", methods.list_methods, False),
        ("POST", pm): ("payment_method_create", methods.create, True),
        ("GET", pm): ("payment_method_list", methods.list_methods, False),
        ("GET", f"{pm}/{{id}}"): ("payment_method_retrieve", methods.retrieve, False),
        ("POST", f"{pm}/{{id}}/attach"): ("payment_method_attach", methods.attach, False),
        ("POST", f"{pm}/{{id}}/detach"): ("payment_method_detach", methods.detach, False),
        ("GET", "/v1/events"): ("event_list", list_events, False),
        ("GET", "/v1/events/{id}"): ("event_retrieve", retrieve_event, False),
        ("GET", "/v1/disputes"): ("dispute_list", disputes.list_disputes, False),
        ("GET", "/v1/disputes/{id}"): ("dispute_retrieve", disputes.retrieve, False),
        ("GET", "/v1/webhook_endpoints"): ("webhook_endpoint_list", list_webhook_endpoints, False),
        ("GET", "/v1/balance"): ("balance_retrieve", balance, False),
        ("GET", "/v1/account"): ("account_retrieve_current", account, False),
    }
    return {key: Route(operation(name), handler, public) for key, (name, handler, public) in routes.items()}


def template(path: str) -> tuple[str, str]:
    """`/v1/payment_intents/pi_1/capture` -> its place in the table, and `pi_1`."""
    parts = path.rstrip("/").split("/")
    if len(parts) < 4:
        return "/".join(parts), ""
    return "/".join([*parts[:3], "{id}", *parts[4:]]), parts[3]
