"""The inbox: only what is signed, once, handled after it is stored; any order, any number of times."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import DataError
from stripe import WebhookSignature

from engine import ids
from payments import inbox
from payments.inbox import read, store
from persistence.refusals import Refusal
from tests.payments.shop import Shop


def event(kind: str = "payment_intent.created", **shown: Any) -> dict[str, Any]:
    return {"id": f"evt_{ids.new_token()}", "object": "event", "type": kind, "data": {"object": shown}}


def intent_event(kind: str, intent: str, order: str, **more: Any) -> dict[str, Any]:
    shown = {
        "id": intent,
        "object": "payment_intent",
        "amount": 12_900,
        "currency": "usd",
        "metadata": {"order_id": order},
    }
    return event(f"payment_intent.{kind}", **(shown | more))


def put(shop: Shop, body: dict[str, Any] | bytes, header: str | None = None) -> bool:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return bool(keep(shop, (raw, header or sign(shop, raw)))[0])


def keep(shop: Shop, *arrived: tuple[bytes, str | None]) -> list[bool | Exception]:
    secret = shop.ctx.settings.stripe_webhook_secret
    return store(shop.ctx, [read(raw, header, secret) for raw, header in arrived])


def sign(shop: Shop, raw: bytes, at: float = 0) -> str:
    secret = shop.ctx.settings.stripe_webhook_secret
    return str(WebhookSignature.generate_signature_header(raw.decode(), secret, int(time.time() + at)))


def test_an_event_is_stored_once(shop: Shop) -> None:
    one = event()
    assert put(shop, one) is True
    assert put(shop, one) is False
    assert shop.rows("SELECT type, status, reason FROM webhook_events") == [("payment_intent.created", "ignored", None)]


def test_a_set_of_events_is_stored_each_once(shop: Shop) -> None:
    known, one, another = (json.dumps(event()).encode() for _ in range(3))
    put(shop, known)
    signed = [(raw, sign(shop, raw)) for raw in (one, known, another, one)]
    assert keep(shop, *signed) == [True, False, True, False]
    assert shop.rows("SELECT count(*) FROM webhook_events") == [(3,)]


def test_an_event_that_cannot_be_kept_leaves_the_others_of_its_set(shop: Shop) -> None:
    secret = shop.ctx.settings.stripe_webhook_secret
    good = [read(raw, sign(shop, raw), secret) for raw in (json.dumps(event()).encode() for _ in range(2))]
    first, odd, last = store(shop.ctx, [good[0], good[0]._replace(id="evt_odd", payload="{"), good[1]])
    assert (first, last) == (True, True)
    assert isinstance(odd, DataError)
    assert shop.rows("SELECT count(*) FROM webhook_events") == [(2,)]


def test_workers_are_woken_for_what_they_handle(shop: Shop) -> None:
    woken: list[str] = []
    shop.ctx = replace(shop.ctx, wake=lambda: woken.append("once"))
    seen = event("payment_intent.succeeded")
    for body in (event(), seen, seen):
        put(shop, body)
    assert woken == ["once"]


@pytest.mark.parametrize("at", [-301, 301])
def test_a_signature_of_another_time_is_refused(shop: Shop, at: int) -> None:
    raw = json.dumps(event()).encode()
    with pytest.raises(Refusal) as refused:
        put(shop, raw, sign(shop, raw, at))
    assert (refused.value.code, refused.value.status) == ("invalid_signature", 400)
    assert shop.rows("SELECT id FROM webhook_events") == []


def forged(shop: Shop) -> list[tuple[bytes, str | None]]:
    raw = json.dumps(event()).encode()
    good = sign(shop, raw)
    other = str(WebhookSignature.generate_signature_header(raw.decode(), "whsec_other", int(time.time())))
    return [
        (raw, None),
        (raw, ""),
        (raw, "nonsense"),
        (raw, other),
        (raw + b" ", good),
        (raw, good.replace("v1=", "v0=")),
        (raw, good + ",t=1"),
        (raw, good.replace("v1=", "v1=\u00e9")),
        (raw, "t=," + good.partition(",")[2]),
        (raw, "t=99999999999999999999," + good.partition(",")[2]),
        (b"\xff\xfe" + raw, good),
        (raw, good + "," * 5000),
    ]


@pytest.mark.parametrize("number", range(12))
def test_a_forged_signature_is_refused_and_stores_nothing(shop: Shop, number: int) -> None:
    body, header = forged(shop)[number]
    with pytest.raises(Refusal) as refused:
        keep(shop, (body, header))
    assert refused.value.code == "invalid_signature"
    assert shop.rows("SELECT id FROM webhook_events") == []


def test_one_good_signature_among_several_is_enough(shop: Shop) -> None:
    raw = json.dumps(event()).encode()
    time_part, _, good = sign(shop, raw).partition(",")
    assert put(shop, raw, f"{time_part},v1={'0' * 64},{good},v0=x")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'"x"',
        b'{"id":"e","type":"t"}',
        b'{"id":1,"type":"t","data":{"object":{}}}',
        b"[" * 99_999,
        b'{"id":"e","type":"charge.refunded","data":{"object":{}},"da\\u0000ta":5}',
        b'{"id":"e","type":"charge.refunded","data":{"object":%b}}' % (b'{"a":' * 900 + b"1" + b"}" * 900),
        b'{"id":"%b","type":"t","data":{"object":{}}}' % b"".join(b"%05d" % number for number in range(9_000)),
    ],
    ids=range(10),
)
def test_what_is_signed_and_no_event_is_refused(shop: Shop, raw: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        put(shop, raw)
    assert (refused.value.code, refused.value.status) == ("validation_error", 400)
    assert shop.rows("SELECT id FROM webhook_events") == []


def test_what_no_column_can_hold_is_left_out(shop: Shop) -> None:
    assert put(shop, event(description="a\0b"))
    assert shop.rows("SELECT payload->'data'->'object'->>'description' FROM webhook_events") == [("ab",)]


def test_what_only_looks_like_nul_is_kept(shop: Shop) -> None:
    assert put(shop, event(description="a\\u0000"))
    assert shop.rows("SELECT payload->'data'->'object'->>'description' FROM webhook_events") == [("a\\u0000",)]


def test_an_event_before_its_order_waits_for_it(shop: Shop) -> None:
    hold_id = shop.hold()
    order_id = ids.order_id(shop.sale, hold_id[-20:])
    put(shop, intent_event("amount_capturable_updated", "pi_early", order_id, status="requires_capture"))
    shop.round()
    assert shop.events()[0][1] == "pending_order"
    shop.stripe.aim(None)
    order = shop.order(hold_id)
    shop.confirm(order)
    shop.execute("UPDATE webhook_events SET intent_id = :pi", pi=order["payment"]["intent_id"])
    inbox.replay(shop.ctx, shop.pool, pending_only=True)
    shop.drain()
    assert shop.shown(order["id"])["status"] == "paid"
    assert shop.events()[0][1] == "handled"


def test_an_event_of_nobodys_order_is_given_up_after_three_days(shop: Shop) -> None:
    put(shop, intent_event("succeeded", "pi_unknown", ids.order_id(shop.sale, "A" * 20)))
    shop.round()
    shop.execute("UPDATE webhook_events SET received_at = now() - interval '73 hours'")
    shop.round()
    assert shop.events()[0][1] == "parked"


@pytest.mark.parametrize("wrong", [{"amount": 1}, {"currency": "eur"}])
def test_an_event_of_another_amount_is_parked_and_never_settled(shop: Shop, wrong: dict[str, Any]) -> None:
    order = shop.order()
    intent = order["payment"]["intent_id"]
    put(shop, intent_event("amount_capturable_updated", intent, order["id"], status="requires_capture", **wrong))
    shop.round()
    [(_, status, reason)] = shop.events()
    assert status == "parked"
    assert "12900 usd" in reason
    assert shop.shown(order["id"])["status"] == "pending_payment"


def test_an_intent_of_another_amount_is_parked_and_its_money_goes_back(shop: Shop) -> None:
    order = shop.order()
    shop.execute("UPDATE orders SET total = 500 WHERE id = :id", id=order["id"])
    shop.drain()
    shop.confirm(order)
    shop.work(2)
    assert [status for kind, status, _ in shop.events() if kind == "payment_intent.amount_capturable_updated"] == [
        "parked"
    ]
    assert shop.shown(order["id"])["status"] == "pending_payment"
    shop.pass_ms(61_000)
    shop.work()
    assert shop.shown(order["id"])["status"] == "cancelled"
    assert shop.books(order["payment"]["intent_id"])["waiting"] == 0
    assert shop.stock() == (10, 0, 0)


def test_a_captured_intent_of_another_amount_is_refunded(shop: Shop) -> None:
    object.__setattr__(shop.ctx.settings, "capture_method", "automatic")
    order = shop.order()
    shop.execute("UPDATE orders SET total = 500 WHERE id = :id", id=order["id"])
    shop.execute("UPDATE payments SET amount = 500 WHERE order_id = :id", id=order["id"])
    shop.drain()
    shop.confirm(order)
    shop.work(2)
    shop.pass_ms(61_000)
    shop.work()
    assert shop.shown(order["id"])["status"] == "cancelled"
    assert shop.books(order["payment"]["intent_id"])["net"] == 0


def test_a_second_intent_of_an_order_is_given_back(shop: Shop) -> None:
    order = shop.order()
    [(parameters,)] = shop.rows("SELECT parameters FROM attempts")
    second = shop.ctx.provider.create_intent(
        parameters | {"payment_method": "pm_card_visa", "confirm": True}, "by-another-process"
    )
    shop.work()
    assert shop.books(second.id)["voided"] == 12_900
    shop.confirm(order)
    shop.work()
    assert shop.shown(order["id"])["status"] == "paid"
    shop.check()


def test_poison_is_parked_with_its_reason(shop: Shop) -> None:
    def broken(step: str) -> None:
        if step == "intent read":
            raise TypeError("a defect of ours")

    shop.confirm(shop.order(), "pm_card_chargeDeclined")
    shop.stripe.wait_delivered()
    shop.execute("UPDATE payments SET status = 'requires_action'")  # so that the intent is read
    well, shop.ctx = shop.ctx, replace(shop.ctx, checkpoint=broken)
    for _ in range(inbox.POISON_TRIES_MAX):
        shop.round()
    assert shop.events() == [("payment_intent.payment_failed", "parked", "TypeError: a defect of ours")]
    shop.ctx = well
    inbox.replay(shop.ctx, shop.pool)
    assert [status for _, status, _ in shop.events()] == ["handled"]


def test_everything_replayed_changes_nothing(shop: Shop) -> None:
    order = shop.bought(sneaker=2)
    shop.refund(order["id"], lines={"sneaker": 1}, restock=True)
    shop.cancel(shop.order()["id"])
    shop.work()
    orders = shop.rows("SELECT * FROM orders"), shop.rows("SELECT order_id, status, captured, refunded FROM payments")
    assert inbox.replay(shop.ctx, shop.pool) > 3
    shop.work()
    assert orders == (
        shop.rows("SELECT * FROM orders"), shop.rows("SELECT order_id, status, captured, refunded FROM payments")
    )  # fmt: skip
    assert shop.rows("SELECT id FROM webhook_events WHERE status NOT IN ('handled', 'ignored')") == []
    shop.check()


def test_disputes_are_kept(shop: Shop) -> None:
    order = shop.bought()
    shop.stripe.dispute(order["intent"], "product_not_received")
    shop.work()
    assert shop.rows("SELECT order_id, amount, reason, status FROM disputes") == [
        (order["id"], 12_900, "product_not_received", "needs_response")
    ]
