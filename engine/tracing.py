"""Traces by OpenTelemetry, from a request through script, stream and job to Postgres and Stripe. Off unless
``OTEL_EXPORTER_OTLP_ENDPOINT`` says where they go; then nothing of it is imported, and whoever could trace looks at
``on`` and goes on.

An order's trace has an id that follows from the order's own, and a batch of holds has one that follows from its event.
So every process finds the trace that it belongs to, also after a crash, and no record carries a word for it.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from engine import ids
from engine.events import Event, Kind
from engine.settings import SettingError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
LINKS_MAX: Final = 128
"""What OpenTelemetry keeps of a span's links unless told otherwise."""

on = False
"""Whether this process traces. Set once, by ``start``."""

_tracer: "Tracer"
_provider: Any = None
_wanted_ids: ContextVar[tuple[int, int] | None] = ContextVar("_wanted_ids", default=None)


_PACKAGES: Final = ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk")
_MISSING: Final = (
    f"{VARIABLES[0]} is set, and what sends traces is not installed: unset it, or pip install 'flashsale[traces]'"
)


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says where traces go."""
    return any(environ.get(name) for name in VARIABLES)


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Raises ``SettingError`` where traces are wanted and the packages for it are not installed."""
    if is_wanted(environ) and not all(_is_installed(name) for name in _PACKAGES):
        raise SettingError(_MISSING)


def start(role: str, environ: Mapping[str, str] = os.environ) -> None:
    """Trace from here on, as ``flashsale-ROLE``, if the environment says where to. Raises ``SettingError`` where the
    packages for it are not installed. Once for a process, after its fork.
    """
    global on, _tracer, _provider  # noqa: PLW0603 - one for a process, as OpenTelemetry's own
    if on or not is_wanted(environ):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415
    except ImportError as error:
        raise SettingError(_MISSING) from error

    class Ids(RandomIdGenerator):
        """Random, except for what follows from an order or an event."""

        def generate_trace_id(self) -> int:
            wanted = _wanted_ids.get()
            return wanted[0] if wanted else super().generate_trace_id()

        def generate_span_id(self) -> int:
            wanted = _wanted_ids.get()
            return wanted[1] if wanted else super().generate_span_id()

    named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": f"flashsale-{role}"}
    _provider = TracerProvider(resource=Resource.create(named), id_generator=Ids())
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("flashsale")
    on = True


def stop() -> None:
    """Send what is left, and trace no more."""
    global on  # noqa: PLW0603
    if on:
        on = False
        _provider.shutdown()


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@contextlib.contextmanager
def span(name: str, kind: str = "internal", **attributes: Any) -> Iterator["Span | None"]:
    """A span under the current one; None while off. ``kind`` is internal, client or server; a ``__`` in an attribute's
    name stands for its dot.
    """
    if not on:
        yield None
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    with _opened(name, kind=SpanKind[kind.upper()], attributes=_dotted(attributes)) as opened:
        yield opened


@contextlib.contextmanager
def request(method: str, headers: Mapping[str, str]) -> Iterator["Span"]:
    """The span of a request, under its caller's where its ``traceparent`` names one. Only while on."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    caller = TraceContextTextMapPropagator().extract(headers)
    with _opened(method, context=caller, kind=SpanKind.SERVER) as opened:
        yield opened


@contextlib.contextmanager
def of_order(name: str, order_id: str) -> Iterator[None]:
    """A span in an order's own trace; it and the current span link to each other."""
    if not on:
        yield
        return
    from opentelemetry import trace  # noqa: PLC0415

    around = trace.get_current_span()
    about = {"flashsale.order.id": order_id}
    links = [trace.Link(found)] if (found := around.get_span_context()).is_valid else []
    root = trace.set_span_in_context(trace.NonRecordingSpan(_context(_order_ids(order_id))))
    with _opened(name, context=root, links=links, attributes=about) as opened:
        if links:
            around.set_attributes(about)
            around.add_link(opened.get_span_context())
        yield


@contextlib.contextmanager
def of_orders(name: str, order_ids: Sequence[str]) -> Iterator[None]:
    """A span about a set of orders, linked to the trace of each; of one alone, a span in its trace."""
    if not on:
        yield
        return
    if len(order_ids) == 1:
        with of_order(name, order_ids[0]):
            yield
        return
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.context import Context  # noqa: PLC0415

    links = [trace.Link(_context(_order_ids(each))) for each in order_ids[:LINKS_MAX]]
    with _opened(name, context=Context(), links=links, attributes={"flashsale.orders": len(order_ids)}):
        yield


def here() -> "SpanContext":
    """The current span, for a link to it. Only while on."""
    from opentelemetry import trace  # noqa: PLC0415

    return trace.get_current_span().get_span_context()


def batch(
    sale_id: str, began_ns: int, asked_by: Sequence["SpanContext"], entry: str | None, error: Exception | None = None
) -> None:
    """A call of the hold script that is over, linked to the requests that it served. ``entry`` is the event that it
    wrote, if it wrote one. Only while on.
    """
    wanted = _event_ids(sale_id, entry) if entry else None
    about = {"flashsale.sale.id": sale_id, "flashsale.holds": len(asked_by)} | (
        {"flashsale.event": entry} if entry else {}
    )
    opened = _emit("hold.lua", began_ns, wanted, asked_by, about)
    if error is not None:
        _fail(opened, error)
    opened.end()


def brought(sale_id: str, events: Sequence[Event], began_ns: int) -> None:
    """Events that were brought into Postgres: one span for all, linked to the batches that wrote them, and one in the
    trace of each order that they are about. Only while on.
    """
    from opentelemetry import trace  # noqa: PLC0415

    held = [_context(_event_ids(sale_id, each.position.entry)) for each in events if each.kind is Kind.HELD]
    about = {
        "flashsale.sale.id": sale_id,
        "flashsale.events": len(events),
        "flashsale.event": events[-1].position.entry,
    }
    drain = _emit("drain", began_ns, None, held, about)
    for event in events:
        for token, record in event.holds.items():
            if event.kind is Kind.HELD or record.pay_by_ms is None:
                continue
            order_id = ids.order_id(sale_id, token)
            root = _order_ids(order_id)
            parent = None if event.kind is Kind.PAYING else trace.NonRecordingSpan(_context(root))
            about = {
                "flashsale.sale.id": sale_id,
                "flashsale.order.id": order_id,
                "flashsale.event": event.position.entry,
            }
            links = [drain.get_span_context()]
            _emit(f"order {event.kind}", event.at_ms * 1_000_000, None if parent else root, links, about, parent).end()
    drain.end()


def log_ids(_: Any, __: str, event: Any) -> Any:
    """A processor of structlog's: the line says which span it was written in."""
    if on and (found := here()).is_valid:
        event["trace_id"], event["span_id"] = f"{found.trace_id:032x}", f"{found.span_id:016x}"
    return event


@contextlib.contextmanager
def _opened(name: str, **how: Any) -> Iterator["Span"]:
    """The current span for as long as it lasts."""
    with _tracer.start_as_current_span(name, **how, record_exception=False, set_status_on_exception=False) as opened:
        try:
            yield opened
        except Exception as error:
            _fail(opened, error)
            raise


def _fail(opened: "Span", error: Exception) -> None:
    """By its type alone: a database's message may show the row, and with it a secret."""
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    opened.set_attribute("error.type", type(error).__name__)
    if getattr(error, "status", 500) >= 500:  # a refusal below that is an answer
        opened.set_status(Status(StatusCode.ERROR))


def _emit(
    name: str,
    began_ns: int,
    wanted: tuple[int, int] | None,
    links: Iterable["SpanContext"],
    attributes: Mapping[str, Any],
    parent: "Span | None" = None,
) -> "Span":
    """A span that began some time ago, with ids of its own or the wanted ones. Its caller ends it."""
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.context import Context  # noqa: PLC0415

    context = trace.set_span_in_context(parent, Context()) if parent else Context()
    linked = [trace.Link(each) for each in list(links)[:LINKS_MAX] if each.is_valid]
    reset = _wanted_ids.set(wanted)
    try:
        return _tracer.start_span(
            name, context, links=linked, attributes=dict(attributes), start_time=min(began_ns, time.time_ns())
        )
    finally:
        _wanted_ids.reset(reset)


def _dotted(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}


def _order_ids(order_id: str) -> tuple[int, int]:
    return _derived(f"order {order_id}")


def _event_ids(sale_id: str, entry: str) -> tuple[int, int]:
    return _derived(f"event {sale_id} {entry}")


def _derived(text: str) -> tuple[int, int]:
    """A trace's id and its first span's, never 0."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:16]) | 1, int.from_bytes(digest[16:24]) | 1


def _context(wanted: tuple[int, int]) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415

    return SpanContext(*wanted, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
