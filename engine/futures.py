"""Futures of asyncio, for those who are told by a call."""

from asyncio import Future
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def telling(answer: Future[T]) -> Callable[[T | Exception], None]:
    """What gives a future its value or its error, unless whoever waited for it gave up."""

    def tell(found: T | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    return tell
