"""The yardstick: what the same framework, on the same server, costs when it does nothing. These handlers never change.

``python -m loadtests.yardstick FD`` serves on the listening socket that it was given.
"""

import sys
from typing import Any

import msgspec
from litestar import Litestar, asgi, get, post
from litestar.types import Receive, Scope, Send

from loadtests.serving import serve_process


class Line(msgspec.Struct):
    product_id: str
    qty: int


class Wanted(msgspec.Struct):
    customer_id: str
    product_id: str | None = None
    qty: int = 1
    lines: list[Line] | None = None


class Nothing(msgspec.Struct):
    id: str
    status: str


@post("/typed")
async def typed_post(data: Wanted) -> Nothing:
    return Nothing(data.customer_id, "held")


@get("/typed/{product_id:str}")
async def typed_get(product_id: str) -> Nothing:
    return Nothing(product_id, "live")


@asgi("/raw", copy_scope=False)
async def raw(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
    await send({"type": "http.response.body", "body": b"{}", "more_body": False})


_RAW_HEADERS: Any = [(b"content-type", b"application/json"), (b"content-length", b"2")]


def create_app() -> Litestar:
    return Litestar([typed_post, typed_get, raw], openapi_config=None, logging_config=None)


if __name__ == "__main__":
    serve_process(create_app(), int(sys.argv[1]))
