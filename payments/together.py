"""Callers that come at the same time are served together. Whoever comes first does its own; what comes meanwhile is the
next set, done by one of those who wait for all of them. No timer: a caller with nobody beside it waits for nobody.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

from payments.failures import AWAY

W = TypeVar("W")
A = TypeVar("A")

SET_MAX: Final = 64
"""Callers that one set serves at most: its transaction stays short."""


class _Call:
    __slots__ = ("answer", "error", "is_served", "turn", "wish")

    def __init__(self, wish: Any) -> None:
        self.wish = wish
        self.answer: Any = None
        self.error: BaseException | None = None
        self.is_served = False
        self.turn = threading.Lock()
        self.turn.acquire()

    def serve(self, answer: Any) -> None:
        if isinstance(answer, BaseException):
            self.error = answer
        else:
            self.answer = answer
        self.is_served = True


class Together:
    """For the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, deque[_Call]] = {}  # who waits, by lane; a lane is there while a set is under way

    def do(self, lane: Hashable, work: Callable[[Sequence[W]], Sequence[A | Exception]], wish: W) -> A:
        """``work`` gives an answer to each wish, or why there is none; which of the callers' ``work`` does a set is
        open, so those of a lane do the same. What it raises is told to all where something is away; else each wish of
        the set is tried by itself, so that what is wrong with one of them is its own caller's.
        """
        call = _Call(wish)
        with self._lock:
            waiting = self._lanes.get(lane)
            if waiting is None:
                self._lanes[lane] = deque()
            else:
                waiting.append(call)
        if waiting is not None:
            call.turn.acquire()  # served, or the first of the next set
        if not call.is_served:
            self._lead(lane, work, call)
        if call.error is not None:
            raise call.error
        answer: A = call.answer
        return answer

    def _lead(self, lane: Hashable, work: Callable[[Sequence[Any]], Sequence[Any]], first: _Call) -> None:
        with self._lock:
            waiting = self._lanes[lane]
            calls = [first, *(waiting.popleft() for _ in range(min(len(waiting), SET_MAX - 1)))]
        try:
            _serve(work, calls)
        except BaseException as error:  # this thread is ended
            for call in calls:
                if not call.is_served:
                    call.serve(error)
            raise
        finally:
            for call in calls[1:]:
                call.turn.release()
            with self._lock:
                if waiting:
                    waiting.popleft().turn.release()
                else:
                    del self._lanes[lane]


def _serve(work: Callable[[Sequence[Any]], Sequence[Any]], calls: Sequence[_Call]) -> None:
    try:
        answers = work([call.wish for call in calls])
    except AWAY as error:
        answers = [error] * len(calls)
    except Exception as error:  # noqa: BLE001 - it is told to whoever asked
        if len(calls) > 1:
            for call in calls:
                _serve(work, [call])
            return
        answers = [error]
    for call, answer in zip(calls, answers, strict=True):
        call.serve(answer)
