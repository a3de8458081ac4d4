"""Holds that were taken: read and released one by one."""

from api.refusing import gone
from api.services import Services
from api.wire import Answer
from engine import ids, shapes
from engine.outcomes import Outcome
from engine.records import HoldRecord
from persistence import archive
from persistence.rebuild import epoch_of
from persistence.refusals import Refusal


async def read(services: Services, hold_id: str) -> Answer:
    """``GET /v1/holds/{id}``: as Redis has it, else as Postgres has it. Raises ``Refusal``: hold_not_found, hold_lost,
    sale_unavailable.
    """
    sale_id, token = _parse(hold_id)
    record, now_ms = await _find(services, sale_id, token)
    return _answer(sale_id, token, record, now_ms)


async def release(services: Services, hold_id: str) -> Answer:
    """``DELETE /v1/holds/{id}``. Raises ``Refusal``: hold_not_found, hold_lost, hold_in_payment, hold_already_used,
    sale_unavailable.
    """
    sale_id, token = _parse(hold_id)
    record, now_ms = await _find(services, sale_id, token)
    change = await services.reads.release(sale_id, token, record.products)
    services.sold_out.forget(sale_id, record.products)
    match change.outcome:
        case Outcome.RELEASED | Outcome.EXPIRED | Outcome.UNCHANGED if change.hold is not None:
            return _answer(sale_id, token, change.hold, change.now_ms)
        case Outcome.NO_SALE | Outcome.NO_HOLD:
            return _release_lost(sale_id, token, record, now_ms)
        case Outcome.IN_PAYMENT:
            await services.slow.run(services.payments.drain, sale_id, change.position)
            raise _in_order("hold_in_payment", "The hold is in payment: cancel its order.", sale_id, token)
        case Outcome.USED:
            await services.slow.run(services.payments.drain, sale_id, change.position)
            raise _in_order("hold_already_used", "The hold was paid for.", sale_id, token)
        case _:
            raise gone(sale_id, retired=False)


def _in_order(code: str, detail: str, sale_id: str, token: str) -> Refusal:
    return Refusal(code, detail, order_id=ids.order_id(sale_id, token))


def _release_lost(sale_id: str, token: str, record: HoldRecord, now_ms: int) -> Answer:
    """A hold that only Postgres knows: over, or waiting for its sale to be restored."""
    match record.status_at(now_ms):
        case "released" | "expired":
            return _answer(sale_id, token, record, now_ms)
        case "sold":
            raise _in_order("hold_already_used", "The hold was paid for.", sale_id, token)
        case _:
            raise gone(sale_id, retired=False)


async def _find(services: Services, sale_id: str, token: str) -> tuple[HoldRecord, int]:
    record, reply = await services.reads.peek(sale_id, token)
    if record is not None:
        return record, reply.now_ms
    kept = await services.quick.run(archive.read_hold, services.db, sale_id, token)
    if kept is not None:
        return kept
    if reply.position.epoch > 1:
        raise _lost()
    if reply.outcome is Outcome.NO_SALE:
        standing = await services.standing(sale_id)
        if standing and not standing.retired:
            raise _lost()
    else:
        epoch = await services.quick.run(epoch_of, services.db, services.payments.redis, sale_id)
        if epoch is None:
            raise gone(sale_id, retired=False)
        if epoch > 1:  # it was rebuilt meanwhile
            raise _lost()
    raise _not_found()


def _parse(hold_id: str) -> tuple[str, str]:
    parsed = ids.parse("hold", hold_id)
    if parsed is None:
        raise _not_found()
    return parsed


def _not_found() -> Refusal:
    return Refusal("hold_not_found", "There is no such hold.")


def _lost() -> Refusal:
    return Refusal("hold_lost", "The hold was lost with data that Redis lost. Take a new one.")


def _answer(sale_id: str, token: str, record: HoldRecord, now_ms: int) -> Answer:
    return Answer(200, shapes.encode(shapes.hold(sale_id, token, record, now_ms)))
