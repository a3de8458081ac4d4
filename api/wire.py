"""What goes over the wire: a request's headers and body, bounded, and the answer as bytes."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast

from litestar.types import Receive, Scope, Send

from persistence.refusals import Refusal

BODY_MAX_BYTES: Final = 64 * 1024
KEY_MAX_LENGTH: Final = 255
FAULTS_MAX: Final = 20
"""Faults of one body that its answer names."""
FIELD_MAX_CHARACTERS: Final = 120
MESSAGE_MAX_CHARACTERS: Final = 200
CODE_IN_SCOPE: Final = "flashsale.code"
"""Where an answer leaves its problem's code for the metrics."""

JSON: Final = (b"content-type", b"application/json")
REPLAYED_HEADERS: Final = (JSON, (b"idempotent-replayed", b"true"))
PROBLEM_JSON: Final = (b"content-type", b"application/problem+json")
NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
"""On every answer: no browser takes it for anything but what its type says."""
NO_STORE: Final = (b"cache-control", b"no-store")
"""On every answer that holds, or may hold, what is a customer's or an operator's."""
_PRIVATE: Final = ("/v1/holds", "/v1/orders", "/v1/admin", "/ops")

RawHeaders = Iterable[tuple[bytes, bytes]]


def is_private(path: str) -> bool:
    """Whether no cache may keep the answers of this path."""
    return path.startswith(_PRIVATE)


class Answer:
    """A whole answer, and an ASGI application that gives it. ``code`` is the problem's, empty for none."""

    __slots__ = ("_head", "body", "code", "headers", "status")

    def __init__(
        self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (JSON,), code: str = ""
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.code = code
        self._head: bytes | None = None

    @property
    def head(self) -> bytes:
        """The status line and the headers as they go over the wire; made once, for many may get the same answer."""
        if self._head is None:
            parts = [b"HTTP/1.1 %d %b\r\n" % (self.status, HTTPStatus(self.status).phrase.encode())]
            parts += [b"%b: %b\r\n" % pair for pair in self._all_headers()]
            self._head = b"".join(parts)
        return self._head

    def _all_headers(self) -> list[tuple[bytes, bytes]]:
        if self.status in (204, 304):  # RFC 9110, 8.6: no length where there can be no content
            return list(self.headers)
        return [(b"content-length", b"%d" % len(self.body)), *self.headers]

    def to_asgi_response(self, **_: Any) -> "Answer":
        """What Litestar asks of an exception handler's answer."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        cast(dict[str, Any], scope)[CODE_IN_SCOPE] = self.code
        await send({"type": "http.response.start", "status": self.status, "headers": self._all_headers()})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def allow(methods: Iterable[str]) -> tuple[bytes, bytes]:
    """The header that names a route's methods; what answers ``GET`` answers ``HEAD`` too."""
    known = set(methods)
    return b"allow", ", ".join(sorted(known | {"HEAD"} if "GET" in known else known)).encode()


class Headers(NamedTuple):
    """The headers that this API reads, found in one pass; None where a request has none of that name."""

    authorization: bytes | None
    content_type: bytes | None
    content_length: bytes | None
    idempotency_key: bytes | None
    if_none_match: bytes | None
    request_id: bytes | None
    stripe_signature: bytes | None
    origin: bytes | None
    sec_fetch_site: bytes | None
    host: bytes | None


_READ: Final = {
    b"authorization": 0,
    b"content-type": 1,
    b"content-length": 2,
    b"idempotency-key": 3,
    b"if-none-match": 4,
    b"x-request-id": 5,
    b"stripe-signature": 6,
    b"origin": 7,
    b"sec-fetch-site": 8,
    b"host": 9,
}


def read_headers(raw: RawHeaders) -> Headers:
    """The first value of each header that is read here."""
    found: list[bytes | None] = [None] * len(_READ)
    for name, value in raw:
        index = _READ.get(name)
        if index is not None and found[index] is None:
            found[index] = value
    return Headers(*found)


async def read_body(receive: Receive, headers: Headers) -> bytes:
    """The body, never more than ``BODY_MAX_BYTES`` of it in memory. Raises ``Refusal``: body_too_large."""
    if headers.content_length is not None and int(headers.content_length) > BODY_MAX_BYTES:
        raise _too_large()
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= BODY_MAX_BYTES:
        message = await _next(receive)
        body += message.get("body", b"")
    if len(body) > BODY_MAX_BYTES:
        raise _too_large()
    return body


async def _next(receive: Receive) -> dict[str, Any]:
    message = cast(dict[str, Any], await receive())
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


class ClientGone(Exception):
    """The client hung up before its request was whole: nobody waits for an answer."""


def _too_large() -> Refusal:
    return Refusal("body_too_large", f"A body is at most {BODY_MAX_BYTES} bytes.")


def check_json(headers: Headers) -> None:
    """Raises ``Refusal``: unsupported_media_type. A body without a content type is taken for JSON."""
    kind = headers.content_type
    if kind is None or kind == b"application/json":
        return
    if kind.partition(b";")[0].strip().lower() != b"application/json":
        raise Refusal("unsupported_media_type", "Send the body as application/json.")


def read_key(headers: Headers) -> str | None:
    """The Idempotency-Key, where there is one. Raises ``Refusal``: validation_error."""
    if headers.idempotency_key is None:
        return None
    key = headers.idempotency_key.decode("latin-1")
    if not 1 <= len(key) <= KEY_MAX_LENGTH or not key.isprintable():
        raise invalid([("Idempotency-Key", f"is 1 to {KEY_MAX_LENGTH} printable characters")])
    return key


def invalid(faults: Iterable[tuple[str, str]], *, status: int | None = None) -> Refusal:
    """A ``validation_error`` with each fault's field and message: the first ``FAULTS_MAX`` of them, each bounded in
    length, so that no body makes an answer many times its size.
    """
    every = list(faults)
    errors = [
        {"field": _shortened(field, FIELD_MAX_CHARACTERS), "message": _shortened(message, MESSAGE_MAX_CHARACTERS)}
        for field, message in every[:FAULTS_MAX]
    ]
    detail = "; ".join(f"{error['field']}: {error['message']}" for error in errors[:3])
    if len(every) > 3:
        detail += f"; and {len(every) - 3} more"
    return Refusal("validation_error", detail, status=status, errors=errors)


def _shortened(text: str, at_most: int) -> str:
    return text if len(text) <= at_most else text[: at_most - 3] + "..."
