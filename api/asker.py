"""Who is waiting for an answer on the express way, as the functions that make answers see them."""

from collections.abc import Coroutine
from typing import Any, Protocol

from api.wire import Answer


class Asker(Protocol):
    """Who gets the answer: exactly one of these is called, once."""

    def answer(self, answer: Answer) -> None: ...

    def fail(self, error: Exception) -> None: ...

    def later(self, work: Coroutine[Any, Any, Answer]) -> None:
        """The answer is what this gives or raises."""
