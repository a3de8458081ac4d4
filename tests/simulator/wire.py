"""A connection that sends many commands at once and gives their replies as they are: the simulator's steps are short,
and a client that wraps each reply would take more time than Redis.
"""

import socket
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import hiredis
from redis.exceptions import ResponseError

Part = str | bytes | int


class Wire:
    """Commands to one Redis by its URL (``redis://...``)."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self._loaded: set[str] = set()
        if parts.password:
            self.send(("AUTH", unquote(parts.username or "default"), unquote(parts.password)))
        if database := parts.path.strip("/"):
            self.send(("SELECT", database))

    def close(self) -> None:
        self._socket.close()

    def send(self, *commands: Sequence[Part]) -> list[Any]:
        """All of them in one go; the replies in their order. Raises ``ResponseError`` for one that Redis refused."""
        replies = self.send_packed([pack(*command) for command in commands])
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise ResponseError(str(reply)) from None
        return replies

    def send_packed(self, packed: Sequence[bytes], count: int = 0) -> list[Any]:
        """The same for commands from ``pack``; ``count`` where there are more than parts. An error is a reply."""
        self._socket.sendall(b"".join(packed))
        replies: list[Any] = []
        gets = self._reader.gets
        for _ in range(count or len(packed)):
            while (reply := gets()) is False:
                received = self._socket.recv(1 << 16)
                if not received:
                    raise ConnectionError("Redis closed the connection")
                self._reader.feed(received)
            replies.append(reply)
        return replies

    def know(self, sha: str, source: str) -> None:
        """Have Redis keep a script. Raises ``ResponseError`` where it does not compile."""
        if sha not in self._loaded:
            self.send(("SCRIPT", "LOAD", source))
            self._loaded.add(sha)


def pack(*command: Part) -> bytes:
    packed: bytes = hiredis.pack_command(cast(Any, command))
    return packed
