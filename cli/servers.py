"""Which Redis and Postgres a command speaks to: those of the environment, else of the stack that runs here, else
embedded ones for as long as the command runs.
"""

import contextlib
import getpass
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy

from engine import connections
from engine.command import Client
from engine.settings import Settings
from persistence import audit, database
from sandbox.servers import EmbeddedPostgres, EmbeddedRedis
from sandbox.stack import DataDir, data_dir_of, find_running_stack, hold_data_dir

DATA_DIR = "FLASHSALE_DATA_DIR"


@dataclass(frozen=True, slots=True)
class Servers:
    """``settings`` has both URLs. ``data_dir`` is held where a server of ours runs for us, else None."""

    settings: Settings
    data_dir: DataDir | None = None
    redis: EmbeddedRedis | None = None
    postgres: EmbeddedPostgres | None = None


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


@contextlib.contextmanager
def servers(
    environ: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    needs: Sequence[str] = ("redis_url", "database_url"),
) -> Iterator[Servers]:
    """Where all that is needed has a URL, nothing is started. Raises ``SettingError``, ``DataDirInUseError`` or
    ``ServerError``.
    """
    found = effective_environment(environ, cwd)
    settings = Settings.from_env(found)
    if all(getattr(settings, name) for name in needs):
        yield Servers(settings)
        return
    with embedded(settings, data_dir_of(found, cwd or Path.cwd())) as running:
        yield running


@contextlib.contextmanager
def embedded(settings: Settings, folder: Path) -> Iterator[Servers]:
    """Start what has no URL, on data in ``folder``; a Postgres of ours is brought to the current schema."""
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
    """Both stores for one command. Raises as ``servers``."""
    audit.act_as(_user())
    with servers() as running:
        settings = running.settings
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
