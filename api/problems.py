"""Every error as ``application/problem+json`` (RFC 9457), whoever raised it."""

from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import HTTPException, MethodNotAllowedException
from psycopg.errors import UndefinedTable
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.wire import PROBLEM_JSON, Answer, ClientGone, allow
from engine.batcher import Overloaded
from persistence.refusals import PROBLEMS, Refusal

log = structlog.get_logger("api")

RETRY_SECONDS: Final = 1
"""What ``Retry-After`` says where nothing is known: most outages here are a restart or a failover."""

REQUEST_ID_IN_SCOPE: Final = "flashsale.request_id"

_encode = msgspec.json.Encoder().encode

_AWAY = (RedisError, OperationalError, InterfaceError, PoolTimeout, ConnectionError, TimeoutError)


def answer(refusal: Refusal) -> Answer:
    """A refusal as the answer that says it."""
    body: dict[str, Any] = {
        "type": f"/problems/{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
    }
    headers = [PROBLEM_JSON]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after))
    if refusal.code == "unauthorized":
        headers.append((b"www-authenticate", b"Bearer"))
    return Answer(refusal.status, _encode(body | refusal.extra), headers, refusal.code)


def as_refusal(error: Exception) -> Refusal | None:
    """What an error of ours or of a server's is to the client; None for one that nobody foresaw."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Overloaded):
        return Refusal("overloaded", "Too many requests wait here. Try again soon.", retry_after=RETRY_SECONDS)
    if isinstance(error, ProgrammingError) and isinstance(error.orig, UndefinedTable):
        return Refusal("unavailable", "The database is not migrated yet.", retry_after=RETRY_SECONDS)
    if isinstance(error, _AWAY) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        server = "Redis" if isinstance(error, RedisError) else "The database"
        return Refusal("unavailable", f"{server} does not answer. Try again soon.", retry_after=RETRY_SECONDS)
    return None


def internal(request_id: str) -> Refusal:
    return Refusal("internal_error", f"This is a defect. Report the request id {request_id}.", request_id=request_id)


def of_error(error: Exception, request_id: str) -> Answer:
    """The answer to any error that got out of a handler. What is not the client's is logged."""
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _of_http(error)
    refusal = as_refusal(error)
    if refusal is None:
        log.error("internal_error", request_id=request_id, exc_info=error)
        refusal = internal(request_id)
    elif refusal is not error:
        log.warning(refusal.code, request_id=request_id, error=type(error).__name__, detail=str(error)[:200])
    return answer(refusal)


_OF_STATUS: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


def _of_http(error: HTTPException) -> Answer:
    """What Litestar itself raised: no such route, another method, a header that it cannot read."""
    code = _OF_STATUS.get(error.status_code)
    if code is None:
        detail = error.detail or HTTPStatus(error.status_code).phrase
        return answer(Refusal("validation_error", detail, status=400, errors=[{"field": "request", "message": detail}]))
    found = answer(Refusal(code, _DETAILS.get(code, PROBLEMS[code].title + ".")))
    if isinstance(error, MethodNotAllowedException) and error.headers:
        found.headers = [*found.headers, allow(error.headers["allow"].split(", "))]
    return found


_DETAILS: Final = {
    "not_found": "There is no such route. /schema/openapi.json lists them.",
    "method_not_allowed": "The route does not know this method. The Allow header lists those that it knows.",
}


def handle(request: Request[Any, Any, Any], error: Exception) -> Any:
    """Litestar's one exception handler."""
    if isinstance(error, ClientGone):
        return Answer(499, b"", ())
    return of_error(error, str(request.scope.get(REQUEST_ID_IN_SCOPE, "-")))
