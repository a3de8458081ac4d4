"""The least HTTP/1.1 client that sends webhooks fast: one keep-alive connection, POST, and the answer's status."""

import asyncio
from typing import cast
from urllib.parse import urlsplit

import httptools


class Target:
    """Where webhooks go. Raises `ValueError` where `url` is not http(s) with a host."""

    def __init__(self, url: str, secret: str, events: list[str] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"a webhook target is an http or https URL, not {url!r}")
        self.url, self.secret = url, secret
        self.events = frozenset(events or ["*"])
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            "User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nAccept: */*\r\n"
            "Content-Type: application/json; charset=utf-8\r\n"
        )

    def wants(self, kind: str) -> bool:
        return "*" in self.events or kind in self.events


class Wire(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None
        self._keep = True
        self._status = 0

    @classmethod
    async def open(cls, target: Target, seconds: float) -> "Wire":
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            _, wire = await loop.create_connection(cls, target.host, target.port, ssl=True if target.tls else None)
        return wire

    @property
    def usable(self) -> bool:
        return self._keep and self._transport is not None and not self._transport.is_closing()

    async def post(self, head: str, body: bytes, seconds: float) -> int:
        """The status. Raises `OSError` where the connection breaks, `TimeoutError` where nobody answers."""
        assert self._transport is not None
        self._parser, self._status = httptools.HttpResponseParser(self), 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        try:
            async with asyncio.timeout(seconds):
                return await self._answer
        except TimeoutError:
            self.close()
            raise

    def close(self) -> None:
        self._keep = False
        if self._transport is not None:
            self._transport.close()

    # -- asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._finish(ConnectionError("the target does not answer in HTTP"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep = False
        # An answer without a length ends with its connection.
        self._finish(self._status or exc or ConnectionResetError("the target closed the connection"))

    # -- httptools's side
    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self._keep = self._keep and self._parser.should_keep_alive()
        self._finish(self._status)

    def _finish(self, result: int | Exception) -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        if isinstance(result, int):
            answer.set_result(result)
        else:
            answer.set_exception(result)
