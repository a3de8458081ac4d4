"""The payment provider: the calls to Stripe that this project makes, each within a deadline, again where that is
safe.
"""

import logging
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
import stripe

from engine import tracing
from engine.settings import Settings
from payments.transport import Limiter, Transport

STRIPE: Final = "https://api.stripe.com"
AUTHORISED: Final = frozenset({"requires_capture", "succeeded"})
"""An intent's statuses that stand for money."""
_PAUSE_MAX_SECONDS = 3.0
_SILENT_TRIES_MAX = 4
"""Tries of a call that gets no answer or a 5xx: some two seconds, for somebody waits. Being too fast (429) is
waited out.
"""
_SILENT_SECONDS = 10
_ID: Final = re.compile(r"(?<=/)(?:pi|re)_[^/]+")
_RETRY_AFTER_SECONDS = 5


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A PaymentIntent, as far as it matters here. Amounts in minor units; ``error_code`` and ``decline_code`` are
    of the last attempt.
    """

    id: str
    status: str
    amount: int
    currency: str
    amount_capturable: int = 0
    amount_received: int = 0
    client_secret: str | None = None
    metadata: dict[str, str] = {}
    error_code: str | None = None
    decline_code: str | None = None
    amount_refunded: int = 0
    """Of the money received; only where the charge was asked for too."""
    created: int = 0

    def __repr__(self) -> str:  # without the secret: errors and logs show it
        return f"Intent({self.id}, {self.status}, {self.amount} {self.currency})"

    @property
    def authorised(self) -> bool:
        return self.status in AUTHORISED


class ProviderRefund(msgspec.Struct, frozen=True, kw_only=True):
    """A Refund at Stripe: ``status`` is pending, requires_action, succeeded, failed or canceled."""

    id: str
    amount: int
    currency: str
    status: str
    payment_intent: str | None = None
    metadata: dict[str, str] = {}
    reason: str | None = None
    failure_reason: str | None = None


class ProviderError(Exception):
    """Something other than an answer. Messages carry no secret."""


class Declined(ProviderError):
    """The bank said no. ``intent`` is there where the provider made or kept one; it wants another card."""

    def __init__(self, code: str, decline_code: str | None, intent: Intent | None) -> None:
        super().__init__(f"declined: {decline_code or code}")
        self.code = code
        self.decline_code = decline_code or code
        self.intent = intent


class ProviderUnavailable(ProviderError):
    """No answer in time. The call may or may not have happened; the same call again is safe. ``stuck``: the provider
    repeats a failure for this key, so only a look at what is there, or another key, leads on.
    """

    def __init__(self, why: str, retry_after: int = _RETRY_AFTER_SECONDS, *, stuck: bool = False) -> None:
        super().__init__(f"the payment provider does not answer ({why})")
        self.retry_after = retry_after
        self.stuck = stuck


class KeyRefused(ProviderUnavailable):
    """The provider refuses our key: ours to mend, and nothing has happened."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it refuses our key, HTTP {status}", 30)


class WebhookEndpoint(msgspec.Struct, frozen=True):
    """Where Stripe sends events; ``status`` is enabled or disabled, ``enabled_events`` may be ``["*"]``."""

    url: str
    status: str
    enabled_events: list[str]


class ProviderRefused(ProviderError):
    """The provider understood and will not do it. ``intent`` is its state where the answer carried it."""

    def __init__(self, code: str, message: str, param: str | None, intent: Intent | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.param = param
        self.intent = intent


class Counters:
    """What happened on the way to Stripe, for /metrics: calls, retries, too_fast (429), declined, refused, unavailable,
    and limited (calls that waited for their turn). Safe to use from any thread.
    """

    NAMES: Final = ("calls", "limited", "retries", "too_fast", "declined", "refused", "unavailable")

    def __init__(self, on_count: Callable[[str], None] | None = None) -> None:
        """``on_count`` is called with each name that is counted, from any thread."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._on_count = on_count

    def count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1
        if self._on_count is not None:
            self._on_count(name)

    def read(self) -> dict[str, int]:
        with self._lock:
            return {name: self._counts[name] for name in self.NAMES}


class Provider:
    """Stripe under one secret key. Safe to use from any thread; connections are kept and shared."""

    def __init__(
        self,
        secret_key: str,
        *,
        api_base: str = "",
        max_per_second: int = 80,
        timeout_seconds: float = 20,
        first_pause_seconds: float = 0.2,
        on_count: Callable[[str], None] | None = None,
    ) -> None:
        base = (api_base or STRIPE).rstrip("/")
        # At its debug level the package logs bodies, and with them client secrets.
        logging.getLogger("stripe").setLevel(logging.WARNING)
        self._transport = Transport(base)
        self._host = urlsplit(base).hostname
        self._client = stripe.StripeClient(
            secret_key, base_addresses={"api": base}, max_network_retries=0, http_client=self._transport
        )
        self._limiter = Limiter(max_per_second)
        self._timeout_seconds = timeout_seconds
        self._first_pause_seconds = first_pause_seconds
        self._silent_since: float | None = None
        self.counters = Counters(on_count)

    @classmethod
    def from_settings(cls, settings: Settings, on_count: Callable[[str], None] | None = None) -> Self:
        return cls(
            settings.stripe_secret_key,
            api_base=settings.stripe_api_base,
            max_per_second=settings.stripe_max_per_second,
            timeout_seconds=settings.stripe_timeout_seconds,
            on_count=on_count,
        )

    def close(self) -> None:
        self._transport.close()

    def create_intent(self, parameters: Mapping[str, Any], key: str) -> Intent:
        """Raises ``Declined`` where ``confirm`` was asked for and the card was refused; its intent is there anyway."""
        return read_intent(self._call("post", "/v1/payment_intents", parameters, key))

    def retrieve_intent(self, intent_id: str, *, with_charge: bool = False) -> Intent:
        parameters = {"expand": ["latest_charge"]} if with_charge else None
        return read_intent(self._call("get", f"/v1/payment_intents/{intent_id}", parameters))

    def confirm_intent(self, intent_id: str, parameters: Mapping[str, Any], key: str) -> Intent:
        return read_intent(self._call("post", f"/v1/payment_intents/{intent_id}/confirm", parameters, key))

    def capture_intent(self, intent_id: str, key: str) -> Intent:
        return read_intent(self._call("post", f"/v1/payment_intents/{intent_id}/capture", {}, key))

    def cancel_intent(self, intent_id: str, key: str, reason: str = "abandoned") -> Intent:
        """Cancels it; an authorised one is voided by that. Raises ``ProviderRefused`` where it is past that."""
        parameters = {"cancellation_reason": reason}
        return read_intent(self._call("post", f"/v1/payment_intents/{intent_id}/cancel", parameters, key))

    def create_refund(self, parameters: Mapping[str, Any], key: str) -> ProviderRefund:
        return msgspec.convert(self._call("post", "/v1/refunds", parameters, key), ProviderRefund)

    def retrieve_refund(self, refund_id: str) -> ProviderRefund:
        return msgspec.convert(self._call("get", f"/v1/refunds/{refund_id}"), ProviderRefund)

    def list_intents(self, created_since: int) -> Iterator[Intent]:
        """Every intent since a Unix time with its charge, newest first, a page of 100 a call."""
        parameters = {"created": {"gte": created_since}, "expand": ["data.latest_charge"]}
        yield from map(read_intent, self._pages("/v1/payment_intents", parameters))

    def list_refunds(self, intent_id: str) -> list[ProviderRefund]:
        pages = self._pages("/v1/refunds", {"payment_intent": intent_id})
        return [msgspec.convert(each, ProviderRefund) for each in pages]

    def try_key(self) -> None:
        """Read a payment, whichever. Raises ``KeyRefused`` where the key may not."""
        self._call("get", "/v1/payment_intents", {"limit": 1})

    def list_webhook_endpoints(self) -> list[WebhookEndpoint]:
        return [msgspec.convert(each, WebhookEndpoint) for each in self._pages("/v1/webhook_endpoints", {})]

    def _pages(self, path: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        after: dict[str, Any] = {}
        while True:
            page = self._call("get", path, {**parameters, "limit": 100, **after})
            yield from page["data"]
            if not page["has_more"] or not page["data"]:
                return
            after = {"starting_after": page["data"][-1]["id"]}

    def _call(
        self, method: str, path: str, parameters: Mapping[str, Any] | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """Call until there is an answer, the deadline, or no sense in another try."""
        template = _ID.sub("{id}", path)
        with tracing.span(
            f"{method.upper()} {template}",
            "client",
            http__request__method=method.upper(),
            url__template=template,
            server__address=self._host,
        ):
            return self._call_again(method, path, parameters, key)

    def _call_again(
        self, method: str, path: str, parameters: Mapping[str, Any] | None, key: str | None
    ) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_seconds
        self._transport.answer_by(deadline)
        silent = 0
        while True:
            self._wait_for_turn(deadline)
            self.counters.count("calls")
            try:
                answer = self._client.raw_request(method, path, **(parameters or {}), idempotency_key=key)
                data: dict[str, Any] = answer.data
            except stripe.StripeError as error:
                silent += not _too_fast(error)
                pause = self._pause(error, silent)  # raises where that was the last word
                if time.monotonic() + pause > deadline:
                    self.counters.count("unavailable")
                    raise ProviderUnavailable(_short(error)) from None
                self.counters.count("retries")
                time.sleep(pause)
            else:
                self._silent_since = None
                return data

    def _wait_for_turn(self, deadline: float) -> None:
        wait = self._limiter.reserve(deadline - time.monotonic())
        if wait is None:
            self.counters.count("unavailable")
            raise ProviderUnavailable("too many calls wait for their turn")
        if wait > 0:
            self.counters.count("limited")
            time.sleep(wait)

    def _pause(self, error: stripe.StripeError, silent: int) -> float:
        """Seconds until the next try. Raises what the error means where there is none."""
        status = error.http_status or 0
        if _too_fast(error):
            self.counters.count("too_fast")
            self._limiter.hold_off(self._first_pause_seconds)
            return self._first_pause_seconds * random.uniform(1, 4)  # noqa: S311 - spreads tries, hides nothing
        replayed = (error.headers or {}).get("Idempotent-Replayed", "false") == "true"
        if status >= 500 and replayed:
            self.counters.count("unavailable")
            raise ProviderUnavailable(_short(error), stuck=True) from None
        if status < 400 or status == 409 or status >= 500:
            # While nobody got an answer of late one try is enough: what is due must not queue up behind patience.
            known_silent = self._silent_since is not None and time.monotonic() - self._silent_since < _SILENT_SECONDS
            if known_silent or silent >= _SILENT_TRIES_MAX:
                self._silent_since = time.monotonic()
                self.counters.count("unavailable")
                raise ProviderUnavailable(_short(error)) from None
            longest: float = min(self._first_pause_seconds * 2**silent, _PAUSE_MAX_SECONDS)
            return longest * random.uniform(0.5, 1)  # noqa: S311
        raise self._meaning(error, status) from None

    def _meaning(self, error: stripe.StripeError, status: int) -> ProviderError:
        if status in (401, 403):
            self.counters.count("unavailable")
            return KeyRefused(status)
        body = error.json_body if isinstance(error.json_body, dict) else {}
        detail = body.get("error") if isinstance(body.get("error"), dict) else {}
        assert isinstance(detail, dict)
        shown = detail.get("payment_intent")
        intent = read_intent(shown) if isinstance(shown, dict) else None
        code = str(detail.get("code") or detail.get("type") or f"http_{status}")
        if status == 402:
            self.counters.count("declined")
            return Declined(code, detail.get("decline_code"), intent)
        self.counters.count("refused")
        return ProviderRefused(code, str(detail.get("message") or ""), detail.get("param"), intent)


def _too_fast(error: stripe.StripeError) -> bool:
    return error.http_status == 429


def _short(error: stripe.StripeError) -> str:
    return f"HTTP {error.http_status}" if error.http_status else error.user_message or "no connection"


def read_intent(data: Mapping[str, Any]) -> Intent:
    """An intent from the provider's JSON. Raises ``msgspec.ValidationError`` where it is none."""
    error = data.get("last_payment_error") or {}
    charge = data.get("latest_charge")
    refunded = charge.get("amount_refunded", 0) if isinstance(charge, dict) and charge.get("captured") else 0
    return msgspec.convert(
        {
            **data,
            "amount_refunded": refunded,
            "error_code": error.get("code"),
            "decline_code": error.get("decline_code"),
        },
        Intent,
    )
