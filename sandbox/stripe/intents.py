"""PaymentIntents, as the shop and its customers' browsers speak to them."""

from typing import Any

from sandbox.stripe import charging
from sandbox.stripe.amounts import checked_amount, checked_currency, positive, written
from sandbox.stripe.errors import Fault, invalid, no_such, unexpected_state
from sandbox.stripe.lists import page
from sandbox.stripe.methods import added, merged, resolve
from sandbox.stripe.records import Intent, Method, new_id, token
from sandbox.stripe.shapes import Json, intent_shape
from sandbox.stripe.world import Call, World

# Parameters that the object shows as they were given, and that change nothing here.
KEPT = (
    "application_fee_amount", "description", "excluded_payment_method_types", "on_behalf_of", "payment_method_options",
    "receipt_email", "shipping", "statement_descriptor", "statement_descriptor_suffix", "transfer_data",
    "transfer_group",
)  # fmt: skip
CONFIRM_ONLY = ("error_on_requires_action", "mandate", "mandate_data", "off_session", "return_url")
# Real parameters that this stand-in cannot honour: better refused than ignored.
UNSUPPORTED = ("confirmation_token", "payment_method_data", "customer_account", "amount_to_confirm")
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELLABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action")


def create(world: World, call: Call) -> Json:
    params = call.params
    _supported(params)
    currency = checked_currency(params["currency"])
    amount = checked_amount(params["amount"], currency)
    confirm = bool(params.get("confirm"))
    if not confirm:
        for name in CONFIRM_ONLY:
            if name in params:
                raise invalid(f"The parameter `{name}` can only be used with `confirm=true`.", name)
    customer = params.get("customer")
    if customer is not None:
        world.customers.get(customer, "customer")
    automatic = _automatic(params.get("automatic_payment_methods"))
    method = resolve(world, params["payment_method"], customer) if "payment_method" in params else None
    if confirm:
        _confirmable(call, automatic, method)
    intent = Intent(
        id=new_id("pi"),
        created=world.now(),
        metadata=merged({}, params.get("metadata")),
        amount=amount,
        currency=currency,
        secret=token(),
        capture_method=params.get("capture_method", "automatic_async"),
        confirmation_method=params.get("confirmation_method", "automatic"),
        method_types=params.get("allowed_payment_method_types", ["card"]),
        automatic=automatic,
        customer=customer,
        setup_future_usage=params.get("setup_future_usage"),
        extra={name: params[name] for name in KEPT if name in params},
    )
    if method is not None:
        intent.payment_method = added(world, method).id
        intent.status = "requires_confirmation"
    world.intents.add(intent)
    world.emit("payment_intent.created", intent_shape(intent), call)
    if confirm and method is not None:
        _attempt(world, call, intent, method)
    return intent_shape(intent)


def _supported(params: Json) -> None:
    for name in UNSUPPORTED:
        if name in params:
            raise invalid(f"This stand-in cannot honour `{name}`.", name)


def _automatic(given: Json | None) -> Json | None:
    """Stripe's default is the dashboard's methods, redirects and all."""
    if given is None:
        return {"allow_redirects": "always", "enabled": True}
    if not given["enabled"]:
        return None
    return {"allow_redirects": given.get("allow_redirects", "always"), "enabled": True}


def _confirmable(call: Call, automatic: Json | None, method: Method | None) -> None:
    if method is None:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method or ConfirmationToken.",
            code="payment_intent_unexpected_state",
        )
    redirects = automatic is not None and automatic["allow_redirects"] != "never"
    if redirects and not call.public and "return_url" not in call.params:
        raise invalid(
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some of "
            "these payment methods might redirect your customer off of your page, you must provide a `return_url`. If "
            "you don't want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to "
            "`true` and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and "
            "Payment Intents.",
            "return_url",
        )


def _attempt(world: World, call: Call, intent: Intent, method: Method, *, authenticated: bool = False) -> None:
    refused = charging.attempt(
        world,
        call,
        intent,
        method,
        authenticated=authenticated,
        off_session=call.params.get("off_session") not in (None, False),
        error_on_action=bool(call.params.get("error_on_requires_action")),
        return_url=call.params.get("return_url"),
    )
    if refused is not None:
        raise refused


def _find(world: World, call: Call) -> Intent:
    """The path's intent; a browser must know its client secret too."""
    intent = world.intents.get(call.id, "intent", status=404)
    if call.public and call.params.get("client_secret") != intent.client_secret:
        if "client_secret" not in call.params:
            raise invalid("Missing required param: client_secret.", "client_secret", "parameter_missing")
        raise no_such("payment_intent", intent.id, "intent", status=404)
    return intent


def retrieve(world: World, call: Call) -> Json:
    return intent_shape(_find(world, call), public=call.public)


def list_intents(world: World, call: Call) -> Json:
    rows = world.intents.rows
    if "customer" in call.params:
        rows = [row for row in rows if row.customer == call.params["customer"]]
    return page(call, rows, intent_shape, "/v1/payment_intents", world.intents.by_id, "payment_intent")


def confirm(world: World, call: Call) -> Json:
    intent, params = _find(world, call), call.params
    _supported(params)
    if intent.status not in OPEN:
        raise unexpected_state(_why_not_confirm(intent), intent_shape(intent, public=call.public))
    if call.public and intent.confirmation_method == "manual":
        message = (
            "This PaymentIntent cannot be confirmed using a publishable key because its `confirmation_method` is set "
            "to `manual`. Please use your secret key instead."
        )
        raise unexpected_state(message, intent_shape(intent, public=True))
    named = params.get("payment_method") or intent.payment_method
    method = resolve(world, named, intent.customer) if named else None
    _confirmable(call, intent.automatic, method)
    assert method is not None
    authenticated = intent.authenticated and method.id == intent.payment_method
    intent.authenticated = False
    intent.capture_method = params.get("capture_method", intent.capture_method)
    intent.setup_future_usage = params.get("setup_future_usage", intent.setup_future_usage)
    intent.extra |= {name: params[name] for name in KEPT if name in params}
    _attempt(world, call, intent, added(world, method), authenticated=authenticated)
    return intent_shape(intent, public=call.public)


def _why_not_confirm(intent: Intent) -> str:
    if intent.status == "succeeded":
        return (
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed."
        )
    return (
        f"You cannot confirm this PaymentIntent because it has a status of {intent.status}. Only a PaymentIntent with "
        f"one of the following statuses may be confirmed: {', '.join(OPEN[1:])}."
    )


def capture(world: World, call: Call) -> Json:
    intent, params = _find(world, call), call.params
    if intent.status != "requires_capture":
        raise unexpected_state(
            f"This PaymentIntent could not be captured because it has a status of {intent.status}. Only a "
            "PaymentIntent with one of the following statuses may be captured: requires_capture.",
            intent_shape(intent),
        )
    if params.get("final_capture") is False:
        raise invalid("Multicapture is not available for this PaymentIntent.", "final_capture")
    amount: int = params.get("amount_to_capture", intent.amount_capturable)
    if positive(amount, "amount_to_capture") > intent.amount_capturable:
        asked, have = written(amount, intent.currency), written(intent.amount_capturable, intent.currency)
        raise Fault(
            400,
            f"The amount to capture ({asked}) is greater than the amount capturable ({have}).",
            code="amount_too_large",
            param="amount_to_capture",
            kept=True,
        )
    intent.metadata = merged(intent.metadata, params.get("metadata"))
    intent.extra |= {name: params[name] for name in KEPT if name in params}
    charging.capture(world, call, intent, amount)
    return intent_shape(intent)


def cancel(world: World, call: Call) -> Json:
    intent = _find(world, call)
    if intent.status not in CANCELLABLE:
        raise unexpected_state(
            f"You cannot cancel this PaymentIntent because it has a status of {intent.status}. Only a PaymentIntent "
            f"with one of the following statuses may be canceled: {', '.join(CANCELLABLE)}.",
            intent_shape(intent),
        )
    charging.cancel(world, call, intent, call.params.get("cancellation_reason"))
    return intent_shape(intent)


def update(world: World, call: Call) -> Json:
    intent, params = _find(world, call), call.params
    _supported(params)
    fixed = [name for name in ("amount", "currency", "payment_method", "customer") if name in params]
    if fixed and intent.status not in OPEN:
        raise unexpected_state(
            f"This PaymentIntent's {fixed[0]} could not be updated because it has a status of {intent.status}. You may "
            f"only update the {fixed[0]} of a PaymentIntent with one of the following statuses: {', '.join(OPEN)}.",
            intent_shape(intent),
        )
    currency = checked_currency(params.get("currency", intent.currency))
    amount = checked_amount(params.get("amount", intent.amount), currency)
    customer = params.get("customer", intent.customer)
    if customer is not None:
        world.customers.get(customer, "customer")
    method = resolve(world, params["payment_method"], customer) if "payment_method" in params else None
    amount_changed = (amount, currency) != (intent.amount, intent.currency)
    intent.amount, intent.currency, intent.customer = amount, currency, customer
    intent.metadata = merged(intent.metadata, params.get("metadata"))
    intent.setup_future_usage = _or_none(params.get("setup_future_usage", intent.setup_future_usage))
    intent.capture_method = params.get("capture_method", intent.capture_method)
    intent.extra |= {name: _or_none(params[name]) for name in KEPT if name in params}
    if method is not None:
        intent.payment_method = added(world, method).id
    if method is not None or (amount_changed and intent.status == "requires_action"):
        # A challenge is for one card and one amount.
        intent.status, intent.next_action, intent.authenticated = "requires_confirmation", None, False
    world.intents.save(intent)
    return intent_shape(intent)


def _or_none(value: Any) -> Any:
    return None if value == "" else value
