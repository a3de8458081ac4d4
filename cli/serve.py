"""One role each, for containers: `api`, `worker`, `scheduler`; and `migrate`."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from cli import logs
from cli.children import TIED, parent_is_gone, tie_to_parent
from cli.failures import Failure
from cli.servers import bring_up_to_date, servers
from engine.settings import SettingError, Settings
from sandbox.stack import RunningStack
from workers.pool import PROCESSES, run_pool
from workers.runtime import queue_redis
from workers.scheduler import Scheduler

tied = click.option(TIED, is_flag=True, hidden=True, help="End when standard input does.")


@contextlib.contextmanager
def _role(
    *, is_tied: bool, pays: bool = True, needs: Sequence[str] = ("redis_url", "database_url"), api_url: str = ""
) -> Iterator[Settings]:
    """The settings of a role that runs for long. Servers that it has to start itself can be found by the other
    roles.
    """
    own = Settings.from_env(os.environ)
    logs.configure(own.log_level)
    if pays:
        _wants_provider(own)
    with servers(needs=needs) as found:
        s = found.settings
        if found.data_dir:
            found.data_dir.announce(
                RunningStack(
                    data_dir=str(found.data_dir.path),
                    cwd=str(Path.cwd()),
                    pid=os.getpid(),
                    redis_url=s.redis_url,
                    database_url=s.database_url,
                    api_url=api_url,
                )
            )
        if is_tied:
            tie_to_parent()
        yield s


def _wants_provider(settings: Settings) -> None:
    """Before any server is started; another stack's provider is not ours. Raises ``SettingError``."""
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

    with _role(is_tied=tied, api_url=f"http://{host}:{port}" if port else "") as settings:
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
    with _role(is_tied=False) as settings:
        # No thread watches here: the pool forks.
        run_pool(settings, processes, leave=parent_is_gone if tied else lambda: False)


@click.command()
@tied
def scheduler(tied: bool) -> None:
    """Wake the workers, again and again. One is enough; more do no harm."""
    # It knows no sale and no money: the queue's Redis is all that it needs.
    own = "queue_redis_url" if Settings.from_env(os.environ).queue_redis_url else "redis_url"
    role = _role(is_tied=tied, pays=False, needs=(own,))
    with role as settings, contextlib.closing(queue_redis(settings)) as queue:
        keeper = Scheduler(queue)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: keeper.stop.set())
        keeper.run()


@click.command()
def migrate() -> None:
    """Bring Postgres to the current schema. Safe to run twice at once."""
    with servers(needs=("database_url",)) as found:
        applied = bring_up_to_date(found.settings.database_url)
    for revision in applied:
        click.echo(f"applied {revision}")
    if not applied:
        click.echo("up to date")
