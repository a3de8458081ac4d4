"""The batcher of a process that traces: each script call is a span, linked to the requests that it served."""

import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from engine import tracing
from engine.batcher import Answered, Batcher, Waiting
from engine.command import Command
from engine.commands import HoldAnswer, HoldRequest
from engine.line import Line
from engine.outcomes import Outcome

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_sending: ContextVar[tuple[str, Sequence["SpanContext"]]] = ContextVar("_sending")


class TracedBatcher(Batcher):
    """As its base, which knows nothing of traces."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._askers: dict[str, SpanContext] = {}

    async def take(self, sale_id: str, request: HoldRequest) -> HoldAnswer:
        self._askers[request.token] = tracing.here()
        try:
            return await super().take(sale_id, request)
        finally:
            self._askers.pop(request.token, None)

    async def _send(self, line: Line, sale_id: str, batch: list[Waiting]) -> Answered:
        askers = [self._askers.get(waiting.request.token) for waiting in batch]
        _sending.set((sale_id, [asker for asker in askers if asker is not None]))
        return await super()._send(line, sale_id, batch)

    async def _ask(self, line: Line, call: Command[list[HoldAnswer]]) -> list[HoldAnswer]:
        sale_id, askers = _sending.get()
        began = time.time_ns()
        try:
            answers = await super()._ask(line, call)
        except Exception as error:
            tracing.batch(sale_id, began, askers, None, error)
            raise
        wrote = next((each.position.entry for each in answers if each.outcome is Outcome.HELD), None)
        tracing.batch(sale_id, began, askers, wrote)
        return answers
