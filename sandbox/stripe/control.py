"""The control routes: what no shop can do at Stripe, and a test must. JSON in, JSON out, no key; 127.0.0.1 only."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sandbox.stripe import charging, disputes, refunds
from sandbox.stripe.errors import Fault, invalid
from sandbox.stripe.records import Charge, Intent
from sandbox.stripe.shapes import Json, intent_shape
from sandbox.stripe.world import Call, World

Body = dict[str, Any]


class _Target(Struct, forbid_unknown_fields=True):
    url: str | None
    secret: str | None = None
    events: list[str] | None = None


class _Success(Struct, forbid_unknown_fields=True):
    success: bool = True


class _Dispute(Struct, forbid_unknown_fields=True):
    reason: Literal[
        "fraudulent", "product_not_received", "duplicate", "product_unacceptable", "unrecognized", "general"
    ] = "fraudulent"
    inquiry: bool = False


class _Close(Struct, forbid_unknown_fields=True):
    won: bool = False


class _Resend(Struct, forbid_unknown_fields=True):
    ids: list[str] | None = None
    states: list[Literal["pending", "dropped", "failed", "none", "delivered"]] | None = None


def answer(world: World, method: str, path: str, query: dict[str, str], raw: bytes) -> Any:
    """What a control route says. Raises `Fault`: 404 for no such route, 400 for a body that does not fit."""
    parts = path.strip("/").split("/")[1:]
    try:
        body = msgspec.json.decode(raw, type=Body) if raw.strip() else {}
        if len(parts) == 3:
            act = ACTS.get((method, parts[0], parts[2]))
            if act is not None:
                return act(world, parts[1], body)
        whole = WHOLE.get((method, "/".join(parts)))
        if whole is not None:
            return whole(world, body, query)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
        raise invalid(str(error)) from error
    raise Fault(404, f"No such control route: {method} {path}")


# -- the whole stand-in
def _ledger(world: World, _: Body, query: dict[str, str]) -> Json:
    """Totals by currency and each intent that was made; `?intents=false` leaves those out, `?status=` picks some."""
    by_status: dict[str, int] = {}
    shown: list[Json] = []
    wanted = query.get("status")
    for intent in world.intents.rows:
        by_status[intent.status] = by_status.get(intent.status, 0) + 1
        if query.get("intents") != "false" and wanted in (None, intent.status):
            shown.append(_account(world, intent))
    return {"totals": world.ledger.totals(), "intents_by_status": by_status, "intents": shown}


def _account(world: World, intent: Intent) -> Json:
    return {
        "id": intent.id,
        "status": intent.status,
        "amount": intent.amount,
        "metadata": intent.metadata,
        "created": intent.created,
        "cancellation_reason": intent.cancellation_reason,
        **world.ledger.account(intent.id, intent.currency).shown(),
    }


def _get_chaos(world: World, _: Body, __: dict[str, str]) -> Json:
    return msgspec.structs.asdict(world.dice.settings)


def _set_chaos(world: World, body: Body, query: dict[str, str]) -> Json:
    world.dice.set(body)
    return _get_chaos(world, body, query)


def _reset_chaos(world: World, body: Body, query: dict[str, str]) -> Json:
    world.dice.reset()
    return _get_chaos(world, body, query)


def _aim(world: World, body: Body, _: dict[str, str]) -> Json:
    target = msgspec.convert(body, _Target)
    world.outbox.aim(target.url, target.secret, target.events)
    return world.outbox.state()


def _webhooks(world: World, _: Body, __: dict[str, str]) -> Json:
    return world.outbox.state()


def _resend(world: World, body: Body, _: dict[str, str]) -> Json:
    """Sends named events again, or all in some states (dropped and failed ones where nothing is named)."""
    wanted = msgspec.convert(body, _Resend)
    if wanted.ids is None:
        seqs = world.store.events_in(*(wanted.states or ["dropped", "failed"]))
    else:
        found = [world.store.event(identifier) for identifier in wanted.ids]
        seqs = [event.seq for event in found if event is not None]
        if len(seqs) != len(wanted.ids):
            raise invalid("no such event", "ids")
    world.outbox.resend(seqs)
    return {"resent": len(seqs)}


# -- one thing of it
def _expect(intent: Intent, status: str) -> Intent:
    if intent.status != status:
        raise Fault(409, f"{intent.id} is {intent.status}, not {status}")
    return intent


def _intent(world: World, identifier: str) -> Intent:
    return world.intents.get(identifier, "intent", status=404)


def _authenticate(world: World, identifier: str, body: Body) -> Json:
    success = msgspec.convert(body, _Success).success
    intent = _expect(_intent(world, identifier), "requires_action")
    charging.authenticate(world, intent, success=success)
    return intent_shape(intent)


def _finish(world: World, identifier: str, body: Body) -> Json:
    success = msgspec.convert(body, _Success).success
    intent = _expect(_intent(world, identifier), "processing")
    charging.finish(world, intent, success=success)
    return intent_shape(intent)


def _lapse(world: World, identifier: str, _: Body) -> Json:
    intent = _expect(_intent(world, identifier), "requires_capture")
    charging.cancel(world, Call(), intent, "automatic", lapsed=True)
    return intent_shape(intent)


def _charge_of(world: World, identifier: str) -> Charge:
    """Of an intent's or a charge's id."""
    if identifier.startswith("pi_"):
        identifier = _intent(world, identifier).latest_charge or identifier
    return world.charges.get(identifier, "charge", status=404)


def _dispute(world: World, identifier: str, body: Body) -> Json:
    wanted = msgspec.convert(body, _Dispute)
    return disputes.open_dispute(world, _charge_of(world, identifier), wanted.reason, inquiry=wanted.inquiry)


def _close_dispute(world: World, identifier: str, body: Body) -> Json:
    dispute = world.disputes.get(identifier, "dispute", status=404)
    return disputes.close(world, dispute, won=msgspec.convert(body, _Close).won)


def _fail_refund(world: World, identifier: str, _: Body) -> Json:
    return refunds.settle(world, world.refunds.get(identifier, "refund", status=404), "failed")


WHOLE: dict[tuple[str, str], Callable[[World, Body, dict[str, str]], Json]] = {
    ("GET", "ledger"): _ledger,
    ("GET", "chaos"): _get_chaos,
    ("POST", "chaos"): _set_chaos,
    ("DELETE", "chaos"): _reset_chaos,
    ("POST", "webhook_target"): _aim,
    ("GET", "webhooks"): _webhooks,
    ("POST", "webhooks/resend"): _resend,
}
ACTS: dict[tuple[str, str, str], Callable[[World, str, Body], Json]] = {
    ("POST", "intents", "authenticate"): _authenticate,
    ("POST", "intents", "finish"): _finish,
    ("POST", "intents", "lapse"): _lapse,
    ("POST", "intents", "dispute"): _dispute,
    ("POST", "charges", "dispute"): _dispute,
    ("POST", "disputes", "close"): _close_dispute,
    ("POST", "refunds", "fail"): _fail_refund,
}
