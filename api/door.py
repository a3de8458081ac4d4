"""The outermost layer of the application: a request's id, its measure, and the methods that every route answers."""

from collections.abc import Collection
from typing import Any, cast

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api import origins, problems
from api.metrics import NO_ROUTE
from api.origins import SAFE_METHODS
from api.problems import REQUEST_ID_IN_SCOPE
from api.visits import Visits
from api.wire import CODE_IN_SCOPE, NO_SNIFF, NO_STORE, is_private, read_headers


class Door:
    """``X-Request-Id`` comes in or is made here, and goes out with every answer. ``HEAD`` is answered as ``GET``
    without its body.
    """

    def __init__(self, app: ASGIApp, visits: Visits, known_origins: Collection[bytes]) -> None:
        self._app = app
        self._visits = visits
        self._known_origins = known_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = cast(dict[str, Any], scope)
        if here["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = read_headers(here["headers"])
        request_id, began = self._visits.begin(headers.request_id)
        method: str = here["method"]
        if method == "HEAD":  # the server leaves the body out, by its own copy of the method
            here = {**here, "method": "GET"}
        here[REQUEST_ID_IN_SCOPE] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        ours = ((b"x-request-id", request_id.encode()), NO_SNIFF)
        private = is_private(here["path"])
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = list(message["headers"])
                if private and all(name != b"cache-control" for name, _ in given):
                    given.append(NO_STORE)
                message["headers"] = [*given, *ours]
            await send(message)

        try:
            if method not in SAFE_METHODS and origins.is_foreign(headers, self._known_origins):
                await problems.answer(origins.refusal())(cast(Scope, here), receive, send_with_id)
            else:
                await self._app(cast(Scope, here), receive, send_with_id)
        finally:
            route: str = here.get("path_template") or NO_ROUTE
            code: str = here.get(CODE_IN_SCOPE) or ""
            self._visits.end(request_id, began, method, route, status, code)
