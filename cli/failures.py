"""How every failure of a command reads: one line on stderr that says what to do, never a traceback."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from persistence.refusals import Refusal

UNDEFINED = ("42P01", "42703")
"""SQLSTATE: a table or a column that is not there."""
NO_RIGHT = "42501"
HEAD_CHARACTERS, TAIL_CHARACTERS = 600, 300
"""What is shown of a message that is longer than both: what to do stands at its end."""
_OTHER_USER = "commands have the worker's rights: run them with its URLs"


class Failure(Exception):
    """A command cannot do what it was asked to; ``code`` is its exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def run(command: Callable[[], object]) -> int:
    """The exit status of a command; its failure is told."""
    try:
        result = command()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        return error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "flashsale"
        return _tell(f"{error.format_message().rstrip('.')}; see `{where} --help`", error.exit_code)
    except click.ClickException as error:
        return _tell(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _tell("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has left; nothing more can be said
        return 141
    except Exception as error:
        message, code = explain(error)
        if _debugging():
            raise
        return _tell(message, code)
    return result if isinstance(result, int) else 0


def explain(error: Exception) -> tuple[str, int]:
    """A failure in one line, and the exit status that it means."""
    if isinstance(error, Failure):
        return str(error), error.code
    if _is_a(error, "persistence.refusals.Refusal"):
        return refusal_line(error), 1  # type: ignore[arg-type]
    if any(_is_a(error, name) for name in _SAY_IT_THEMSELVES):
        return first_line(error), 2 if _is_a(error, SETTING_ERROR) else 1
    if _is_a(error, "sqlalchemy.exc.SQLAlchemyError"):
        return _database(error), 1
    if _is_a(error, "redis.exceptions.RedisError"):
        return _redis(error), 1
    if isinstance(error, UnicodeEncodeError):
        return "an argument holds bytes that are no UTF-8, so nothing here can have that name", 2
    if isinstance(error, OSError | LookupError):
        return first_line(error), 1
    told = f"{type(error).__name__}: {first_line(error)}"
    return f"unexpected: {told} (FLASHSALE_LOG_LEVEL=debug shows where)", 1


SETTING_ERROR = "engine.settings.SettingError"
_SAY_IT_THEMSELVES = (
    SETTING_ERROR,
    "payments.provider.ProviderError",
    "persistence.migrate.NewerSchema",
    "sandbox.failure.ServerError",
    "sandbox.stack.DataDirInUseError",
)
"""Errors whose message says what to do."""


def _is_a(error: Exception, name: str) -> bool:
    """By name: a command that never imported a class cannot meet it, and importing them all takes seconds."""
    return any(f"{kind.__module__}.{kind.__qualname__}" == name for kind in type(error).__mro__)


def refusal_line(refusal: "Refusal") -> str:
    figures = ", ".join(f"{name} {value}" for name, value in refusal.extra.items() if isinstance(value, str | int))
    return f"{refusal.detail} ({refusal.code}{': ' + figures if figures else ''})"


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _database(error: Exception) -> str:
    if getattr(getattr(error, "orig", None), "sqlstate", None) in UNDEFINED:
        return "the database is not at the current schema: run `flashsale migrate`"
    if getattr(getattr(error, "orig", None), "sqlstate", None) == NO_RIGHT:
        return f"this role of Postgres may not do that ({first_line(error)}); {_OTHER_USER}"
    return f"Postgres does not answer ({first_line(error)}); check FLASHSALE_DATABASE_URL"


def _redis(error: Exception) -> str:
    if _is_a(error, "redis.exceptions.NoPermissionError"):
        return f"this user of Redis may not do that ({first_line(error)}); {_OTHER_USER}"
    return f"Redis does not answer ({first_line(error)}); check FLASHSALE_REDIS_URL"


def _tell(message: str, code: int) -> int:
    click.echo(f"flashsale: {printable(' '.join(message.split()))}", err=True)
    return code


def printable(line: str) -> str:
    """What came from outside neither fills a terminal nor steers it."""
    if len(line) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        line = f"{line[:HEAD_CHARACTERS]} ... {line[-TAIL_CHARACTERS:]}"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def _debugging() -> bool:
    return os.environ.get("FLASHSALE_LOG_LEVEL", "") == "debug"
