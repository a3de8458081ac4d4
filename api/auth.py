"""Bearer tokens: the operators' on admin routes, the shop's on holds and orders where one is set."""

import hmac
from typing import Final

from persistence.refusals import Refusal


class Guard:
    """Compares a request's token with the one that is set, in constant time. An empty token refuses everybody."""

    def __init__(self, token: str, whose: str) -> None:
        self._token = token.encode()
        self._whose = whose

    def check(self, authorization: bytes | None) -> None:
        """Raises ``Refusal``: unauthorized without a token, forbidden with another."""
        scheme, _, given = (authorization or b"").strip().partition(b" ")
        given = given.strip()
        if scheme.lower() != b"bearer" or not given:
            raise Refusal("unauthorized", f"Send the {self._whose} token: Authorization: Bearer <token>.")
        if not (hmac.compare_digest(given, self._token) and self._token):
            raise Refusal("forbidden", f"This is not the {self._whose} token.")


class Open:
    """Lets everybody in: no token is set."""

    def check(self, authorization: bytes | None) -> None:
        """Never raises."""


ADMIN: Final = "admin"
SHOP: Final = "shop's"


def admin_guard(token: str) -> Guard:
    return Guard(token, ADMIN)


def shop_guard(token: str) -> Guard | Open:
    return Guard(token, SHOP) if token else Open()
