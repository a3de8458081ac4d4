"""The express way: what a sale asks for a hundred thousand times goes from the socket to its answer without a task, a
scope or a router of its own. Whatever is unusual about a request takes the ordinary way, to the same answer.
"""

import re
from asyncio import Event, Transport
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, NamedTuple, cast

import structlog

from api import ordering, origins, problems, receiving, shop, taking
from api.protocol import BoundedHttp
from api.services import Services
from api.visits import Visits
from api.wire import BODY_MAX_BYTES, NO_SNIFF, NO_STORE, Answer, Headers, is_private, read_headers
from engine import ids
from engine.batcher import Waiting

Begin = Callable[["Exchange", Headers, bytes], Waiting | None]

_PRODUCT: Final = re.compile(rb"/v1/products/(%b)" % ids.NAME.pattern.encode())
_PRODUCT_ROUTE: Final = "/v1/products/{product_id}"
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_NOBODY_WAITS: Final = Event()


class Way(NamedTuple):
    """Where a request goes: its route as the metrics name it, and what begins to answer it."""

    method: str
    route: str
    begin: Begin
    tail: bytes
    """What ends the head of each answer, but for the request's id."""


def _tail(route: str) -> bytes:
    headers = [NO_SNIFF, NO_STORE] if is_private(route) else [NO_SNIFF]
    return b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"x-request-id: %b\r\n\r\n"


_PRODUCT_TAIL: Final = _tail(_PRODUCT_ROUTE)


class Express:
    """The routes that have an express way. One for a process."""

    def __init__(self, services: Services, visits: Visits) -> None:
        self.visits = visits
        self.known_origins = services.settings.known_origins
        posts = {
            "/v1/holds": taking.begin,
            "/v1/orders": ordering.begin,
            "/v1/payments/webhook": receiving.begin,
        }
        self._posts = {
            url.encode(): Way("POST", url, partial(begin, services), _tail(url)) for url, begin in posts.items()
        }
        self._products = shop.Products(services)

    def find(self, method: bytes, url: bytes) -> Way | None:
        """The way of a request line, if it has one."""
        if method == b"POST":
            return self._posts.get(url)
        if method == b"GET" and (found := _PRODUCT.fullmatch(url)):
            return Way("GET", _PRODUCT_ROUTE, partial(self._products.begin, found[1].decode()), _PRODUCT_TAIL)
        return None


class Exchange:
    """One request and its answer. The connection treats it as uvicorn's own cycle, of which it has the attributes."""

    __slots__ = (
        "_began",
        "_begin",
        "_headers",
        "_method",
        "_protocol",
        "_request_id",
        "_route",
        "_tail",
        "_visits",
        "_waiting",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
    )
    message_event: Final = _NOBODY_WAITS

    def __init__(self, protocol: "ExpressHttp", visits: Visits, way: Way, headers: Headers) -> None:
        self.body = b""
        self.more_body = True
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self._protocol = protocol
        self._visits = visits
        self._method, self._route, self._begin, self._tail = way
        self._headers = headers
        self._request_id, self._began = visits.begin(headers.request_id)
        self._waiting: Waiting | None = None

    def begin(self) -> None:
        """The request is whole."""
        self.more_body = False
        try:
            self._waiting = self._begin(self, self._headers, self.body)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            self.fail(error)

    def give_up(self) -> None:
        """The client hung up."""
        if self._waiting is not None:
            self._waiting.withdraw()
        if not self.response_complete:
            self._end(499, "")

    def later(self, work: Coroutine[Any, Any, Answer]) -> None:
        """Answer with what this gives or raises."""
        protocol = self._protocol
        task = protocol.loop.create_task(self._finish(work))
        protocol.tasks.add(task)
        task.add_done_callback(protocol.tasks.discard)

    async def _finish(self, work: Coroutine[Any, Any, Answer]) -> None:
        structlog.contextvars.bind_contextvars(request_id=self._request_id)
        try:
            answer = await work
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            self.fail(error)
        else:
            self.answer(answer)

    def fail(self, error: Exception) -> None:
        """Answer with the problem that an error is."""
        self.answer(problems.of_error(error, self._request_id))

    def answer(self, answer: Answer) -> None:
        """Write it, unless the client is gone."""
        if self.response_complete:
            return
        protocol = self._protocol
        transport = protocol.transport
        if not transport.is_closing():
            parts = [answer.head, *(b"%b: %b\r\n" % pair for pair in protocol.server_state.default_headers)]
            if not self.keep_alive:
                parts.append(b"connection: close\r\n")
            parts += (self._tail % self._request_id.encode(), answer.body)
            transport.write(b"".join(parts))
            if not self.keep_alive:
                transport.close()
        self._end(answer.status, answer.code)
        protocol.on_response_complete()

    def _end(self, status: int, code: str) -> None:
        self.response_complete = True
        self._waiting = None  # it knows whom to tell: without this each request would be a circle for the collector
        self._visits.end(self._request_id, self._began, self._method, self._route, status, code)


class ExpressHttp(BoundedHttp):
    """HTTP/1.1 with the express way before the application's."""

    cycle: Any

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._coming: Exchange | None = None  # its body is being read
        self._express: Express | None = cast(Any, self.app).state.get("express")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if isinstance(self.cycle, Exchange) and not self.cycle.response_complete:
            self.cycle.give_up()

    def on_headers_complete(self) -> None:
        exchange = self._open()
        if exchange is None:
            super().on_headers_complete()
        else:
            self._end_head()
            self._coming = exchange
            self.cycle = exchange

    def on_body(self, body: bytes) -> None:
        if self._coming is None:
            super().on_body(body)
        else:
            self._coming.body += body

    def on_message_complete(self) -> None:
        if self._coming is None:
            super().on_message_complete()
            return
        self._complete()
        exchange, self._coming = self._coming, None
        exchange.begin()

    def _open(self) -> Exchange | None:
        """An exchange, where the request that begins has an express way and nothing about it is unusual."""
        express, parser = self._express, self.parser
        if express is None or not (self.cycle is None or self.cycle.response_complete) or self.flow.write_paused:
            return None
        way = express.find(parser.get_method(), self.url)
        if way is None or not parser.should_keep_alive() or parser.get_http_version() != "1.1":
            return None
        if not _UNUSUAL.isdisjoint(name for name, _ in self.headers):
            return None
        headers = read_headers(self.headers)
        if headers.content_length is not None and int(headers.content_length) > BODY_MAX_BYTES:
            return None
        if way.method == "POST" and origins.is_foreign(headers, express.known_origins):
            return None  # refused where every other request is
        return Exchange(self, express.visits, way, headers)
