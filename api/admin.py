"""What operators ask for, over persistence: sync, for a thread. Each raises ``Refusal`` with the contract's code."""

import base64
import hashlib
from typing import Final

import msgspec

from api.bodies import decode_json, is_name, nul_faults
from api.wire import invalid
from engine import ids
from engine.shapes import OrderChange, Sale
from payments.attempts import away
from payments.context import Context
from payments.provider import ProviderUnavailable
from payments.reconcile import reconcile
from persistence import feed, sales
from persistence.database import reading
from persistence.drift import Report
from persistence.reconcile import CannotCompare
from persistence.refusals import Refusal
from persistence.salefile import SaleFileError, parse

CHANGES_DEFAULT: Final = 100
CHANGES_MAX: Final = 1000


class ChangesPage(msgspec.Struct, frozen=True):
    """``next`` is where to go on from, also when there is nothing new yet."""

    data: list[OrderChange]
    next: str


def check_sale_id(sale_id: str) -> None:
    """Raises ``Refusal``: sale_not_found, for a name that no sale can have."""
    if not is_name(sale_id):
        raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")


def load_sale(ctx: Context, sale_id: str, body: bytes) -> Sale:
    """The sale file ``body`` becomes the sale ``sale_id``; its own ``id`` may be left out."""
    value = decode_json(body)
    faults = nul_faults(value)
    if isinstance(value, dict) and isinstance(value.get("id"), str) and value["id"] != sale_id:
        faults.append(("id", "is another than the path's"))
    try:
        file = parse(body, format="json", default_id=sale_id)
    except SaleFileError as error:
        known = {field for field, _ in faults}
        faults += [(each.field or "body", each.message) for each in error.errors if each.field not in known]
        raise invalid(faults, status=400 if error.malformed else None) from error
    if faults:
        raise invalid(faults)
    return sales.load_sale(ctx.db, ctx.redis, file).sale


def show_sale(ctx: Context, sale_id: str) -> Sale:
    check_sale_id(sale_id)
    return sales.show_sale(ctx.db, ctx.redis, sale_id)


def command_id(route: str, key: str | None) -> str:
    """The same for the same request, so that it happens once."""
    if key is None:
        return ids.new_token()
    digest = hashlib.sha256(f"{route}\0{key}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:15]).decode()


def list_changes(ctx: Context, after: str, limit: int) -> ChangesPage:
    """The orders feed behind the cursor ``after``."""
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise invalid([("after", "is no cursor that an answer gave")])
    with reading(ctx.db) as conn:
        changes = feed.read(conn, int(after), limit)
    return ChangesPage(changes, changes[-1].cursor if changes else after)


def read_reconciliation(ctx: Context, sale_id: str) -> Report:
    check_sale_id(sale_id)
    try:
        return reconcile(ctx, sale_id)
    except CannotCompare as error:
        raise Refusal("unavailable", str(error), retry_after=1) from error
    except ProviderUnavailable as silence:
        raise away(silence) from silence
