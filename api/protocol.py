"""uvicorn's HTTP protocol with bounds: on headers, on bodies, on the requests that one connection has under way, and on
the time that a client takes to send a request. Bytes that belong to no framed request are never parsed.
"""

from asyncio import TimerHandle, Transport
from typing import Any, Final

import msgspec
from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX_BYTES: Final = 16 * 1024
"""The request line and all headers."""
DISCARD_MAX_BYTES: Final = 16 * 1024 * 1024
"""How much of a body that was refused is read and thrown away, so that its sender gets to read why; then the
connection is closed.
"""
REQUEST_SECONDS: Final = 20
"""From the first byte of a request, or from a connection's start, to the request's last."""
PIPELINED_MAX: Final = 16
"""Requests of one connection that wait for the answer of an earlier one. Beyond it nothing more is read or parsed."""
SLICE_BYTES: Final = 2048
"""What the parser gets at once. An ordinary request is one slice; a pipeline of the smallest requests grows by a
hundred of them at most before ``PIPELINED_MAX`` is looked at again.
"""


class Flow(FlowControl):
    """Does not resume reading while ``held``: bytes that were read already wait to be parsed."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection that sends too much, too slowly, or what is not HTTP.

    ``Upgrade`` is ignored, as RFC 9110 allows: the parser does not frame the body of such a request, so it is framed
    here by its ``Content-Length``, and the connection closes after the answer.
    """

    flow: Flow

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0
        self._body = 0
        self._unfinished = False
        self._in_head = False
        self._ignores_input = False  # after an error, and behind a request that asked for an upgrade
        self._body_left: int | None = None  # of a body that the parser does not frame
        self._unparsed = b""
        self._parses_soon = False
        self._refusal: str | None = None  # is sent behind the answers of the requests before
        self._too_slow: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._ignores_input, self._unparsed = True, b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._unparsed:
            self._unparsed += data
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse what came, and give a request that is not whole its time."""
        self._feed(data)
        if self._unfinished and self._too_slow is None:
            self._await_request()

    def _feed(self, data: bytes) -> None:
        """Give the parser slices until ``PIPELINED_MAX`` requests wait; keep the rest."""
        for at in range(0, len(data), SLICE_BYTES):
            if self._ignores_input:
                self._take_own_body(data[at:])
                return
            if len(self.pipeline) >= PIPELINED_MAX:
                self._hold(data[at:])
                return
            try:
                self.parser.feed_data(data[at : at + SLICE_BYTES])
            except HttpParserUpgrade as upgrade:
                self._ignores_input = True
                self._take_own_body(data[at + upgrade.args[0] :])
                return
            except HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    def _hold(self, data: bytes) -> None:
        self._unparsed = data
        self.flow.pause_reading()
        self.flow.held = True

    def _go_on(self) -> None:
        """Parse what is held. Never inside a callback of the parser: an answer may be given in one."""
        self._parses_soon = False
        if self.transport.is_closing() or len(self.pipeline) >= PIPELINED_MAX:
            return
        data, self._unparsed = self._unparsed, b""
        self.flow.held = False
        self._parse(data)
        if self._unfinished or self._answers_wait():
            self._unset_keepalive_if_required()  # the connection is not idle
        if not (self._unparsed or self.pipeline):
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal is not None and not self._answers_wait():
            self._send_refusal()
        elif self._unparsed and not self._parses_soon:
            self._parses_soon = True
            self.loop.call_soon(self._go_on)

    def _take_own_body(self, data: bytes) -> None:
        """The body that belongs to an upgrade's request. What comes behind it is dropped."""
        if self._body_left is None:
            return
        piece = data[: self._body_left]
        self._body_left -= len(piece)
        if piece:
            self.on_body(piece)
        if not self._body_left:
            self._body_left = None
            self._complete()
            if not self.cycle.response_complete:
                self.cycle.more_body = False
                self.cycle.message_event.set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._body = 0
        self._unfinished = self._in_head = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._count_head(len(name) + len(value) + 4)
            return  # a trailer: it comes after the body that it would describe
        super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def _end_head(self) -> None:
        """Raises ``ValueError`` for a request that cannot be framed."""
        self._in_head = False
        if not self.parser.should_upgrade():
            return
        headers = dict(self.headers)
        if self.parser.get_method() == b"CONNECT" or b"transfer-encoding" in headers:
            raise ValueError("neither CONNECT nor a chunked body with Upgrade is taken")
        self._body_left = int(headers.get(b"content-length", 0))

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self._body > DISCARD_MAX_BYTES:
            self.transport.close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # its body comes yet
        self._complete()
        super().on_message_complete()

    def _complete(self) -> None:
        self._unfinished = False
        self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refused. Earlier requests are answered first, and nothing more is parsed."""
        if self._ignores_input:
            return
        self._ignores_input, self._body_left, self._unparsed = True, None, b""
        self._refusal = msg
        in_body = self._unfinished and not self._in_head
        if in_body and self.pipeline:
            self.pipeline.popleft()  # the refused request itself waits for an earlier one
        elif in_body or not self._answers_wait():
            self._send_refusal()

    def _answers_wait(self) -> bool:
        # uvicorn does not say that there is none before the first request.
        idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]
        return bool(self.pipeline) or not idle

    def _send_refusal(self) -> None:
        """As every other error looks."""
        msg, self._refusal = self._refusal, None
        if self.transport.is_closing():
            return
        body = msgspec.json.encode(
            {
                "type": "/problems/validation_error",
                "title": "The request is not valid",
                "status": 400,
                "detail": msg,
                "code": "validation_error",
                "errors": [{"field": "request", "message": msg}],
            }
        )
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_MAX_BYTES:
            # The parser passes it on as its own error, which is answered with 400.
            raise ValueError("the headers are too large")

    def _await_request(self) -> None:
        self._too_slow = self.loop.call_later(REQUEST_SECONDS, self._close_slow)

    def _stop_waiting(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None

    def _close_slow(self) -> None:
        self._too_slow = None
        if not self.transport.is_closing():
            self.transport.close()
