"""What a route says of itself: the OpenAPI document is made of these, so that no route is without one."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

OPT: Final = "doc"
"""Where a route handler carries its ``Doc``, in Litestar's ``opt``."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter, with its JSON Schema."""

    name: str
    description: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Doc:
    """``answer`` is the type of the JSON body, or a media type for what is no JSON; ``codes`` are the problems that
    the route may answer beside those that every route of its kind may; ``keyed`` routes take an Idempotency-Key.
    """

    summary: str
    tag: str
    answer: Any
    example: Any
    method: str = ""
    """Only for raw ASGI routes, which do not know theirs."""
    status: int = 200
    body: Any = None
    body_required: bool = True
    body_examples: dict[str, Any] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    query: tuple[Query, ...] = ()
    keyed: bool = False
    tagged: bool = False
    """The answer has an ``ETag``."""
    auth: Literal["", "admin", "shop", "signature"] = ""
    description: str = ""
    not_ready: Any = None
    """An example of the same body with status 503."""


def doc(**fields: Any) -> dict[str, Any]:
    """The ``opt`` of a route handler."""
    return {OPT: Doc(**fields)}
