"""The stand-in as an ASGI application: one request from its bytes to its answer.

In this order: `down`, the key, the route, the rate limit, the parameters, the idempotency key, a failure before the
effect, the effect, the commit, a failure after it.
"""

import asyncio
import base64
import sys
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from sandbox.stripe import control, errors, forms, idempotency, refunds, routes
from sandbox.stripe.errors import Fault
from sandbox.stripe.lists import expand
from sandbox.stripe.params import check
from sandbox.stripe.records import new_id
from sandbox.stripe.shapes import Json
from sandbox.stripe.store import Answer
from sandbox.stripe.world import API_VERSION, Call, World

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[str, str]

# What stripe.js sends besides the typed parameters.
PUBLIC_EXTRAS = frozenset({"client_secret", "key"})
_encode = msgspec.json.Encoder().encode


class Cut(Exception):
    """No answer: the caller sees its connection break."""


class Request(msgspec.Struct, kw_only=True):
    """One request of Stripe's API, read and not yet understood."""

    method: str
    path: str
    headers: Headers
    query: bytes
    body: bytes
    id: str
    base_url: str


class App:
    def __init__(self, world: World, secret_key: str, publishable_key: str) -> None:
        self.world = world
        self._secret_key = secret_key
        self._publishable_key = publishable_key
        self._routes = routes.table()
        self._keys = idempotency.Keys(world.store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: str = scope["path"]
        body = await _read(receive)
        if path.startswith("/_control/"):
            status, answer = self._control(scope, path, body)
            await _send(send, status, {}, _encode(answer))
            return
        if path.startswith("/_hooks/3ds/"):
            await self._hook(scope, path.rpartition("/")[2], send)
            return
        try:
            status, headers, answer_bytes = await self._api(_request(scope, path, body))
        except Cut:
            scope["extensions"]["transport.abort"]()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await _send(send, status, headers, answer_bytes)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.world.outbox.start()
        refunds.resume(self.world)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.world.outbox.stop()
        self.world.close()
        await send({"type": "lifespan.shutdown.complete"})

    # -- Stripe's API
    async def _api(self, request: Request) -> tuple[int, Headers, bytes]:
        chaos, dice = self.world.dice.settings, self.world.dice
        headers = {"request-id": request.id, "stripe-version": API_VERSION}
        key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
        if key:
            headers["idempotency-key"] = key
        held = ""
        try:
            if chaos.down:
                raise Cut if chaos.down == "closed" else errors.broken(503)
            fields = forms.pairs(request.body if request.method == "POST" else request.query)
            public = self._authenticate(request, fields)
            route, identifier = self._route(request, public=public)
            if not dice.admits():
                raise errors.rate_limited()
            params = check(route.schema, forms.tree(fields), also=PUBLIC_EXTRAS if public else frozenset())
            sum_ = idempotency.digest(fields)
            if key:
                kept = self._keys.begin(key, request.path, sum_, self.world.now())
                if kept is not None:
                    headers |= {"idempotent-replayed": "true", "original-request": kept.request_id}
                    await self._linger()
                    return kept.status, headers, kept.body
                held = key
            if dice.hits(chaos.fail_before_ratio):
                raise errors.broken()
            call = Call(
                params=params,
                id=identifier,
                request_id=request.id,
                key=key or None,
                public=public,
                base_url=request.base_url,
            )
            status, answer, more = self._execute(route, call, sum_, request.path)
            headers |= more
            await self.world.committed()
            await self._linger()
            if dice.hits(chaos.lost_reply_ratio):
                raise Cut
            if dice.hits(chaos.fail_after_ratio):
                raise errors.broken()
        except Fault as fault:
            headers |= {"stripe-should-retry": "false"} | {k.lower(): v for k, v in fault.headers.items()}
            return fault.status, headers, _encode(fault.body(request.id))
        finally:
            if held:
                self._keys.end(held)
        return status, headers, answer

    def _execute(self, route: routes.Route, call: Call, sum_: bytes, path: str) -> tuple[int, bytes, Headers]:
        """The effect, its answer and, under a key, the memory of it: all written before anyone else runs."""
        world, status, headers = self.world, 200, {}
        sticky = world.dice.hits(world.dice.settings.sticky_fail_ratio)
        assert call.request_id is not None
        try:
            answer: Json = expand(world, route.handler(world, call), call.params.get("expand", []))
            if sticky:
                raise errors.broken()
            kept = True
        except Fault as fault:
            status, answer, kept = fault.status, fault.body(call.request_id), fault.kept or sticky
            headers = {"stripe-should-retry": "false"} | {k.lower(): v for k, v in fault.headers.items()}
        encoded = _encode(answer)
        if call.key is not None and kept:
            self._keys.keep(call.key, Answer(path, sum_, world.now(), status, encoded, call.request_id))
        return status, encoded, headers

    def _authenticate(self, request: Request, fields: list[tuple[str, str]]) -> bool:
        """Whether it is a browser's publishable key; 401 where it is neither key."""
        key = _given_key(request.headers.get("authorization", ""))
        key = key or next((value for name, value in fields if name == "key"), "")
        if not key:
            raise errors.no_key()
        if key == self._secret_key:
            return False
        if key != self._publishable_key:
            raise errors.bad_key(key)
        return True

    def _route(self, request: Request, *, public: bool) -> tuple[routes.Route, str]:
        place, identifier = routes.template(request.path)
        route = self._routes.get((request.method, place))
        if route is None:
            raise errors.unknown_route(request.method, request.path)
        if public and not route.public:
            raise errors.secret_key_required()
        kind = request.headers.get("content-type", "application/x-www-form-urlencoded")
        if request.method == "POST" and request.body and not kind.startswith("application/x-www-form-urlencoded"):
            raise Fault(400, f"Invalid request: send form-encoded parameters, not {kind[:80]}.")
        return route, identifier

    async def _linger(self) -> None:
        seconds = self.world.dice.between(self.world.dice.settings.answer_delay_ms)
        if seconds:
            await asyncio.sleep(seconds)

    # -- what is not Stripe's
    def _control(self, scope: Scope, path: str, body: bytes) -> tuple[int, Any]:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        try:
            answer = control.answer(self.world, scope["method"], path, query, body)
        except Fault as fault:
            return fault.status, fault.body(new_id("req"))
        except Exception:  # noqa: BLE001 - the caller is a test: it should read what broke
            traceback.print_exc(file=sys.stderr)
            return 500, {"error": {"type": "api_error", "message": traceback.format_exc(limit=3)}}
        self.world.commit()
        return 200, answer

    async def _hook(self, scope: Scope, identifier: str, send: Send) -> None:
        """Where a customer answers the 3-D Secure challenge: `?success=false` refuses, anything else passes it."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        intent = self.world.intents.by_id.get(identifier)
        redirect = ((intent.next_action or {}).get("redirect_to_url") if intent else None) or {}
        passed = _encode({"success": query.get("success") != "false"})
        path = f"/_control/intents/{identifier}/authenticate"
        status, answer = self._control({**scope, "method": "POST"}, path, passed)
        if status == 200 and intent is not None:
            answer = {"id": intent.id, "object": "payment_intent", "status": intent.status}
            if "return_url" in redirect:
                mark = "&" if "?" in redirect["return_url"] else "?"
                location = f"{redirect['return_url']}{mark}payment_intent={intent.id}"
                await _send(send, 303, {"location": location}, _encode(answer))
                return
        await _send(send, status, {}, _encode(answer))


def _request(scope: Scope, path: str, body: bytes) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(
        method=scope["method"],
        path=path,
        headers=headers,
        query=scope["query_string"],
        body=body,
        id=new_id("req")[:18],
        base_url=f"http://{headers.get('host', '127.0.0.1')}",
    )


def _given_key(header: str) -> str:
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except ValueError:
            return ""
    return ""


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    head += [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
