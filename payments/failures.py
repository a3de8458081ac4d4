"""What went wrong, in words that carry no secret: neither a statement's parameters nor a frame's variables."""

from collections.abc import Callable
from traceback import extract_tb
from typing import Final, ParamSpec, TypeVar

from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

from payments.provider import ProviderError

P = ParamSpec("P")
T = TypeVar("T")

AWAY: Final = (ProviderError, RedisError, OperationalError, InterfaceError, TimeoutError)
"""Something that is needed does not answer: no fault of what was being done."""


def describe(error: Exception) -> str:
    """``ValueError: what it says``, for a log or a column that people read."""
    said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return f"{type(error).__name__}: {said}"[:500].replace("\0", "") if said else type(error).__name__


def trace(error: Exception) -> list[str]:
    """Where it came from, the last calls first."""
    frames = extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames)][:12]


def attempted(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """What it gives, or what it failed with: the others of a set go on."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - it is told by whoever handles it
        return error
