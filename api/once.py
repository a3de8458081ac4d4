"""Idempotency-Keys: the first answer again, byte for byte; and so for the routes whose work has no store of its own."""

from collections.abc import Callable
from typing import Any

from api import wire
from api.wire import JSON, REPLAYED_HEADERS
from engine import shapes
from payments.once import Answer, Once
from persistence.refusals import Refusal


def do_once(once: Once, act: Callable[[], Any]) -> Answer:
    """Do ``act`` and answer with the shape that it returns; the same request again is answered as the first. What was
    cut off is done again, so ``act`` must be safe to repeat. A refusal is not remembered.
    """
    if first := once.known():
        return first
    try:
        shape = act()
    except Refusal:
        once.forget()
        raise
    return once.answer(200, shape if isinstance(shape, bytes) else shapes.encode(shape))


def given(answer: Answer) -> wire.Answer:
    """An answer that the payments gave, perhaps again."""
    return wire.Answer(answer.status, answer.body, REPLAYED_HEADERS if answer.replayed else (JSON,))
