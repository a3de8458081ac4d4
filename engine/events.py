"""The events of a sale, as the scripts write them to its stream and the drain reads them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from engine.records import HoldRecord, Position, unpack


class Kind(StrEnum):
    """What happened. The first eight carry holds; each moves its units as said: from counter -> to counter."""

    HELD = "held"
    """available -> held"""
    RELEASED = "released"
    """held -> available, from ``held`` or ``paying``"""
    EXPIRED = "expired"
    """held -> available, from ``held`` or ``paying``"""
    PAYING = "paying"
    """checked out; no units move"""
    SETTLED = "settled"
    """held -> sold"""
    RETAKEN = "retaken"
    """available -> sold"""
    RETURNED = "returned"
    """sold -> available: a sold hold ended without its money"""
    RESTOCKED = "restocked"
    """sold -> available: some units, by a refund; the hold stays sold"""
    LOADED = "loaded"
    ADJUSTED = "adjusted"
    STATE = "state"


class LoadedProduct(msgspec.Struct, array_like=True, frozen=True):
    """A product that a sale file changed: ``delta`` is what its total grew by, the rest is how it is now."""

    id: str
    delta: int
    name: str
    price: int
    compare_at: int
    currency: str
    limit: int
    stock: int
    rev: int


class LoadedSale(msgspec.Struct, array_like=True, frozen=True):
    name: str
    starts_ms: int
    ends_ms: int
    hold_ttl_ms: int
    payment_ttl_ms: int


class Event(msgspec.Struct, frozen=True):
    """One entry of the stream. ``holds`` is token -> record as it was after the event; the rest is there where its
    kind has it.
    """

    position: Position
    kind: Kind
    mark: str
    at_ms: int
    holds: dict[str, HoldRecord] = {}
    sale: LoadedSale | None = None
    products: tuple[LoadedProduct, ...] = ()
    product: str = ""
    delta: int = 0
    reason: str = ""
    command: str = ""
    """The command's id of an adjustment, the refund's of a restock."""
    lines: tuple[tuple[str, int], ...] = ()
    """What a restock brought back, as (product, qty)."""
    state: str = ""


LATER = b"more"
"""The field in which a later version may say more, as it may at the end of a record: this one passes over both, so that
the two can run side by side.
"""


class UnreadableEvent(ValueError):
    """An entry that no script of this version or an earlier one wrote."""


_decode_sale = msgspec.msgpack.Decoder(LoadedSale).decode
_decode_products = msgspec.msgpack.Decoder(tuple[LoadedProduct, ...]).decode
_decode_lines = msgspec.msgpack.Decoder(tuple[tuple[str, int], ...]).decode


def position_of(entry_id: bytes) -> Position:
    epoch, _, seq = entry_id.decode().partition("-")
    return Position(int(epoch), int(seq))


def read_event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    """Read an entry of the stream. Raises ``UnreadableEvent``, which names the entry."""
    body = dict(fields)
    body.pop(LATER, None)
    try:
        kind = Kind(body.pop(b"kind").decode())
        mark, at_ms = body.pop(b"mark").decode(), int(body.pop(b"at"))
        return Event(position_of(entry_id), kind, mark, at_ms, **_read_body(kind, body))
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise UnreadableEvent(f"event {entry_id.decode(errors='replace')}: {error}") from error


def _read_body(kind: Kind, body: dict[bytes, bytes]) -> dict[str, Any]:
    match kind:
        case Kind.LOADED:
            return {"sale": _decode_sale(body[b"sale"]), "products": _decode_products(body[b"products"])}
        case Kind.ADJUSTED:
            words = {name: body[name.encode()].decode() for name in ("product", "reason", "command")}
            return {**words, "delta": int(body[b"delta"])}
        case Kind.STATE:
            return {"state": body[b"state"].decode()}
        case Kind.RESTOCKED:
            refund, lines = body.pop(b"refund").decode(), _decode_lines(body.pop(b"lines"))
            return {"command": refund, "lines": lines, "holds": _read_holds(body)}
        case _:
            return {"holds": _read_holds(body)}


def _read_holds(body: Mapping[bytes, bytes]) -> dict[str, HoldRecord]:
    return {token.decode(): unpack(record) for token, record in body.items()}
