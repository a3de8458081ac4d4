"""Payment methods and customers: test cards made real, saved to a customer, and used."""

from typing import Any

from sandbox.stripe.cards import BY_NUMBER, Card, test_card
from sandbox.stripe.errors import Fault, doc_url, invalid, missing
from sandbox.stripe.lists import page
from sandbox.stripe.records import Customer, Method, new_id
from sandbox.stripe.shapes import Json, customer_shape, method_shape
from sandbox.stripe.world import Call, World

CUSTOMER_KEPT = (
    "address", "balance", "description", "email", "invoice_prefix", "name", "phone", "preferred_locales", "shipping",
)  # fmt: skip
BILLING = ("address", "email", "name", "phone", "tax_id")


def merged(metadata: dict[str, str], changes: "dict[str, str] | str | None") -> dict[str, str]:
    """Metadata after an update: a blank value unsets its key, a blank whole unsets all."""
    if changes is None:
        return metadata
    if isinstance(changes, str):
        return {}
    return {key: value for key, value in (metadata | changes).items() if value != ""}


def resolve(world: World, identifier: str, customer: str | None) -> Method:
    """The method that a charge for `customer` would use; one made of a test card's name is not added yet.

    Refuses as Stripe does: a saved card wants its customer, and one used up without a customer is used up.
    """
    card = test_card(identifier)
    if card is not None:
        return Method(id=new_id("pm"), created=world.now(), card=card.name)
    method = world.methods.get(identifier, "payment_method")
    if method.customer is not None and method.customer != customer:
        if customer is None:
            raise invalid(
                f"The PaymentMethod {method.id} belongs to a Customer. Please include the Customer in the `customer` "
                "parameter on the PaymentIntent.",
                "payment_method",
            )
        raise invalid(
            f"The PaymentMethod {method.id} does not belong to the Customer you supplied {customer}. Please use this "
            "PaymentMethod with the Customer that it belongs to instead.",
            "payment_method",
        )
    if method.customer is None and method.spent:
        raise invalid(
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared "
            "with a connected account without Customer attachment, or was detached from a Customer. It may not be "
            "used again. To use a PaymentMethod multiple times, you must attach it to a Customer first.",
            "payment_method",
        )
    return method


def added(world: World, method: Method) -> Method:
    return world.methods.add(method) if method.seq < 0 else method


# -- routes: payment methods
def create(world: World, call: Call) -> Json:
    params = call.params
    if "payment_method" in params:
        raise invalid("This stand-in has no Connect: `payment_method` cannot be cloned.", "payment_method")
    if params.get("type") != "card":
        if "type" not in params:
            raise missing("type")
        raise invalid(f"This stand-in takes cards only, not {params['type']}.", "type")
    card = _given_card(call, params.get("card"))
    billing = {name: value for name, value in params.get("billing_details", {}).items() if name in BILLING}
    method = Method(
        id=new_id("pm"),
        created=world.now(),
        card=card.name,
        metadata=merged({}, params.get("metadata")),
        billing=billing or None,
    )
    return method_shape(world.methods.add(method))


def _given_card(call: Call, given: Any) -> Card:
    if not isinstance(given, dict):
        raise missing("card")
    token, number = given.get("token"), given.get("number")
    if token is not None:
        card = test_card(token) if token.startswith("tok_") else None
        if card is None:
            raise invalid(f"No such token: '{token[:100]}'", "card[token]", "resource_missing")
        return card
    if number is None:
        raise missing("card[number]")
    if not call.public:
        raise Fault(
            402,
            "Sending credit card numbers directly to the Stripe API is generally unsafe. We suggest you use test "
            "tokens that map to the test card you are using, see https://stripe.com/docs/testing.",
        )
    card = BY_NUMBER.get(number.replace(" ", ""))
    if card is None:
        message = "Your card was declined. Your request was in test mode, but used a non test card."
        raise Fault(402, message, kind="card_error", code="card_declined", param="number", kept=True)
    return card


def retrieve(world: World, call: Call) -> Json:
    return method_shape(world.methods.get(call.id, "payment_method", status=404))


def attach(world: World, call: Call) -> Json:
    card = test_card(call.id)
    if card is not None:
        method = Method(id=new_id("pm"), created=world.now(), card=card.name)
    else:
        method = world.methods.get(call.id, "payment_method", status=404)
        card = test_card(f"pm_card_{method.card}")
    if "customer" not in call.params:
        raise missing("customer")
    customer = world.customers.get(call.params["customer"], "customer")
    assert card is not None
    if method.customer is not None and method.customer != customer.id:
        raise invalid("The payment method you provided has already been attached to a customer.", "payment_method")
    if method.spent and method.customer is None:
        resolve(world, method.id, customer.id)
    if not card.attaches:
        raise declined_fault(card)
    method = added(world, method)
    method.customer = customer.id
    world.methods.save(method)
    shown = method_shape(method)
    world.emit("payment_method.attached", shown, call)
    return shown


def declined_fault(card: Card) -> Fault:
    """The 402 of a card that a bank refuses."""
    assert card.code is not None
    extra = {"decline_code": card.decline_code} if card.decline_code else {}
    return Fault(402, card.message, kind="card_error", code=card.code, kept=True, extra=extra)


def detach(world: World, call: Call) -> Json:
    method = world.methods.get(call.id, "payment_method", status=404)
    if method.customer is None:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
            "payment_method",
        )
    previous = {"customer": method.customer}
    method.customer, method.spent = None, True
    world.methods.save(method)
    shown = method_shape(method)
    world.emit("payment_method.detached", shown, call, previous)
    return shown


def list_methods(world: World, call: Call) -> Json:
    customer = call.id or call.params.get("customer")
    if call.id:
        world.customers.get(call.id, "customer", status=404)
    rows = [row for row in world.methods.rows if row.customer is not None and row.customer == customer]
    url = f"/v1/customers/{call.id}/payment_methods" if call.id else "/v1/payment_methods"
    return page(call, rows, method_shape, url, world.methods.by_id, "payment_method")


# -- routes: customers
def create_customer(world: World, call: Call) -> Json:
    params = call.params
    method = resolve(world, params["payment_method"], None) if "payment_method" in params else None
    customer = Customer(
        id=new_id("cus"),
        created=world.now(),
        metadata=merged({}, params.get("metadata")),
        extra={name: params[name] or None for name in CUSTOMER_KEPT if name in params},
    )
    world.customers.add(customer)
    if method is not None:
        added(world, method).customer = customer.id
        world.methods.save(method)
    shown = customer_shape(customer)
    world.emit("customer.created", shown, call)
    return shown


def update_customer(world: World, call: Call) -> Json:
    customer = world.customers.get(call.id, "id", status=404)
    before = customer_shape(customer)
    customer.metadata = merged(customer.metadata, call.params.get("metadata"))
    customer.extra |= {name: call.params[name] or None for name in CUSTOMER_KEPT if name in call.params}
    world.customers.save(customer)
    shown = customer_shape(customer)
    world.emit("customer.updated", shown, call, changed(before, shown))
    return shown


def changed(before: Json, after: Json) -> Json:
    """`previous_attributes`: what each changed attribute was."""
    return {name: value for name, value in before.items() if after.get(name) != value}


def retrieve_customer(world: World, call: Call) -> Json:
    return customer_shape(world.customers.get(call.id, "id", status=404))


def list_customers(world: World, call: Call) -> Json:
    rows = world.customers.rows
    if "email" in call.params:
        rows = [row for row in rows if row.extra.get("email") == call.params["email"]]
    return page(call, rows, customer_shape, "/v1/customers", world.customers.by_id, "customer")


def error_of(card: Card, method: Method, charge: str | None) -> Json:
    """`last_payment_error` after a bank's refusal."""
    assert card.code is not None
    error: Json = {"charge": charge, "code": card.code}
    if card.decline_code:
        error["decline_code"] = card.decline_code
    return error | {
        "doc_url": doc_url(card.code),
        "message": card.message,
        "payment_method": method_shape(method),
        "type": "card_error",
    }
