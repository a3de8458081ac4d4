"""The inbox of the provider's events: verify, store once, answer; handle later, and mark as handled only after the
effect.
"""

import re
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import stripe
import structlog
from sqlalchemy import Connection, case, func, update
from sqlalchemy.exc import DataError, IntegrityError

from payments import records
from payments.context import Context
from payments.events import ID_LENGTH_MAX, Done, Ended, Event, Later, Outcome, Parked, PendingOrder, is_provider_id
from payments.failures import AWAY, describe, trace
from payments.handlers import HANDLERS
from persistence.audit import note
from persistence.refusals import Refusal
from persistence.statement import Statement
from persistence.tables import webhook_events

TOLERANCE_SECONDS: Final = 300
BACKOFF_MAX_SECONDS: Final = 300
PENDING_DAYS: Final = 3
"""As long as Stripe itself goes on trying to deliver."""
POISON_TRIES_MAX: Final = 8
NESTING_MAX: Final = 64
"""Several times what an event of Stripe's has. A row that is nested deeper could be written by one process and be
unreadable to the next, whose stack is fuller.
"""
_HEADER_LENGTH_MAX: Final = 4096
_TIMESTAMP: Final = re.compile(r"(?:^|,)t=([0-9]{1,12})(?=,|$)")

log = structlog.get_logger(__name__)


class _Data(msgspec.Struct):
    object: dict[str, Any]


class _Envelope(msgspec.Struct):
    id: str
    type: str
    data: _Data


class Arrived(NamedTuple):
    """An event that the provider has signed: what the inbox keeps of it. ``payload`` is JSON."""

    id: str
    type: str
    intent_id: str | None
    payload: str

    @property
    def is_handled(self) -> bool:
        """Whether anything is done about events of its type."""
        return self.type in HANDLERS


def read(payload: bytes, signature: str | None, secret: str) -> Arrived:
    """Raises ``Refusal``: ``invalid_signature``, and ``validation_error`` (400) for what is signed and yet no event."""
    said = verify(payload, signature, secret)
    try:
        whole = msgspec.json.decode(said)
        if not _is_plain(said):
            whole = _without_nul(whole)
            said = msgspec.json.encode(whole).decode()
        event = msgspec.convert(whole, _Envelope)  # of what is kept, so that whoever reads it finds it so
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise _no_event() from None
    if not 0 < len(event.id) <= ID_LENGTH_MAX:
        raise _no_event()
    return Arrived(event.id, event.type, _intent_of(event.data.object), said)


def _is_plain(said: str) -> bool:
    """Whether it can be kept as it came: so few brackets do not nest too deep, and only an escape makes a NUL."""
    return "\\u" not in said and said.count("{") + said.count("[") <= NESTING_MAX


def store(ctx: Context, events: Sequence[Arrived]) -> list[bool | Exception]:
    """Keep events, all in one statement, and wake the workers after that where there is something for them. For each
    whether it is new, or why it cannot be kept: then the others are. Raises where Postgres is away; then nothing is
    stored.
    """
    try:
        with ctx.db.begin() as conn:
            stored = set(_STORE.on(conn, _arrays(events)).scalars())
    except (DataError, IntegrityError) as error:
        if len(events) == 1:
            return [error]
        return [kept for each in events for kept in store(ctx, [each])]
    if any(event.is_handled for event in events if event.id in stored):
        ctx.wake()
    new: list[bool | Exception] = []
    for event in events:
        new.append(event.id in stored)
        stored.discard(event.id)  # of two alike one is new
    return new


def _arrays(events: Sequence[Arrived]) -> dict[str, Any]:
    # Sorted, so that two who store the same events wait for each other instead of locking each other out.
    rows = sorted(events, key=attrgetter("id"))
    return {
        "ids": [event.id for event in rows],
        "types": [event.type for event in rows],
        "intents": [event.intent_id for event in rows],
        "payloads": [event.payload for event in rows],
        "handled": [event.is_handled for event in rows],
    }


_STORE: Final = Statement(
    "INSERT INTO webhook_events (id, type, intent_id, payload, status, due_at, handled_at)"
    " SELECT id, type, intent, CAST(payload AS jsonb), CASE WHEN handled THEN 'stored' ELSE 'ignored' END,"
    " CASE WHEN handled THEN now() END, CASE WHEN NOT handled THEN now() END"
    " FROM unnest(CAST(:ids AS text[]), CAST(:types AS text[]), CAST(:intents AS text[]), CAST(:payloads AS text[]),"
    " CAST(:handled AS boolean[])) AS new (id, type, intent, payload, handled)"
    " ON CONFLICT DO NOTHING RETURNING id"
)


def _without_nul(value: Any, nesting: int = NESTING_MAX) -> Any:
    """The value without the one character that no column of text can hold. Raises ``RecursionError``."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if nesting == 0 and isinstance(value, dict | list):
        raise RecursionError
    if isinstance(value, dict):
        return {name.replace("\0", ""): _without_nul(each, nesting - 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nul(each, nesting - 1) for each in value]
    return value


def verify(payload: bytes, signature: str | None, secret: str) -> str:
    """The payload as text, if it was signed with ``secret`` within five minutes of now. Raises ``Refusal``
    ``invalid_signature``.
    """
    try:
        said = payload.decode()
        if not _timely(signature or ""):
            raise _unsigned()
        stripe.WebhookSignature.verify_header(said, signature, secret, TOLERANCE_SECONDS)
    except (UnicodeDecodeError, stripe.SignatureVerificationError):
        raise _unsigned() from None
    return said


def _timely(signature: str) -> bool:
    """Whether the header can be one, and carries one time, within five minutes of now: Stripe's own check takes any
    future.
    """
    if not signature.isascii() or len(signature) > _HEADER_LENGTH_MAX:
        return False
    times = _TIMESTAMP.findall(signature)
    return len(times) == 1 and abs(time.time() - int(times[0])) <= TOLERANCE_SECONDS


def _unsigned() -> Refusal:
    return Refusal("invalid_signature", "The payment provider has not signed this, or not within five minutes.")


def _no_event() -> Refusal:
    message = "The body is no event: an object with `id`, `type` and `data.object`."
    return Refusal("validation_error", message, status=400, errors=[{"field": "", "message": message}])


def _intent_of(shown: dict[str, Any]) -> str | None:
    """The id of the intent that an event's object is, or is about."""
    found = shown.get("id") if shown.get("object") == "payment_intent" else shown.get("payment_intent")
    if isinstance(found, dict):
        found = found.get("id")
    return found if is_provider_id(found) else None


def handle_once(ctx: Context, limit: int, pool: Executor) -> int:
    """Handle events that are due, ``limit`` at most, in sets, with the provider's answers read side by side in
    ``pool``. How many were taken up.
    """
    with ctx.db.begin() as conn:
        taken = _lease(conn, limit, ctx.lease_seconds)
    sets: dict[Any, list[Event]] = {}
    for event in taken:
        sets.setdefault(HANDLERS[event.type], []).append(event)
    for handler, events in sets.items():
        for ended in handler(ctx, events, pool):
            ctx.checkpoint("event done")
            _mark(ctx, ended)
    return len(taken)


def _lease(conn: Connection, limit: int, seconds: float) -> list[Event]:
    return [Event(*each) for each in _LEASE.on(conn, {"limit": limit, "seconds": seconds})]


_LEASE: Final = Statement(
    "UPDATE webhook_events SET due_at = now() + :seconds * interval '1 second', tries = tries + 1 WHERE id IN ("
    "SELECT id FROM webhook_events WHERE due_at <= now() AND status IN ('stored', 'pending_order')"
    " ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED)"
    " RETURNING id, type, intent_id, payload -> 'data' -> 'object', tries"
)


def _outcome(event: Event, ended: Outcome | Exception) -> Outcome:
    """What cannot be done now is due again later; what cannot be done is parked."""
    if not isinstance(ended, Exception):
        return ended
    reason = describe(ended)
    if isinstance(ended, AWAY):
        return Later(reason)
    log.error("event_failed", event_id=event.id, type=event.type, error=reason, trace=trace(ended))
    return Parked(reason) if event.tries >= POISON_TRIES_MAX else Later(reason)


def _mark(ctx: Context, ended: Ended) -> None:
    """After the effect, never before."""
    done: dict[str, str] = {}
    others: dict[Later | PendingOrder | Parked, list[str]] = {}
    for event, result in ended:
        outcome = _outcome(event, result)
        if isinstance(outcome, Done):
            done[event.id] = outcome.reason
            continue
        others.setdefault(outcome, []).append(event.id)
        if isinstance(outcome, Parked):
            log.warning("event_parked", event_id=event.id, type=event.type, reason=outcome.reason)
    row = webhook_events.c
    with ctx.db.begin() as conn:
        if done:
            _MARK_DONE.on(conn, {"ids": list(done), "reasons": list(done.values())})
        for outcome, event_ids in others.items():
            wanted = update(webhook_events).where(row.id == records.any_of(event_ids), row.handled_at.is_(None))
            conn.execute(wanted.values(reason=outcome.reason[:500] or None, **_columns(outcome)))


_MARK_DONE: Final = Statement(
    "UPDATE webhook_events e SET status = 'handled', handled_at = now(), due_at = NULL,"
    " reason = nullif(left(done.reason, 500), '')"
    " FROM unnest(CAST(:ids AS text[]), CAST(:reasons AS text[])) AS done (id, reason)"
    " WHERE e.id = done.id AND e.handled_at IS NULL"
)


def _columns(outcome: Later | PendingOrder | Parked) -> dict[str, Any]:
    row = webhook_events.c
    again = func.now() + func.least(
        func.power(2, func.least(row.tries, 12) - 1), BACKOFF_MAX_SECONDS
    ) * records.seconds(1)
    match outcome:
        case Parked():
            return {"status": "parked", "due_at": None}
        case Later():
            return {"due_at": again}
        case PendingOrder():
            too_old = row.received_at < func.now() - records.seconds(PENDING_DAYS * 86_400)
            return {
                "status": case((too_old, "parked"), else_="pending_order"),
                "due_at": case((too_old, None), else_=again),
            }


def replay(ctx: Context, pool: Executor, *, pending_only: bool = False) -> int:
    """Handle stored events again, or only those that were never handled. How many. An order that has ended stays
    ended.
    """
    row = webhook_events.c
    wanted = row.status.in_(("stored", "pending_order")) if pending_only else row.status != "ignored"
    values = {"status": "stored", "handled_at": None, "reason": None, "due_at": func.now(), "tries": 0}
    with ctx.db.begin() as conn:
        replayed = conn.execute(update(webhook_events).where(wanted).values(**values)).rowcount
        note(conn, "replay_webhooks", "pending" if pending_only else "all", events=replayed)
    while handle_once(ctx, 200, pool):
        pass
    return replayed
