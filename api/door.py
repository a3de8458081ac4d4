"""The outermost layer of every request: its id, its measure, and the methods that every route answers."""

import time
from itertools import count
from secrets import token_hex
from typing import Any, Final, cast

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import NO_ROUTE, Metrics
from api.problems import REQUEST_ID_IN_SCOPE
from api.wire import CODE_IN_SCOPE

log = structlog.get_logger("api")

REQUEST_ID_MAX: Final = 128


class Door:
    """``X-Request-Id`` comes in or is made here, and goes out with every answer. ``HEAD`` is answered as ``GET``
    without its body.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log_requests: bool = False) -> None:
        self._app = app
        self._metrics = metrics
        self._log_requests = log_requests
        self._prefix = token_hex(6)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = cast(dict[str, Any], scope)
        if here["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        method: str = here["method"]
        if method == "HEAD":  # the server leaves the body out, by its own copy of the method
            here = {**here, "method": "GET"}
        request_id = self._request_id(here["headers"])
        here[REQUEST_ID_IN_SCOPE] = request_id
        header = (b"x-request-id", request_id.encode())
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self._app(cast(Scope, here), receive, send_with_id)
        finally:
            seconds = time.perf_counter() - began
            route: str = here.get("path_template") or NO_ROUTE
            code: str = here.get(CODE_IN_SCOPE) or ""
            self._metrics.answered(method, route, status, code, seconds)
            if self._log_requests:
                log.debug(
                    "request",
                    request_id=request_id,
                    method=method,
                    route=route,
                    status=status,
                    code=code,
                    ms=round(seconds * 1000, 2),
                )

    def _request_id(self, headers: Any) -> str:
        for name, value in headers:
            if name == b"x-request-id":
                if 0 < len(value) <= REQUEST_ID_MAX and value.isascii() and _is_plain(value):
                    return cast(str, value.decode())
                break
        return f"{self._prefix}-{next(self._numbers):x}"


_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-/+=")


def _is_plain(value: bytes) -> bool:
    return _PLAIN.issuperset(value)
