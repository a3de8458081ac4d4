"""The stand-in refuses what Stripe refuses, in Stripe's words, and remembers idempotency keys as Stripe does."""

import http.client
import json
import threading
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe

from sandbox.stripe import params
from sandbox.stripe.errors import Fault
from sandbox.stripe.forms import pairs, tree
from sandbox.stripe.idempotency import KEPT_SECONDS, Keys, digest
from sandbox.stripe.process import StripeStandIn
from sandbox.stripe.routes import table
from sandbox.stripe.shapes import _SAMPLES
from sandbox.stripe.store import Answer, Store
from tests.sandbox.conftest import NO_REDIRECTS, Pay, client_of

GOOD: dict[str, Any] = {"amount": 1099, "currency": "usd", "automatic_payment_methods": NO_REDIRECTS}


def raw(
    stand_in: StripeStandIn,
    method: str,
    path: str,
    fields: Any = (),
    *,
    key: str | None = None,
    **headers: str,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, JSON and headers (lower case), of a request that no client library touched."""
    connection = http.client.HTTPConnection("127.0.0.1", stand_in.port, timeout=20)
    sent = {"Authorization": f"Bearer {key or stand_in.secret_key}"}
    sent |= {"Content-Type": "application/x-www-form-urlencoded"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    connection.request(method, path, body or None, sent)
    answer = connection.getresponse()
    shown = json.loads(answer.read())
    connection.close()
    return answer.status, shown, {name.lower(): value for name, value in answer.getheaders()}


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"foo": "1"}, "parameter_unknown", "foo"),
        ({"payment_method_types": ["card"]}, "parameter_unknown", "payment_method_types"),
        ({"shipping": {"name": "J", "address": {}, "door": 1}}, "parameter_unknown", "shipping[door]"),
        ({"amount": None}, "parameter_missing", "amount"),
        ({"currency": None}, "parameter_missing", "currency"),
        ({"shipping": {"name": "J"}}, "parameter_missing", "shipping[address]"),
        ({"shipping": {"address": {"line1": {"a": "b"}}, "name": "J"}}, None, "shipping[address][line1]"),
        ({"amount": "10.99"}, "parameter_invalid_integer", "amount"),
        ({"amount": "many"}, "parameter_invalid_integer", "amount"),
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": -100}, "parameter_invalid_integer", "amount"),
        ({"amount": 49}, "amount_too_small", "amount"),
        ({"amount": 100_000_000}, "amount_too_large", "amount"),
        ({"amount": 29, "currency": "gbp"}, "amount_too_small", "amount"),
        ({"currency": "doubloon"}, None, "currency"),
        ({"currency": ""}, "parameter_invalid_empty", "currency"),
        ({"capture_method": "later"}, None, "capture_method"),
        ({"confirm": "yes"}, None, "confirm"),
        ({"metadata": "x"}, None, "metadata"),
        ({"metadata": {"k" * 41: "v"}}, None, "metadata"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {str(n): "v" for n in range(51)}}, None, "metadata"),
        ({"expand": "latest_charge"}, None, "expand"),
        ({"expand": ["nothing"]}, None, "expand[0]"),
        ({"amount": {"value": 3}}, None, "amount"),
        ({"customer": "cus_none"}, "resource_missing", "customer"),
        ({"payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({"return_url": "https://shop.example"}, None, "return_url"),
        ({"off_session": True}, None, "off_session"),
    ],
)  # fmt: skip
def test_a_parameter_at_fault_is_refused_by_name(
    changes: dict[str, Any], code: str | None, param: str, shop: stripe.StripeClient, stand_in: StripeStandIn
) -> None:
    before = len(stand_in.ledger()["intents"])
    given: Any = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.payment_intents.create(given)
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, code, param)
    assert str(refused.value.request_id).startswith("req_")
    if param != "expand[0]":  # found out after the effect, at Stripe too
        assert len(stand_in.ledger()["intents"]) == before


def test_the_error_has_stripes_shape(stand_in: StripeStandIn) -> None:
    status, shown, headers = raw(stand_in, "POST", "/v1/payment_intents", {"amount": 1, "foo": 1})
    assert (status, headers["stripe-should-retry"]) == (400, "false")
    assert shown["error"] == {
        "code": "parameter_unknown",
        "doc_url": "https://stripe.com/docs/error-codes/parameter-unknown",
        "message": "Received unknown parameter: foo",
        "param": "foo",
        "request_log_url": f"https://dashboard.stripe.com/test/logs/{headers['request-id']}",
        "type": "invalid_request_error",
    }


def test_every_typed_parameter_of_every_route_is_understood() -> None:
    """All of the package's types compile, to the last nested one."""

    def walk(kind: params.Kind, seen: set[type]) -> None:
        for inner in (kind.items, kind.values):
            if inner is not None:
                walk(inner, seen)
        assert (
            kind.words
            or kind.text
            or kind.whole
            or kind.number
            or kind.flag
            or kind.items
            or kind.values
            or (kind.shapes or kind.unset)
        )
        for shape in kind.shapes:
            if shape not in seen:
                seen.add(shape)
                for field in params.schema(shape).fields.values():
                    walk(field, seen)

    for route in table().values():
        assert not route.schema.fields.keys() & params.OPTIONS
        for field in route.schema.fields.values():
            walk(field, set())


def test_brackets_nest() -> None:
    assert tree(pairs(b"a=1&b[c][0]=x&b[c][1]=y&d[]=p&d[]=q&e[%5Bf]=z")) == {
        "a": "1",
        "b": {"c": {"0": "x", "1": "y"}},
        "d": {"0": "p", "1": "q"},
        "e": {"[f": "z"},
    }
    for broken in (b"a[b=1", b"a]=1&a[b]c=1", b"[a]=1", b"a=1&a[b]=2", b"a=%ff", b"a" + b"[b]" * 20 + b"=1"):
        with pytest.raises(Fault):
            params.check(params.operation("refund_create"), tree(pairs(broken)))


def test_server_side_confirmation_wants_a_return_url_or_no_redirects(shop: stripe.StripeClient) -> None:
    whole: Any = {"amount": 500, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}
    with pytest.raises(stripe.InvalidRequestError, match="you must provide a `return_url`"):
        shop.v1.payment_intents.create(whole)
    whole["return_url"] = "https://shop.example"
    assert shop.v1.payment_intents.create(whole).status == "succeeded"
    del whole["payment_method"]
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        shop.v1.payment_intents.create(whole)


def test_routes_and_ids_that_are_not_there(stand_in: StripeStandIn, shop: stripe.StripeClient) -> None:
    status, shown, _ = raw(stand_in, "GET", "/v1/coupons/x")
    assert (status, shown["error"]["type"]) == (404, "invalid_request_error")
    assert shown["error"]["message"].startswith("Unrecognized request URL (GET: /v1/coupons/x)")
    assert raw(stand_in, "DELETE", "/v1/payment_intents/pi_1")[0] == 404
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        shop.v1.payment_intents.capture("pi_none")
    assert (unknown.value.http_status, unknown.value.code) == (404, "resource_missing")
    assert raw(stand_in, "POST", "/v1/refunds", b"{}", Content_Type="application/json")[0] == 400
    assert raw(stand_in, "POST", "/v1/refunds", b"amount=\xff\xfe")[0] == 400


def test_keys(stand_in: StripeStandIn, shop: stripe.StripeClient) -> None:
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key provided: sk_test_"):
        client_of(stand_in, "sk_test_somebodyelses0000").v1.balance.retrieve()
    with pytest.raises(stripe.AuthenticationError, match="publishable API key"):
        client_of(stand_in, stand_in.publishable_key).v1.balance.retrieve()
    assert raw(stand_in, "GET", "/v1/balance", Authorization="")[0] == 401
    intent = shop.v1.payment_intents.create(GOOD)  # type: ignore[arg-type]
    path, key = f"/v1/payment_intents/{intent.id}", stand_in.publishable_key
    assert raw(stand_in, "GET", path, key=key)[0] == 400
    assert raw(stand_in, "GET", f"{path}?client_secret=wrong", key=key)[0] == 404
    assert raw(stand_in, "GET", f"{path}?client_secret={intent.client_secret}", key=key)[0] == 200
    wrong = f"{intent.id}_secret_wrong"
    assert stand_in.pay(wrong)[0] == 404


def test_the_same_key_replays_the_first_answer(stand_in: StripeStandIn) -> None:
    fields = {"amount": 1099, "currency": "usd", "metadata[order]": "1"}
    first = raw(stand_in, "POST", "/v1/payment_intents", fields, Idempotency_Key="replay-1")
    swapped = dict(reversed(fields.items()))
    again = raw(stand_in, "POST", "/v1/payment_intents", swapped, Idempotency_Key="replay-1")
    assert (again[0], again[1]) == (first[0], first[1])
    assert "idempotent-replayed" not in first[2]
    assert again[2]["idempotent-replayed"] == "true"
    assert again[2]["original-request"] == first[2]["request-id"] != again[2]["request-id"]
    other = raw(stand_in, "POST", "/v1/payment_intents", fields | {"amount": 1100}, Idempotency_Key="replay-1")
    assert (other[0], other[1]["error"]["type"]) == (400, "idempotency_error")
    elsewhere = raw(stand_in, "POST", "/v1/refunds", {"payment_intent": "pi_1"}, Idempotency_Key="replay-1")
    assert (elsewhere[0], elsewhere[1]["error"]["type"]) == (400, "idempotency_error")
    assert raw(stand_in, "GET", "/v1/balance", Idempotency_Key="replay-1")[0] == 200, "only a POST has one"


def test_a_decline_is_replayed_and_a_refused_parameter_is_not(
    pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn
) -> None:
    fields = urlencode({"amount": 1099, "currency": "usd", "payment_method": "pm_card_chargeDeclined"})
    fields += "&confirm=true&return_url=https://shop.example"
    first = raw(stand_in, "POST", "/v1/payment_intents", fields.encode(), Idempotency_Key="decline-1")
    again = raw(stand_in, "POST", "/v1/payment_intents", fields.encode(), Idempotency_Key="decline-1")
    assert (first[0], again[0], again[1]) == (402, 402, first[1])
    assert again[2]["idempotent-replayed"] == "true"

    bad, good = {"amount": "x", "currency": "usd"}, {"amount": 500, "currency": "usd"}
    assert raw(stand_in, "POST", "/v1/payment_intents", bad, Idempotency_Key="fresh-1")[0] == 400
    status, _, headers = raw(stand_in, "POST", "/v1/payment_intents", good, Idempotency_Key="fresh-1")
    assert (status, "idempotent-replayed" in headers) == (200, False)

    intent = pay(capture_method="automatic")
    for replayed in (False, True):
        status, shown, headers = raw(
            stand_in, "POST", f"/v1/payment_intents/{intent.id}/cancel", Idempotency_Key="cancel-1"
        )
        assert (status, shown["error"]["code"]) == (400, "payment_intent_unexpected_state")
        assert ("idempotent-replayed" in headers) is replayed


def test_a_key_is_kept_for_a_day() -> None:
    store = Store(None)
    keys, answer = Keys(store), Answer("/v1/refunds", digest([("a", "1")]), 1000, 200, b"{}", "req_1")
    assert keys.begin("k", "/v1/refunds", answer.digest, 1000) is None
    keys.keep("k", answer)
    keys.end("k")
    assert keys.begin("k", "/v1/refunds", answer.digest, 1000 + KEPT_SECONDS - 1) == answer
    assert keys.begin("k", "/v1/refunds", digest([("a", "2")]), 1000 + KEPT_SECONDS) is None


def test_two_requests_at_once_with_one_key(stand_in: StripeStandIn) -> None:
    stand_in.chaos(answer_delay_ms=[300, 300])
    fields, answers = {"amount": 777, "currency": "usd"}, []

    def send() -> None:
        answers.append(raw(stand_in, "POST", "/v1/payment_intents", fields, Idempotency_Key="at-once"))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _, _ in answers) == [200, 409, 409]
    refused = next(shown for status, shown, _ in answers if status == 409)
    assert refused["error"]["code"] == "idempotency_key_in_use"
    made = [row for row in stand_in.ledger()["intents"] if row["amount"] == 777]
    assert len(made) == 1


def test_answers_have_the_shape_of_stripes_published_samples(pay: Pay, shop: stripe.StripeClient) -> None:
    intent = pay("pm_card_createDispute", capture_method="automatic")
    shown: dict[str, Any] = {
        "payment_intent": shop.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]}),
        "charge": shop.v1.charges.retrieve(str(intent.latest_charge), {"expand": ["refunds"]}),
        "payment_method": shop.v1.payment_methods.retrieve(str(intent.payment_method)),
        "dispute": shop.v1.disputes.list({"payment_intent": intent.id}).data[0],
        "customer": shop.v1.customers.create({"email": "a@example.com", "metadata": {"k": "v"}}),
        "event": shop.v1.events.list({"limit": 1}).data[0],
        "refund": shop.v1.refunds.create({"payment_intent": pay(capture_method="automatic").id}),
    }
    for kind, answer in shown.items():
        assert answer.to_dict().keys() == _SAMPLES[kind].keys(), kind
        assert answer.id.startswith(_SAMPLES[kind]["id"].partition("_")[0] + "_")
