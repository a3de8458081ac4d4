"""The parameters of lists that come in pages."""

import base64
import binascii
from typing import Final

from api.bodies import is_name
from api.wire import invalid

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100


def read_limit(query: dict[str, str], default: int, at_most: int) -> int:
    """Raises ``Refusal``: validation_error."""
    text = query.get("limit", "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= at_most):
        raise invalid([("limit", f"is a whole number from 1 to {at_most}")])
    return int(text)


def make_cursor(product_id: str) -> str:
    return base64.urlsafe_b64encode(product_id.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    """The id that ``make_cursor`` was given. Raises ``Refusal``: validation_error."""
    if not cursor:
        return ""
    try:
        after = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        after = ""
    if not is_name(after):
        raise invalid([("cursor", "is none that an answer gave")])
    return after
