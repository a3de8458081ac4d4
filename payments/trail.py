"""What is done about an order leaves its trail: its ids stand in every log line, and its spans in its own trace."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from engine import ids, tracing

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
A = TypeVar("A")


def itself(order_id: str) -> str:
    """For functions that get the order's id."""
    return order_id


def of_order(
    name: str, order_id: Callable[[A], str]
) -> Callable[[Callable[Concatenate[C, A, P], T]], Callable[Concatenate[C, A, P], T]]:
    """For a function of a context and of something that ``order_id`` reads the order's id from."""

    def decorate(function: Callable[Concatenate[C, A, P], T]) -> Callable[Concatenate[C, A, P], T]:
        @wraps(function)
        def call(ctx: C, about: A, /, *args: P.args, **kwargs: P.kwargs) -> T:
            found = order_id(about)
            parsed = ids.parse("order", found)
            if parsed is None:  # made up by whoever asks
                return function(ctx, about, *args, **kwargs)
            with (
                structlog.contextvars.bound_contextvars(order_id=found, sale_id=parsed[0]),
                tracing.of_order(name, found),
            ):
                return function(ctx, about, *args, **kwargs)

        return call

    return decorate


@contextmanager
def of_orders(name: str, order_ids: Sequence[str]) -> Iterator[None]:
    """For what is done about a set of orders at once. A set of one is that order's own."""
    if len(order_ids) == 1:
        [order_id] = order_ids
        parsed = ids.parse("order", order_id)
        bound = {"order_id": order_id} | ({"sale_id": parsed[0]} if parsed else {})
    else:
        bound = {"orders": str(len(order_ids))}
    with structlog.contextvars.bound_contextvars(**bound), tracing.of_orders(name, order_ids):
        yield
