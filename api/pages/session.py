"""Who may use the live page: whoever sends the admin token, or shows the cookie that it was exchanged for.

The cookie is a moment and a signature under a key of the token: nothing is kept here, every process takes it, and
another admin token ends all sessions. It goes to ``/ops`` only, no script reads it, and no other site's request
carries it.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from secrets import token_urlsafe
from typing import Final

from litestar.datastructures import Headers

from api.auth import Guard
from persistence.refusals import Refusal

COOKIE: Final = "flashsale_ops"
SESSION_SECONDS: Final = 12 * 3600
"""A long night. Nothing renews it."""


class Sessions:
    """Without an admin token nobody gets one."""

    def __init__(self, admin_token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = admin_token
        self._key = hmac.digest(admin_token.encode(), b"flashsale: sessions of the live page", hashlib.sha256)
        self._bearer = Guard(admin_token, "admin")
        self._clock = clock

    @property
    def possible(self) -> bool:
        return bool(self._token)

    def begin(self, given: str, *, secure: bool) -> bytes | None:
        """The ``Set-Cookie`` for whoever gave the admin token; None for another."""
        if not (hmac.compare_digest(given.encode(), self._token.encode()) and self._token):
            return None
        said = f"{int(self._clock()) + SESSION_SECONDS}.{token_urlsafe(9)}"
        return _cookie(f"{said}.{self._sign(said)}", SESSION_SECONDS, secure=secure)

    def end(self, *, secure: bool) -> bytes:
        """The ``Set-Cookie`` that takes it back."""
        return _cookie("", 0, secure=secure)

    def knows(self, headers: Headers) -> bool:
        """Whether the request carries a session that lasts."""
        said, _, signature = _cookie_of(headers.get("cookie", "")).rpartition(".")
        if not (said and self.possible and hmac.compare_digest(signature.encode(), self._sign(said).encode())):
            return False
        return int(said.partition(".")[0]) > self._clock()

    def check(self, headers: Headers) -> None:
        """For what only reads. Raises ``Refusal``: unauthorized, forbidden."""
        if "authorization" in headers or not self.knows(headers):
            self._bearer.check(headers.get("authorization", "").encode())

    def check_change(self, headers: Headers) -> None:
        """For what changes something: beside the above, a browser must say that it was our own page that asked."""
        self.check(headers)
        if "authorization" not in headers:
            check_same_origin(headers)

    def _sign(self, said: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._key, said.encode(), hashlib.sha256)).decode().rstrip("=")


def check_same_origin(headers: Headers) -> None:
    """Raises ``Refusal``: forbidden, for what another site's page sent, and for a browser that does not say who."""
    # Behind a proxy that ends TLS the scheme differs, so the hosts are compared.
    origin = host_of(headers.get("origin", ""))
    if not origin or origin != headers.get("host") or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refusal("forbidden", "Only this site's own page may ask for that.")


def is_secure(scheme: str, headers: Headers) -> bool:
    """Whether the browser came by TLS, to us or to a proxy before us."""
    return scheme == "https" or headers.get("x-forwarded-proto", "") == "https"


def host_of(origin: str) -> str:
    """The host and port that an ``Origin`` names; empty for none and for ``null``."""
    return origin.partition("://")[2]


def _cookie_of(header: str) -> str:
    """The value of our own cookie, the first of that name; empty where there is none. The time that it takes grows
    with the header's length alone: ``http.cookies`` of Python before 3.11.10 needs its square.
    """
    for pair in header.split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == COOKIE:
            return value.strip()
    return ""


def _cookie(value: str, seconds: int, *, secure: bool) -> bytes:
    flags = "; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
    return f"{COOKIE}={value}; Path=/ops; Max-Age={seconds}{flags}".encode()
