"""What goes wrong on request, and what survives the stand-in's own death."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import stripe

from sandbox.failure import ServerError
from sandbox.stripe.process import StripeStandIn
from tests.sandbox.conftest import Inbox, Pay, client_of
from tests.sandbox.test_stripe_strictness import GOOD, raw


def test_webhooks_are_duplicated_shuffled_and_delayed(
    shop: stripe.StripeClient, pay: Pay, inbox: Inbox, stand_in: StripeStandIn
) -> None:
    stand_in.chaos(seed=7, webhook_duplicate_ratio=0.5, webhook_shuffle_window=10, webhook_delay_ms=[0, 30])
    for _ in range(20):
        pay()
    stand_in.wait_delivered()
    copies = Counter(event["id"] for event in inbox.events)
    assert len(copies) == 60
    assert set(copies.values()) == {1, 2}
    assert 10 < sum(count == 2 for count in copies.values()) < 50
    recorded = [event.id for event in reversed(shop.v1.events.list({"limit": 60}).data)]
    assert sorted(recorded) == sorted(copies)
    assert recorded != list(dict.fromkeys(event["id"] for event in inbox.events))


def test_dropped_webhooks_are_kept_and_can_be_sent_later(pay: Pay, inbox: Inbox, stand_in: StripeStandIn) -> None:
    before = stand_in.webhooks()["events"].get("dropped", 0)
    stand_in.chaos(webhook_drop_ratio=1.0)
    intent = pay()
    assert stand_in.wait_delivered()["events"]["dropped"] == before + 3
    assert inbox.arrived == []
    assert stand_in.resend() == before + 3
    inbox.wait(before + 3)
    assert len(inbox.types(intent.id)) == 3


def test_the_same_seed_drops_the_same(pay: Pay, inbox: Inbox, stand_in: StripeStandIn) -> None:
    seen = []
    for _ in range(2):
        inbox.arrived.clear()
        stand_in.chaos(seed=3, webhook_drop_ratio=0.5)
        for _ in range(4):
            pay()
        stand_in.wait_delivered()
        seen.append(Counter(inbox.types()))
    assert seen[0] == seen[1]
    assert 0 < seen[0].total() < 12


@pytest.mark.parametrize("how", ["decline_next", "require_3ds_next"])
def test_the_next_charges_go_otherwise(how: str, pay: Pay, stand_in: StripeStandIn) -> None:
    stand_in.chaos(**{how: 2}, decline_code="insufficient_funds")
    for _ in range(2):
        if how == "decline_next":
            with pytest.raises(stripe.CardError) as declined:
                pay()
            assert declined.value.error is not None
            assert declined.value.error.decline_code == "insufficient_funds"
        else:
            assert pay().status == "requires_action"
    assert pay().status == "requires_capture"


def test_a_failure_before_the_effect_leaves_the_key_free(stand_in: StripeStandIn) -> None:
    fields = {"amount": 1234, "currency": "usd"}
    stand_in.chaos(fail_before_ratio=1.0)
    status, shown, headers = raw(stand_in, "POST", "/v1/payment_intents", fields, Idempotency_Key="before")
    assert (status, shown["error"]["type"], headers["stripe-should-retry"]) == (500, "api_error", "true")
    stand_in.calm()
    status, _, headers = raw(stand_in, "POST", "/v1/payment_intents", fields, Idempotency_Key="before")
    assert (status, "idempotent-replayed" in headers) == (200, False)


@pytest.mark.parametrize("how", ["fail_after_ratio", "lost_reply_ratio"])
def test_a_lost_answer_is_found_again_with_its_key(
    how: str, pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn
) -> None:
    intent = pay()
    stand_in.chaos(**{how: 1.0})
    with pytest.raises((stripe.APIError, stripe.APIConnectionError)):
        shop.v1.payment_intents.capture(intent.id, {}, {"idempotency_key": how})
    stand_in.calm()
    assert shop.v1.payment_intents.retrieve(intent.id).status == "succeeded"
    again = shop.v1.payment_intents.capture(intent.id, {}, {"idempotency_key": how})
    assert again.status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.payment_intents.capture(intent.id, {}, {"idempotency_key": f"{how}-another"})


def test_a_sticky_failure_is_repeated_for_good(pay: Pay, shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    intent = pay()
    stand_in.chaos(sticky_fail_ratio=1.0)
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            shop.v1.payment_intents.capture(intent.id, {}, {"idempotency_key": "sticky"})
        stand_in.calm()
    assert shop.v1.payment_intents.retrieve(intent.id).status == "succeeded"


def test_stripe_is_down(shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    stand_in.chaos(down="closed")
    with pytest.raises(stripe.APIConnectionError):
        shop.v1.balance.retrieve()
    stand_in.chaos(down="unavailable")
    with pytest.raises(stripe.APIError) as away:
        shop.v1.balance.retrieve()
    assert away.value.http_status == 503
    stand_in.chaos(down=None)
    assert shop.v1.balance.retrieve().object == "balance"


def test_the_rate_limit(shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    stand_in.chaos(rate_limit_per_second=1)
    answers = [raw(stand_in, "GET", "/v1/balance") for _ in range(25)]
    assert {status for status, _, _ in answers} == {200, 429}
    refused = next((shown, headers) for status, shown, headers in answers if status == 429)
    assert refused[0]["error"]["code"] == "rate_limit"
    assert refused[1]["stripe-rate-limited-reason"] == "global-rate"
    with pytest.raises(stripe.RateLimitError):
        shop.v1.balance.retrieve()


def test_answers_come_late(shop: stripe.StripeClient, stand_in: StripeStandIn) -> None:
    stand_in.chaos(answer_delay_ms=[150, 200])
    start = time.monotonic()
    shop.v1.balance.retrieve()
    assert time.monotonic() - start > 0.14


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "chaos", {"webhook_drop_ratio": 2}, 400),
        ("POST", "chaos", {"explode": True}, 400),
        ("POST", "chaos", {"answer_delay_ms": [5, 1]}, 400),
        ("POST", "webhook_target", {"url": "ftp://x"}, 400),
        ("POST", "intents/pi_none/lapse", {}, 404),
        ("GET", "nothing", None, 404),
    ],
)
def test_a_control_that_makes_no_sense_says_so(
    method: str, path: str, body: Any, status: int, stand_in: StripeStandIn
) -> None:
    with pytest.raises(RuntimeError, match=f": {status} "):
        stand_in.control(method, path, body)


def test_killed_and_started_again_it_knows_everything(tmp_path: Path) -> None:
    stand_in = StripeStandIn(tmp_path).start()
    box = Inbox()
    try:
        shop = client_of(stand_in)
        stand_in.aim("http://127.0.0.1:9/nobody")
        intent = shop.v1.payment_intents.create(
            GOOD | {"capture_method": "manual"},  # type: ignore[arg-type]
            {"idempotency_key": "kept"},
        )
        assert stand_in.pay(intent.client_secret or "")[0] == 200
        port, secret, books = stand_in.port, stand_in.secret_key, stand_in.ledger()
        stand_in.webhook_url = box.url
        stand_in.restart()
        assert (stand_in.port, stand_in.ledger()) == (port, books)
        assert {event["id"] for event in box.wait(3)} == {event.id for event in shop.v1.events.list().data}
        again = shop.v1.payment_intents.create(
            GOOD | {"capture_method": "manual"},  # type: ignore[arg-type]
            {"idempotency_key": "kept"},
        )
        assert again.id == intent.id
        assert shop.v1.payment_intents.capture(intent.id).status == "succeeded"
        with pytest.raises(ServerError, match="another stand-in"):
            StripeStandIn(tmp_path).start()
        process = stand_in._process
        stand_in.stop()
        assert process is not None
        assert process.returncode == 0
        assert StripeStandIn(tmp_path).secret_key == secret
    finally:
        stand_in.kill()
        box.close()


def test_it_ends_with_its_parent() -> None:
    code = (
        "import time; from sandbox.stripe.process import StripeStandIn as S; "
        "print(S().start().pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 30
    while _lives(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
