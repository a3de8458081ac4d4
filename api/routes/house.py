"""Health, metrics, the OpenAPI document, and what each problem means."""

from typing import Final, cast

import msgspec
from litestar import get

from api import examples, health
from api.docs import doc
from api.health import Health
from api.metrics import CONTENT_TYPE
from api.routes.common import AnyRequest, path_of, services_of
from api.wire import Answer
from persistence.refusals import PROBLEMS, Refusal
from persistence.saleschema import PATH, schema

_SALE_SCHEMA: Final = msgspec.json.encode(schema())


class ProblemPage(msgspec.Struct, frozen=True):
    """What a problem's ``type`` leads to."""

    type: str
    code: str
    title: str
    status: int


@get(
    "/health/live",
    opt=doc(
        summary="Liveness",
        tag="health",
        answer=Health,
        example={"status": "live", "checks": {}},
    ),
)
async def get_live() -> Answer:
    return health.live()


@get(
    "/health/ready",
    opt=doc(
        summary="Readiness, with the state of each server that is needed",
        description="200 where holds can be taken: `ready`, or `degraded` where only Postgres is away (orders wait). "
        "503 with the same body where Redis is away, the schema was not seen to be current, or the process leaves.",
        tag="health",
        answer=Health,
        example=examples.READY,
        not_ready={"status": "not_ready", "checks": {"redis": "away", "postgres": "ok"}},
    ),
)
async def get_ready(request: AnyRequest) -> Answer:
    return await health.ready(services_of(request))


@get("/metrics", opt=doc(summary="Prometheus metrics", tag="health", answer="text/plain", example="# HELP ..."))
async def get_metrics(request: AnyRequest) -> Answer:
    text = await services_of(request).scrape.text()
    return Answer(200, text, ((b"content-type", CONTENT_TYPE.encode()),))


@get(
    "/schema/openapi.json",
    opt=doc(summary="This document", tag="health", answer="application/json", example={"openapi": "3.1.0"}),
)
async def get_openapi(request: AnyRequest) -> Answer:
    return Answer(200, cast(bytes, request.app.state.openapi))


@get(
    PATH,
    opt=doc(
        summary="The JSON Schema of a sale file, for editors",
        tag="health",
        answer="application/schema+json",
        example={"$schema": "https://json-schema.org/draft/2020-12/schema"},
    ),
)
async def get_sale_schema() -> Answer:
    return Answer(200, _SALE_SCHEMA, ((b"content-type", b"application/schema+json"),))


@get(
    "/problems/{code:str}",
    opt=doc(
        summary="What a problem's type means",
        tag="health",
        answer=ProblemPage,
        example={
            "type": "/problems/sold_out",
            "code": "sold_out",
            "title": "Too few units are available",
            "status": 409,
        },
        codes=("not_found",),
    ),
)
async def get_problem(request: AnyRequest) -> Answer:
    code = path_of(request, "code")
    if code not in PROBLEMS:
        raise Refusal("not_found", "There is no such problem.")
    problem = PROBLEMS[code]
    return Answer(200, msgspec.json.encode(ProblemPage(f"/problems/{code}", code, problem.title, problem.status)))


ROUTES = [get_live, get_ready, get_metrics, get_openapi, get_sale_schema, get_problem]
