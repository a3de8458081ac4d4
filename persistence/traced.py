"""Spans of SQL, inside spans of something else. Only an engine of a process that traces has them."""

from contextlib import ExitStack
from typing import Any, Final

from sqlalchemy import Engine, event

from engine import tracing

_STACK: Final = "flashsale.span"
_TEXT_LENGTH_MAX: Final = 400


def watch(db: Engine) -> None:
    """A statement's text is in its span, its values are not."""
    event.listen(db, "before_cursor_execute", _begin)
    event.listen(db, "after_cursor_execute", _end)
    event.listen(db, "handle_error", _fail)


def _begin(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:  # noqa: ARG001
    if not tracing.on or not tracing.here().is_valid:
        return
    words = statement.split(None, 1)
    stack = ExitStack()
    stack.enter_context(
        tracing.span(
            words[0].upper() if words else "SQL",
            "client",
            db__system__name="postgresql",
            db__query__text=" ".join(statement.split())[:_TEXT_LENGTH_MAX],
        )
    )
    conn.info.setdefault(_STACK, []).append(stack)


def _end(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:  # noqa: ARG001
    _close(conn.info)


def _fail(context: Any) -> None:
    if context.connection is not None:
        _close(context.connection.info)


def _close(info: Any) -> None:
    if info.get(_STACK):
        info[_STACK].pop().close()
