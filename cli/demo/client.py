"""A small HTTP client for thousands of customers in one process: keep-alive connections, httptools' parser, JSON in
and out.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import httptools
import msgspec

ANSWER_SECONDS_MAX = 30.0
CONNECTION_TRIES = 3
"""A connection that rested may be closed by its server at the very moment of the next request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``seconds`` from the first byte sent to the last byte read."""

    status: int
    headers: dict[str, str]
    body: Any
    seconds: float

    @property
    def code(self) -> str:
        """The problem's code, where it is one."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""

    @property
    def retry_after(self) -> float | None:
        """Seconds."""
        text = self.headers.get("retry-after")
        return float(text) if text else None


class NoAnswer(ConnectionError):
    """The server did not answer; the request may or may not have been done."""


class Client:
    """All requests to one server, over ``connections`` at most."""

    def __init__(self, base_url: str, *, connections: int, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname
        assert parts.port
        self._host, self._port = parts.hostname, parts.port
        self._head = "".join(
            f"{name}: {value}\r\n" for name, value in {"Host": f"{self._host}:{self._port}", **(headers or {})}.items()
        )
        self._free = asyncio.Semaphore(connections)
        self._idle: deque[_Connection] = deque()

    async def get(self, path: str) -> Answer:
        return await self._send("GET", path, "", b"")

    async def delete(self, path: str) -> Answer:
        return await self._send("DELETE", path, "", b"")

    async def put(self, path: str, body: object) -> Answer:
        return await self._send("PUT", path, _JSON, msgspec.json.encode(body))

    async def post(self, path: str, body: object = None, *, key: str = "") -> Answer:
        extra = f"Idempotency-Key: {key}\r\n" if key else ""
        if body is None:
            return await self._send("POST", path, extra, b"")
        return await self._send("POST", path, _JSON + extra, msgspec.json.encode(body))

    async def post_form(self, path: str, fields: Mapping[str, str]) -> Answer:
        head = "Content-Type: application/x-www-form-urlencoded\r\n"
        return await self._send("POST", path, head, urlencode(fields).encode())

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _send(self, method: str, path: str, head: str, body: bytes) -> Answer:
        """Sent again where the connection was cut: every POST of a customer has a key that makes that safe."""
        request = f"{method} {path} HTTP/1.1\r\n{self._head}{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        async with self._free:
            for last in [False] * (CONNECTION_TRIES - 1) + [True]:
                try:
                    return await self._once(request)
                except (OSError, httptools.HttpParserError) as error:
                    if last:
                        raise NoAnswer(f"{method} {path}: {str(error) or type(error).__name__}") from error
                    await asyncio.sleep(0.05)
        raise AssertionError

    async def _once(self, request: bytes) -> Answer:
        connection = self._rested() or await self._connect()
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                answer = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if connection.open:
            self._idle.append(connection)
        return answer

    def _rested(self) -> "_Connection | None":
        """One that is still open; the server closes those that rest for long, many at a time."""
        while self._idle:
            if (connection := self._idle.pop()).open:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(_Connection, self._host, self._port)
        return protocol


_JSON = "Content-Type: application/json\r\n"


@dataclass(slots=True, eq=False)
class _Connection(asyncio.Protocol):
    """One request at a time."""

    open: bool = False
    _transport: asyncio.Transport | None = None
    _answer: asyncio.Future[Answer] | None = None
    _parser: Any = None
    _headers: dict[str, str] = field(default_factory=dict)
    _body: bytearray = field(default_factory=bytearray)
    _began: float = 0.0

    async def ask(self, request: bytes) -> Answer:
        if self._transport is None or not self.open:
            raise ConnectionResetError("the connection was closed")
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body = {}, bytearray()
        self._answer = asyncio.get_running_loop().create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError) as error:
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(error)
            self.close()

    # -- what the parser calls
    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer is None or self._answer.done():
            return
        is_json = "json" in self._headers.get("content-type", "")
        body = msgspec.json.decode(self._body) if is_json and self._body else bytes(self._body)
        seconds = time.perf_counter() - self._began
        self._answer.set_result(Answer(self._parser.get_status_code(), self._headers, body, seconds))
