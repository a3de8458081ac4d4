"""The OpenAPI 3.1 document, made from what each route says of itself (``api.docs``) and from the shapes that it
decodes and encodes.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from api import examples
from api.docs import OPT, Doc
from api.wire import BODY_MAX_BYTES, KEY_MAX_LENGTH
from persistence.refusals import PROBLEMS

Json = dict[str, Any]

VERSION: Final = "1"
_REF: Final = "#/components/schemas/{name}"
_RETRY_LATER: Final = {
    "sold_out",
    "sale_not_started",
    "sale_paused",
    "sale_unavailable",
    "payment_provider_unavailable",
    "overloaded",
    "unavailable",
}
_BODY_CODES: Final = ("validation_error", "body_too_large", "unsupported_media_type")
_AUTH_CODES: Final = ("unauthorized", "forbidden")
_EVERYWHERE: Final = ("method_not_allowed", "internal_error")
_DESCRIPTION: Final = f"""\
Reserve and sell a few hundred things to thousands of people in seconds: never oversold, and never money without a
thing. Times are RFC 3339 UTC, money is in minor units, ids are opaque. Every error is `application/problem+json`
(RFC 9457) with a stable `code`; a path that is no route is answered `not_found`. A body is at most
{BODY_MAX_BYTES // 1024} KiB.
"""


def document(handlers: Iterable[Any]) -> bytes:
    """The document as JSON. Raises ``LookupError`` for a route that says nothing of itself."""
    routes = list(_routes(handlers))
    schemas = _schemas(routes)
    paths: dict[str, Json] = {}
    for method, path, doc in routes:
        paths.setdefault(path, {})[method] = _operation(method, path, doc, schemas)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "flashsale", "version": VERSION, "description": _DESCRIPTION},
            "paths": paths,
            "components": {
                "schemas": schemas.components | _problem_schemas(),
                "securitySchemes": {
                    "admin": {"type": "http", "scheme": "bearer", "description": "FLASHSALE_ADMIN_TOKEN"},
                    "shop": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "FLASHSALE_SHOP_TOKEN; where none is set, these routes are open.",
                    },
                },
            },
            "tags": [{"name": name} for name in dict.fromkeys(doc.tag for _, _, doc in routes)],
        }
    )


class _Schemas:
    """Each type's JSON Schema, and the components that they refer to."""

    def __init__(self, types: list[Any]) -> None:
        found, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._of = dict(zip(map(repr, types), found, strict=True))
        for name, forms in _FORMS.items():
            self.components[name]["oneOf"] = [_form(form) for form in forms]

    def of(self, kind: Any) -> Json:
        return self._of[repr(kind)]


_FORMS: Final = {"HoldBody": [({"lines"}, {"product_id", "qty"}), ({"product_id", "qty"}, {"lines"})]}
"""A body that comes in several forms: the fields that each has, and those that it has not."""


def _form(form: tuple[set[str], set[str]]) -> Json:
    has, lacks = form
    return {"required": sorted(has), "properties": dict.fromkeys(sorted(lacks), False)}


def _schemas(routes: list[tuple[str, str, Doc]]) -> _Schemas:
    types = {}
    for _, _, doc in routes:
        for kind in (doc.answer, doc.body):
            if kind is not None and not isinstance(kind, str):
                types[repr(kind)] = kind
    return _Schemas(list(types.values()))


def _routes(handlers: Iterable[Any]) -> Iterator[tuple[str, str, Doc]]:
    """(method, path, doc) of each route, methods in lower case, paths as OpenAPI writes them."""
    for handler in handlers:
        doc = handler.opt.get(OPT)
        if doc is None:
            raise LookupError(f"{handler} does not say what it is: give it an opt=doc(...)")
        methods = [doc.method] if doc.method else [str(method) for method in handler.http_methods]
        for path in handler.paths:
            for method in methods:
                yield method.lower(), re.sub(r"\{(\w+):\w+\}", r"{\1}", path), doc


def _operation(method: str, path: str, doc: Doc, schemas: _Schemas) -> Json:
    words = re.sub(r"[^a-z0-9]+", " ", path.replace("/v1/", "/").lower()).split()
    operation: Json = {
        "operationId": "_".join([method, *words]),
        "summary": doc.summary,
        "tags": [doc.tag],
        "parameters": _parameters(path, doc),
        "responses": _responses(doc, schemas),
    }
    if doc.description:
        operation["description"] = doc.description
    if doc.auth == "admin":
        operation["security"] = [{"admin": []}]
    elif doc.auth == "shop":
        operation["security"] = [{"shop": []}, {}]
    if doc.body is not None:
        media: Json = {"schema": schemas.of(doc.body)}
        if doc.body_examples:
            media["examples"] = {name: {"value": value} for name, value in doc.body_examples.items()}
        operation["requestBody"] = {"required": doc.body_required, "content": {"application/json": media}}
    return operation


def _parameters(path: str, doc: Doc) -> list[Json]:
    found: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "example": _PATH_EXAMPLES[name],
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    found += [
        {"name": query.name, "in": "query", "required": False, "description": query.description, "schema": query.schema}
        for query in doc.query
    ]
    if doc.keyed:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key and body again give the first answer; after a refusal it may succeed.",
                "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX_LENGTH},
                "example": "cart-8812-try-1",
            }
        )
    if doc.tagged:
        found.append(
            {
                "name": "If-None-Match",
                "in": "header",
                "required": False,
                "description": "The `ETag` of an answer that the client has.",
                "schema": {"type": "string"},
            }
        )
    if doc.auth == "signature":
        found.append(
            {
                "name": "Stripe-Signature",
                "in": "header",
                "required": True,
                "description": "Stripe's own scheme, by FLASHSALE_STRIPE_WEBHOOK_SECRET; five minutes old at most.",
                "schema": {"type": "string"},
                "example": "t=1795766400,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd",
            }
        )
    return found


_PATH_EXAMPLES: Final = {
    "sale_id": examples.SALE_ID,
    "product_id": examples.PRODUCT_ID,
    "hold_id": examples.HOLD_ID,
    "order_id": examples.ORDER_ID,
    "code": "sold_out",
}
_REQUEST_ID: Final = {
    "X-Request-Id": {"description": "The request's own, or one made here.", "schema": {"type": "string"}}
}

_TAG_HEADERS: Final = {
    "ETag": {"description": "Names this answer.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "How long it may be kept.", "schema": {"type": "string"}},
}


def codes_of(doc: Doc) -> list[str]:
    """Every problem that a route may answer."""
    codes = [*doc.codes]
    if doc.auth in ("admin", "shop"):
        codes += _AUTH_CODES
    if doc.body is not None and doc.auth != "signature":
        codes += _BODY_CODES
    if doc.keyed:
        codes += ["idempotency_mismatch", "validation_error"]
    return list(dict.fromkeys([*codes, *_EVERYWHERE]))


def _responses(doc: Doc, schemas: _Schemas) -> Json:
    if isinstance(doc.answer, str):
        content: Json = {doc.answer: {"schema": {} if doc.answer.endswith("json") else {"type": "string"}}}
    else:
        content = {"application/json": {"schema": schemas.of(doc.answer), "example": doc.example}}
    headers: Json = dict(_REQUEST_ID)
    if doc.keyed:
        headers["Idempotent-Replayed"] = {
            "description": "`true` where this is the first answer again.",
            "schema": {"type": "string", "enum": ["true"]},
        }
    if doc.tagged:
        headers |= _TAG_HEADERS
    responses: Json = {str(doc.status): {"description": doc.summary, "headers": headers, "content": content}}
    if doc.tagged:
        responses["304"] = {"description": "The client has this answer already.", "headers": headers}
    of_status: dict[int, list[str]] = {}
    for code in codes_of(doc):
        for status in _statuses(code, doc):
            of_status.setdefault(status, []).append(code)
    for status, codes in sorted(of_status.items()):
        responses[str(status)] = _problem_response(status, codes)
    if doc.not_ready is not None:
        responses["503"] = {
            "description": "Not ready",
            "content": {"application/json": {"schema": schemas.of(doc.answer), "example": doc.not_ready}},
        }
    return responses


def _statuses(code: str, doc: Doc) -> tuple[int, ...]:
    # A body that is no JSON is a validation_error too, with a status of its own.
    status = PROBLEMS[code].status
    return (400, status) if code == "validation_error" and doc.body is not None else (status,)


def _problem_response(status: int, codes: list[str]) -> Json:
    headers: Json = dict(_REQUEST_ID)
    if any(code in _RETRY_LATER for code in codes):
        headers["Retry-After"] = {
            "description": "Whole seconds, at least 1; absent from a `sold_out` that nothing held can end.",
            "schema": {"type": "integer", "minimum": 1},
        }
    if "unauthorized" in codes:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    if "method_not_allowed" in codes:
        headers["Allow"] = {"schema": {"type": "string"}}
    refs = [{"$ref": _REF.format(name=_name(code))} for code in codes]
    return {
        "description": "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes),
        "headers": headers,
        "content": {
            "application/problem+json": {
                "schema": refs[0] if len(refs) == 1 else {"anyOf": refs},
                "examples": {code: {"value": _problem_example(code, status)} for code in codes},
            }
        },
    }


def _name(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_")) + "Problem"


def _problem_example(code: str, status: int) -> Json:
    title = PROBLEMS[code].title
    return {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": f"{title}.",
        "code": code,
        **examples.EXTRAS.get(code, {}),
    }


def _problem_schemas() -> Json:
    return {_name(code): _problem_schema(code) for code in PROBLEMS}


def _problem_schema(code: str) -> Json:
    extras = examples.EXTRAS.get(code, {})
    statuses = [400, 422] if code == "validation_error" else [PROBLEMS[code].status]
    return {
        "type": "object",
        "description": PROBLEMS[code].title,
        "properties": {
            "type": {"type": "string", "const": f"/problems/{code}"},
            "title": {"type": "string"},
            "status": {"type": "integer", "enum": statuses},
            "detail": {"type": "string"},
            "code": {"type": "string", "const": code},
            **{name: _schema_like(value) for name, value in extras.items()},
        },
        "required": ["type", "title", "status", "detail", "code", *(_ALWAYS.get(code, extras))],
    }


_ALWAYS: Final[dict[str, tuple[str, ...]]] = {
    "order_not_payable": ("reason",),
    "refund_exceeds_payment": ("currency", "captured", "refunded", "refundable"),
}
"""What is always there of the codes whose figures differ by why they are refused."""


def _schema_like(value: Any) -> Json:
    match value:
        case int():
            return {"type": "integer"}
        case str():
            return {"type": "string"}
        case [dict() as item, *_]:
            properties = {name: _schema_like(each) for name, each in item.items()}
            return {"type": "array", "items": {"type": "object", "properties": properties, "required": list(item)}}
        case list():
            return {"type": "array", "items": {"type": "string"}}
        case _:
            return {}
