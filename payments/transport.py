"""How calls reach Stripe: plain kept connections, and a limiter that keeps us below Stripe's own limit."""

import http.client
import queue
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import stripe

IDLE_SECONDS = 50.0
"""A connection that rested longer is not used again: the other side closes them after about a minute."""
_BROKEN = (http.client.HTTPException, OSError)


class _OneWrite(http.client.HTTPConnection):
    """Sends a request's head and body together: one packet, and the other side wakes up once. The standard library
    writes them one after the other.
    """

    _unsent = b""

    def send(self, data: Any) -> None:
        self._unsent += data

    def getresponse(self) -> http.client.HTTPResponse:
        unsent, self._unsent = self._unsent, b""
        super().send(unsent)
        return super().getresponse()


class _OneWriteTls(_OneWrite, http.client.HTTPSConnection):
    """The same over TLS."""


class Transport(stripe.HTTPClient):
    """The `stripe` package's way out, over the standard library: a third of the CPU that `requests` takes for a call.
    Safe to use from any thread; each has its own deadline.
    """

    name = "http.client"

    def __init__(self, base: str) -> None:
        super().__init__()
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the payment provider's address is an http or https URL, not {base!r}")
        self._host, self._port = parts.hostname, parts.port
        self._tls = ssl.create_default_context(cafile=stripe.ca_bundle_path) if parts.scheme == "https" else None
        self._idle: queue.LifoQueue[tuple[http.client.HTTPConnection, float]] = queue.LifoQueue()
        self._local = threading.local()

    def answer_by(self, deadline: float) -> None:
        """This thread's next requests end at ``deadline`` (of ``time.monotonic``) at the latest."""
        self._local.deadline = deadline

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        """Body, status and headers. Raises ``stripe.APIConnectionError`` where nobody answers in time."""
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        while True:
            connection, reused = self._connection()
            try:
                connection.request(method.upper(), target, post_data, dict(headers or {}))
                response = connection.getresponse()
                body = response.read().decode()
            except (*_BROKEN, UnicodeDecodeError) as error:
                connection.close()
                if reused and not isinstance(error, TimeoutError):
                    continue  # closed while it rested; a key or a GET makes a second try safe
                raise stripe.APIConnectionError(type(error).__name__) from None  # type: ignore[no-untyped-call]
            if response.will_close:
                connection.close()
            else:
                self._idle.put((connection, time.monotonic()))
            return body, response.status, cast("Mapping[str, str]", response.headers)

    def close(self) -> None:
        while True:
            try:
                self._idle.get_nowait()[0].close()
            except queue.Empty:
                return

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        timeout = max(self._local.deadline - time.monotonic(), 0.05)
        while True:
            try:
                connection, since = self._idle.get_nowait()
            except queue.Empty:
                return self._new_connection(timeout), False
            if connection.sock is not None and time.monotonic() - since < IDLE_SECONDS:
                connection.sock.settimeout(timeout)
                return connection, True
            connection.close()

    def _new_connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return _OneWrite(self._host, self._port, timeout=timeout)
        return _OneWriteTls(self._host, self._port, timeout=timeout, context=self._tls)


class Limiter:
    """Lets ``per_second`` calls a second start, a fifth of a second's worth at once. Safe to use from any thread."""

    def __init__(self, per_second: int) -> None:
        self._interval = 1.0 / per_second
        self._burst = 0.2
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self, patience: float) -> float | None:
        """Seconds until the caller's turn; None, and no turn, where that is more than ``patience``."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now - self._burst)
            wait = max(turn - now, 0.0)
            if wait > patience:
                return None
            self._next = turn + self._interval
            return wait

    def hold_off(self, seconds: float) -> None:
        """Nobody starts for a while: the provider says that we are too fast."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
