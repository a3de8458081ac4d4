"""One role each, for containers: `api`, `worker`, `scheduler`; and `migrate`."""

import contextlib
import os
import signal
from collections.abc import Sequence

import click

from cli import logs
from cli.children import TIED, parent_is_gone, tie_to_parent
from cli.failures import Failure
from cli.servers import bring_up_to_date, found_settings
from engine import tracing
from engine.settings import SettingError, Settings
from workers.pool import PROCESSES, run_pool
from workers.runtime import queue_redis
from workers.scheduler import Scheduler

tied = click.option(TIED, is_flag=True, hidden=True, help="End when standard input does.")


def _role(*, is_tied: bool, pays: bool = True, needs: Sequence[str] = ("redis_url", "database_url")) -> Settings:
    """The settings of a role that runs for long. Raises ``SettingError``."""
    own = Settings.from_env(os.environ)
    logs.configure(own.log_level)
    if pays:
        _wants_provider(own)
    settings = found_settings(needs=needs)
    tracing.check()
    if is_tied:
        tie_to_parent()
    return settings


def _wants_provider(settings: Settings) -> None:
    """Of this process's own environment: another stack's provider is not ours. Raises ``SettingError``."""
    if not settings.stripe_secret_key:
        raise SettingError(
            "there is no payment provider: set FLASHSALE_STRIPE_SECRET_KEY (`flashsale up` runs a stand-in instead)"
        )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens; 0.0.0.0 in a container.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@tied
def api(host: str, port: int, workers: int, tied: bool) -> None:
    """Serve the HTTP API. SIGTERM answers what was begun, then ends."""
    from api.server import serve  # noqa: PLC0415 - the web framework, which no other command needs

    settings = _role(is_tied=tied)
    try:
        serve(settings, host=host, port=port, workers=workers)
    except OSError as error:
        why = error.strerror or str(error)
        raise Failure(f"cannot listen on {host}:{port} ({why}): choose another with --host or --port") from error


@click.command()
@click.option("--processes", default=PROCESSES, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@tied
def worker(processes: int, tied: bool) -> None:
    """Drain events into Postgres, sweep overdue holds, handle payments. SIGTERM ends the slices that run, then the
    processes.
    """
    # No thread watches here: the pool forks.
    run_pool(_role(is_tied=False), processes, leave=parent_is_gone if tied else lambda: False)


@click.command()
@tied
def scheduler(tied: bool) -> None:
    """Wake the workers, again and again. One is enough; more do no harm."""
    # It knows no sale and no money: the queue's Redis is all that it needs.
    own = "queue_redis_url" if Settings.from_env(os.environ).queue_redis_url else "redis_url"
    settings = _role(is_tied=tied, pays=False, needs=(own,))
    with contextlib.closing(queue_redis(settings)) as queue:
        keeper = Scheduler(queue)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: keeper.stop.set())
        keeper.run()


@click.command()
def migrate() -> None:
    """Bring Postgres to the current schema. Safe to run twice at once."""
    applied = bring_up_to_date(found_settings(needs=("database_url",)).database_url)
    for revision in applied:
        click.echo(f"applied {revision}")
    if not applied:
        click.echo("up to date")
