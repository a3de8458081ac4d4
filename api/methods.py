"""``OPTIONS``: the methods that a path knows. The framework's own answer names only those of a path's first handler."""

from collections.abc import Iterable
from typing import Any

from litestar import route
from litestar.handlers import HTTPRouteHandler

from api.wire import Answer, allow


def options(handlers: Iterable[Any]) -> list[HTTPRouteHandler]:
    """A handler for each path, to be registered before the others; a route in raw ASGI answers every method itself."""
    known: dict[str, set[str]] = {}
    for handler in handlers:
        if isinstance(handler, HTTPRouteHandler):
            for path in handler.paths:
                known.setdefault(path, {"OPTIONS"}).update(str(method) for method in handler.http_methods)
    return [_handler(path, methods) for path, methods in known.items()]


def _handler(path: str, methods: set[str]) -> HTTPRouteHandler:
    @route(path, http_method="OPTIONS")
    async def answer() -> Answer:
        return Answer(204, b"", (allow(methods),))

    return answer
