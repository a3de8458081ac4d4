"""A small HTTP/1.1 client for load: one protocol for each connection, one request at a time on it, bytes in and out.

It costs about 30 us a request, so that a generator on the same two cores measures the server and not itself.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

Done = Callable[[int, bytes], None]
"""Called with the status and the body; status 0 is a connection that was refused or lost."""

NUMBER_DIGITS: Final = 9
PLACE: Final = "{n}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, again and again. ``{n}`` anywhere is the request's number, nine digits long."""

    method: str
    path: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoder(self) -> Callable[[int], bytes]:
        """From a number to the bytes of its request; the number's fixed length keeps the content length."""
        filled = self.body.replace(PLACE, "0" * NUMBER_DIGITS).encode()
        head = f"{self.method} {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        if self.body:
            head += f"content-type: application/json\r\ncontent-length: {len(filled)}\r\n"
        template = (head + "\r\n" + self.body).encode()
        place = PLACE.encode()
        if place not in template:
            return lambda _: template
        return lambda number: template.replace(place, b"%09d" % number)


class Connection(asyncio.Protocol):
    """A keep-alive connection. ``send`` only after the answer before; ``on_lost`` is told at its end."""

    def __init__(self, on_lost: Callable[["Connection"], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._body_at = 0
        self._end = 0
        self._status = 0
        self._done: Done | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._transport = None
        self._answer(0, b"")
        self._on_lost(self)

    def send(self, request: bytes, done: Done) -> None:
        self._done = done
        if self._transport is None:
            self._answer(0, b"")
            return
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._end and not self._read_head():
            return
        if len(self._received) >= self._end:
            body = bytes(self._received[self._body_at : self._end])
            del self._received[: self._end]
            self._end = 0
            self._answer(self._status, body)

    def _read_head(self) -> bool:
        at = self._received.find(b"\r\n\r\n")
        if at < 0:
            return False
        head = bytes(self._received[:at]).lower()
        self._status = int(head[9:12])
        self._body_at = at + 4
        _, found, rest = head.partition(b"\r\ncontent-length:")
        size = int(rest.partition(b"\r\n")[0]) if found else 0
        self._end = self._body_at + size
        return True

    def _answer(self, status: int, body: bytes) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(status, body)


def word(status: int, body: bytes) -> str:
    """An answer as it is counted: its status, and a problem's code."""
    if status == 0:
        return "no answer"
    if status < 400:
        return str(status)
    try:
        code = json.loads(body).get("code", "")
    except (ValueError, AttributeError):
        code = ""
    return f"{status} {code}".strip()


async def ask(host: str, port: int, request: Request, number: int = 0) -> tuple[int, Any]:
    """One request on a connection of its own: status and JSON (None where there is none)."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
    _, connection = await loop.create_connection(lambda: Connection(lambda _: None), host, port)
    connection.send(request.encoder()(number), lambda status, body: answer.set_result((status, body)))
    status, body = await answer
    connection.close()
    return status, json.loads(body) if body else None
