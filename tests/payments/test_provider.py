"""The way to the provider: limited, patient where that is safe, light, and without a secret in what it says."""

import io
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine import ids
from payments.provider import Declined, Provider, ProviderRefused, ProviderUnavailable
from payments.transport import Limiter, Transport
from sandbox.stripe.process import StripeStandIn

PLAIN: dict[str, Any] = {
    "amount": 12_900,
    "currency": "usd",
    "capture_method": "manual",
    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
}


@pytest.fixture
def provider(stand_in: StripeStandIn) -> Any:
    stand_in.aim(None)
    provider = Provider(stand_in.secret_key, api_base=stand_in.base_url, max_per_second=1000, timeout_seconds=3)
    yield provider
    stand_in.calm()
    provider.close()


def create(provider: Provider, card: str | None = None, key: str = "") -> Any:
    confirmed = {"payment_method": card, "confirm": True} if card else {}
    return provider.create_intent(PLAIN | confirmed, key or ids.new_token())


def test_an_intent_from_its_creation_to_its_refund(provider: Provider) -> None:
    intent = create(provider, "pm_card_visa")
    assert (intent.status, intent.amount_capturable, intent.authorised) == ("requires_capture", 12_900, True)
    assert provider.capture_intent(intent.id, ids.new_token()).amount_received == 12_900
    refund = provider.create_refund({"payment_intent": intent.id, "amount": 900}, ids.new_token())
    assert (refund.status, refund.amount, refund.payment_intent) == ("succeeded", 900, intent.id)
    assert provider.list_refunds(intent.id) == [refund]
    assert provider.retrieve_intent(intent.id, with_charge=True).amount_refunded == 900
    assert intent.id in [each.id for each in provider.list_intents(int(time.time()) - 60)]


def test_a_decline_carries_its_code_and_its_intent(provider: Provider) -> None:
    with pytest.raises(Declined) as declined:
        create(provider, "pm_card_chargeDeclinedLostCard")
    assert declined.value.decline_code == "lost_card"
    assert declined.value.intent
    assert declined.value.intent.status == "requires_payment_method"
    assert provider.counters.read()["declined"] == 1


def test_a_refusal_carries_its_code_and_the_intent_as_it_is(provider: Provider) -> None:
    intent = create(provider)
    provider.cancel_intent(intent.id, ids.new_token())
    with pytest.raises(ProviderRefused) as refused:
        provider.capture_intent(intent.id, ids.new_token())
    assert refused.value.code == "payment_intent_unexpected_state"
    assert refused.value.intent
    assert refused.value.intent.status == "canceled"


@pytest.mark.parametrize(
    "chaos",
    [{"fail_before_ratio": 0.4}, {"fail_after_ratio": 0.4}, {"lost_reply_ratio": 0.4}, {"rate_limit_per_second": 5}],
)
def test_one_key_is_one_intent_whatever_fails(
    provider: Provider, stand_in: StripeStandIn, chaos: dict[str, Any]
) -> None:
    stand_in.chaos(seed=7, **chaos)
    key, made = ids.new_token(), set()
    for _ in range(8):
        try:
            made.add(create(provider, "pm_card_visa", key).id)
        except ProviderUnavailable:
            continue
    assert len(made) == 1


def test_being_too_fast_is_waited_out_and_counted(provider: Provider, stand_in: StripeStandIn) -> None:
    stand_in.chaos(rate_limit_per_second=30)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create(provider), range(60)))
    assert len({intent.id for intent in made}) == 60
    assert provider.counters.read()["too_fast"] > 0
    assert provider.counters.read()["unavailable"] == 0


def test_a_silent_provider_is_known_to_be_silent(provider: Provider, stand_in: StripeStandIn) -> None:
    stand_in.chaos(down="closed")
    with pytest.raises(ProviderUnavailable) as silence:
        create(provider)
    assert silence.value.retry_after >= 1
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        create(provider)
    assert time.monotonic() - began < 1.5, "four tries would have taken two seconds"
    stand_in.calm()
    assert create(provider).id


def test_an_answer_that_does_not_come_ends_with_the_deadline(provider: Provider, stand_in: StripeStandIn) -> None:
    stand_in.chaos(answer_delay_ms=[10_000, 10_000])
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        create(provider)
    assert time.monotonic() - began < 8


def test_a_failure_that_its_key_repeats_is_told_apart(provider: Provider, stand_in: StripeStandIn) -> None:
    stand_in.chaos(sticky_fail_ratio=1.0)
    with pytest.raises(ProviderUnavailable) as silence:
        create(provider)
    assert silence.value.stuck


def test_no_secret_in_what_is_said(
    provider: Provider, stand_in: StripeStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    intent = create(provider)
    assert intent.client_secret
    for call in (
        lambda: create(provider, "pm_card_chargeDeclined"),
        lambda: provider.capture_intent(intent.id, ids.new_token()),
        lambda: Provider("sk_test_anotherkeyofsomebody", api_base=stand_in.base_url).retrieve_intent(intent.id),
    ):
        with pytest.raises(Exception) as raised:
            call()
        said.append(repr(raised.value) + str(raised.value) + repr(getattr(raised.value, "intent", "")))
    text = "".join([*said, caplog.text, repr(intent)])
    for secret in (stand_in.secret_key, "anotherkey", "_secret_"):
        assert secret not in text


def test_connections_are_kept(provider: Provider) -> None:
    for _ in range(5):
        create(provider)
    assert provider._transport._idle.qsize() == 1


def test_a_connection_that_was_closed_while_it_rested_is_replaced(provider: Provider, stand_in: StripeStandIn) -> None:
    create(provider)
    stand_in.restart()
    assert create(provider).id


def test_the_limiter_spreads_calls() -> None:
    limiter = Limiter(100)
    waits = [limiter.reserve(10) for _ in range(70)]
    assert waits[0] == 0
    assert waits[69] == pytest.approx(0.49, abs=0.05)
    assert limiter.reserve(0.1) is None


class Wire:
    """A socket that keeps what is sent, write by write, and answers with an empty object."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.writes.append(data)

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    def settimeout(self, _: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_leaves_in_one_write(scheme: str) -> None:
    transport, wire = Transport(f"{scheme}://provider.test"), Wire()
    connection = transport._new_connection(1)
    connection.sock = wire
    transport._idle.put((connection, time.monotonic()))
    transport.answer_by(time.monotonic() + 1)
    for number in range(2):
        body, status, _ = transport.request("post", f"{scheme}://provider.test/v1/x", {"a": "b"}, f"amount={number}")
        assert (status, body) == (200, "{}")
    assert [write.partition(b"\r\n\r\n")[2] for write in wire.writes] == [b"amount=0", b"amount=1"]
    transport.close()
