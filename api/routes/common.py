"""What route handlers have in common."""

from typing import Any, TypeVar, cast

import msgspec
from litestar import Request

from api.bodies import Body
from api.docs import Query
from api.paging import LIMIT_DEFAULT, LIMIT_MAX
from api.services import Services
from api.wire import Headers, check_json, read_body, read_headers

T = TypeVar("T", bound=msgspec.Struct)

AnyRequest = Request[Any, Any, Any]


def services_of(request: AnyRequest) -> Services:
    return cast(Services, request.app.state.services)


def headers_of(request: AnyRequest) -> Headers:
    return read_headers(request.scope["headers"])


async def body_of(request: AnyRequest, headers: Headers) -> bytes:
    """Raises ``Refusal``: body_too_large."""
    return await read_body(request.receive, headers)


def pages(description: str) -> tuple[Query, Query]:
    """The parameters of a list in pages."""
    bounds = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
    return Query("limit", description, bounds), Query("cursor", "`next_cursor` of the page before.")


def path_of(request: AnyRequest, name: str) -> str:
    """A parameter of the path, as the client sent it."""
    return cast(str, request.path_params[name])


def query_of(request: AnyRequest) -> dict[str, str]:
    """The first value of each query parameter."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        found.setdefault(name, value)
    return found


async def json_body_of(request: AnyRequest, headers: Headers, shape: Body[T], *, optional: bool = False) -> T:
    """The body, strictly decoded. Raises ``Refusal``: body_too_large, unsupported_media_type, validation_error."""
    raw = await body_of(request, headers)
    if optional and not raw:
        return shape.decode(b"{}")
    check_json(headers)
    return shape.decode(raw)
