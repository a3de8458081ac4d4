"""Stored events and what becomes of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from engine import ids
from payments import records
from payments.context import Context
from payments.records import OrderRecord
from persistence.database import reading

ID_LENGTH_MAX: Final = 255
"""Of the provider's ids; a longer one is none, and might not fit into an index."""
_PROVIDER_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LENGTH_MAX}}}")


def is_provider_id(value: object) -> TypeGuard[str]:
    """Whether the provider can be asked for it: it becomes part of a URL."""
    return isinstance(value, str) and _PROVIDER_ID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event: ``shown`` is the object in it."""

    id: str
    type: str
    intent_id: str | None
    shown: dict[str, Any]
    tries: int


@dataclass(frozen=True, slots=True)
class Done:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """Something is away; the same again."""

    reason: str


@dataclass(frozen=True, slots=True)
class PendingOrder:
    """Its order is not known yet."""

    reason: str = "its order is not known yet"


@dataclass(frozen=True, slots=True)
class Parked:
    """For people."""

    reason: str


Outcome = Done | Later | PendingOrder | Parked

Ended = Sequence[tuple[Event, Outcome | Exception]]
"""Events with what became of them: an exception where something failed."""


def named_order(event: Event) -> str:
    """The order's id that we gave the intent, as the event shows it; empty where it shows none."""
    metadata = event.shown.get("metadata")
    found = metadata.get("order_id") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) and ids.parse("order", found) else ""


def status_of(event: Event) -> str:
    found = event.shown.get("status")
    return found if isinstance(found, str) else ""


def find_orders(ctx: Context, events: Sequence[Event]) -> dict[str, OrderRecord]:
    """Event id -> its order: by the intent that our record has, else by the id that we gave the intent."""
    with reading(ctx.db) as conn:
        by_intent = records.read_by_intents(conn, {each.intent_id for each in events if each.intent_id})
        named = {each.id: named_order(each) for each in events if each.intent_id not in by_intent}
        by_id = (
            records.read_all(conn, {order_id for order_id in named.values() if order_id}) if any(named.values()) else {}
        )
    found = {each.id: by_intent.get(each.intent_id or "") or by_id.get(named.get(each.id, "")) for each in events}
    return {event_id: order for event_id, order in found.items() if order is not None}
