"""Ids of holds, orders and refunds: ``hold_{sale}_{token}``. The id names its sale, so any process can route it; the
token cannot be guessed; an order has its hold's token. In Redis a hold goes by its token alone.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
from typing import Final

TOKEN_LENGTH: Final = 20
_TOKEN_BYTES: Final = 15  # 120 bits, and no padding in base64

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a shop may call a sale or a product: it stands in key names, hash fields and URLs."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{20}")


_fresh: list[str] = []
"""Drawn, and not given out: asking the system for each token alone costs more than all else that one needs."""
_FRESH_MAX: Final = 64
os.register_at_fork(after_in_child=_fresh.clear)


def new_token() -> str:
    """A token that nobody can guess and no retry finds again."""
    try:
        return _fresh.pop()
    except IndexError:
        text = base64.urlsafe_b64encode(os.urandom(_TOKEN_BYTES * _FRESH_MAX)).decode()
        _fresh.extend(text[i : i + TOKEN_LENGTH] for i in range(TOKEN_LENGTH, len(text), TOKEN_LENGTH))
        return text[:TOKEN_LENGTH]


def derived_token(secret: bytes, *parts: str) -> str:
    """The same token for the same parts, unguessable without the secret. Parts hold no NUL, which separates them."""
    digest = hmac.digest(secret, "\0".join(parts).encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:_TOKEN_BYTES]).decode()


def new_mark() -> str:
    """What tells one event from another that a Redis which lost data gave the same number."""
    return secrets.token_urlsafe(6)


def hold_id(sale_id: str, token: str) -> str:
    return f"hold_{sale_id}_{token}"


def order_id(sale_id: str, token: str) -> str:
    return f"order_{sale_id}_{token}"


def refund_id(sale_id: str, token: str) -> str:
    return f"refund_{sale_id}_{token}"


def parse(kind: str, text: str) -> tuple[str, str] | None:
    """``(sale_id, token)`` of an id of that kind (``hold``, ``order``, ``refund``), or None where it is no such id."""
    start, end = len(kind) + 1, len(text) - TOKEN_LENGTH - 1
    if end <= start or not text.startswith(kind + "_") or text[end] != "_":
        return None
    sale_id, token = text[start:end], text[end + 1 :]
    if NAME.fullmatch(sale_id) is None or _TOKEN.fullmatch(token) is None:
        return None
    return sale_id, token
