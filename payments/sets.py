"""Calls that are under way side by side, taken up in sets as they end."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, wait
from typing import Final, TypeVar

from payments.failures import attempted

K = TypeVar("K")
T = TypeVar("T")

PATIENCE_SECONDS: Final = 1.0


def as_they_end(calls: Mapping[Future[T], K]) -> Iterator[list[tuple[K, T | Exception]]]:
    """What each call was about, with what it gave or failed with. All at once where they end soon: a call that takes
    long holds up nobody but itself.
    """
    left: Collection[Future[T]] = calls.keys()
    while left:
        done, left = wait(left, PATIENCE_SECONDS)
        if done:
            yield [(calls[each], attempted(each.result)) for each in done]
