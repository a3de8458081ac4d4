"""uvicorn's HTTP protocol with bounds: on headers, on bodies, and on the time that a client takes to say what it
wants.
"""

from asyncio import TimerHandle, Transport
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX_BYTES: Final = 16 * 1024
"""The request line and all headers."""
DISCARD_MAX_BYTES: Final = 16 * 1024 * 1024
"""How much of a body that was refused is read and thrown away, so that its sender gets to read why; then the
connection is closed.
"""
REQUEST_SECONDS: Final = 20
"""From the first byte of a request, or from a connection's start, to the request's last."""


class BoundedHttp(HttpToolsProtocol):
    """Closes what sends too much or too slowly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0
        self._body = 0
        self._unfinished = False
        self._too_slow: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._unfinished and self._too_slow is None:
            self._await_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._body = 0
        self._unfinished = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self._body > DISCARD_MAX_BYTES:
            self.transport.close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._complete()
        super().on_message_complete()

    def _complete(self) -> None:
        self._unfinished = False
        self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """What the parser refused, as every other error looks."""
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
