"""The live page's routes: in and out, the page, its stream, and what its buttons do."""

from typing import Any, Final, cast, get_args
from urllib.parse import parse_qs

from litestar import asgi, get, post
from litestar.datastructures import Headers
from litestar.exceptions import MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from api.pages.files import page, redirect
from api.pages.session import Sessions, check_same_origin, is_secure
from api.pages.stream import Stream
from api.pages.watch import Watch
from api.routes import admin
from api.routes.common import AnyRequest, body_of, headers_of, path_of, services_of
from api.services import Services
from api.wire import Answer, invalid
from persistence import sales
from persistence.refusals import Refusal

_FORM = "application/x-www-form-urlencoded"
FIELDS_MAX: Final = 5
"""Fields of the form of ``POST /ops/login``: it has one."""


def _sessions(services: Services) -> Sessions:
    return Sessions(services.settings.admin_token)


@get("/ops", opt={"page": "the live page; without a session, the way in"})
async def get_ops(request: AnyRequest) -> Answer:
    sessions = _sessions(services_of(request))
    if sessions.knows(request.headers):
        return page("ops.html")
    return _ask(sessions)


def _ask(sessions: Sessions, status: int = 200, said: str = "") -> Answer:
    if not sessions.possible:
        said = "FLASHSALE_ADMIN_TOKEN is not set, so nobody can come in."
    return page("login.html", status, said=said)


@post("/ops/login", status_code=200, opt={"page": "the admin token (a form's `token`) becomes a session"})
async def log_in(request: AnyRequest) -> Answer:
    sessions = _sessions(services_of(request))
    check_same_origin(request.headers)
    if request.headers.get("content-type", "").partition(";")[0] != _FORM:
        raise Refusal("unsupported_media_type", f"Send the token as {_FORM}.")
    body = await body_of(request, headers_of(request))
    cookie = sessions.begin(_token_of(body), secure=_is_secure(request))
    if cookie is None:
        return _ask(sessions, 403, "That is not the admin token.")
    return redirect("/ops", (b"set-cookie", cookie))


def _token_of(body: bytes) -> str:
    """The field ``token`` of a form. Raises ``Refusal``: validation_error."""
    try:
        fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise invalid([("body", f"is a form of {FIELDS_MAX} fields at most")]) from error
    return fields.get("token", [""])[0].strip()


@post("/ops/logout", status_code=200, opt={"page": "ends the session of this browser"})
async def log_out(request: AnyRequest) -> Answer:
    check_same_origin(request.headers)
    cookie = _sessions(services_of(request)).end(secure=_is_secure(request))
    return redirect("/ops", (b"set-cookie", cookie))


def _is_secure(request: AnyRequest) -> bool:
    return is_secure(request.scope["scheme"], request.headers)


@asgi("/ops/stream", copy_scope=False, opt={"page": "server-sent events: `history` once, then `now` each second"})
async def get_stream(scope: Scope, receive: Receive, send: Send) -> None:
    if scope.get("method") != "GET":
        raise MethodNotAllowedException(headers={"allow": "GET, HEAD"})
    app = scope["litestar_app"]
    _sessions(cast(Services, app.state.services)).check(Headers.from_scope(scope))
    await Stream(cast(Watch, app.state.watch))(receive, send)


@post(
    "/ops/sales/{sale_id:str}/{verb:str}",
    status_code=200,
    opt={"page": "`pause`, `resume` or `end`, as the admin routes do"},
)
async def post_state(request: AnyRequest) -> Answer:
    services, verb = _change(request), path_of(request, "verb")
    if verb not in get_args(sales.Verb):
        raise Refusal("not_found", "A sale is paused, resumed or ended.")
    return await admin.steer(request, services, cast(sales.Verb, verb))


@post("/ops/products/{product_id:str}/stock", status_code=200, opt={"page": "adjusts stock, as the admin route does"})
async def adjust_stock(request: AnyRequest) -> Answer:
    return await admin.adjust(request, _change(request))


def _change(request: AnyRequest) -> Services:
    """Raises ``Refusal``: unauthorized, forbidden."""
    services = services_of(request)
    _sessions(services).check_change(request.headers)
    return services


ROUTES: list[Any] = [get_ops, log_in, log_out, get_stream, post_state, adjust_stock]
