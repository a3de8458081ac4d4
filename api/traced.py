"""A span for each request, around everything else. Only a process that traces has it."""

from typing import Any, Final, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import NO_ROUTE
from api.problems import REQUEST_ID_IN_SCOPE
from api.wire import CODE_IN_SCOPE
from engine import tracing

CONTEXT_HEADERS: Final = (b"traceparent", b"tracestate")
UNSEEN: Final = ("/health/", "/metrics")
"""Asked every few seconds by machines: nobody looks for these."""


class Traced:
    """Names the span by method and route, never by the path: ids in it are the shop's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = cast(dict[str, Any], scope)
        if not tracing.on or here["type"] != "http" or here["path"].startswith(UNSEEN):
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        headers = {name.decode(): value.decode("latin-1") for name, value in here["headers"] if name in CONTEXT_HEADERS}
        with tracing.request(here["method"], headers) as span:
            try:
                await self._app(scope, receive, send_and_see)
            finally:
                route = here.get("path_template") or NO_ROUTE
                span.update_name(f"{here['method']} {route}")
                found = {
                    "http.request.method": here["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                    "flashsale.code": here.get(CODE_IN_SCOPE),
                    "flashsale.request.id": here.get(REQUEST_ID_IN_SCOPE),
                }
                span.set_attributes({name: value for name, value in found.items() if value})
