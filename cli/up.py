"""`flashsale up`: the whole stack in the foreground."""

import os
from pathlib import Path

import click

from cli import logs
from cli.servers import embedded
from cli.stack import Shape, Stack, free_port_of
from cli.stopping import Signals, Stopped
from engine.settings import Settings
from sandbox.stack import data_dir_of

WATCH_SECONDS = 0.2


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the API listens.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--api-workers", default=1, show_default=True, type=click.IntRange(1, 64), help="API processes.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the embedded servers' data is; it survives a restart. [default: FLASHSALE_DATA_DIR, else .flashsale]",
)
def up(host: str, port: int, api_workers: int, data_dir: Path | None) -> None:
    """Run the whole stack: API, workers, scheduler, and what is not configured.

    Where no Redis or Postgres is configured, embedded ones run on the data dir; where no Stripe key is, a payment
    stand-in. Ends with everything stopped after Ctrl-C or SIGTERM.
    """
    settings = Settings.from_env(os.environ)
    logs.configure(settings.log_level)
    folder = (data_dir or data_dir_of(os.environ, Path.cwd())).absolute()
    shape = Shape(host=host, port=free_port_of(host, port), api_workers=api_workers)
    signals = Signals()
    signals.listen()
    try:
        with embedded(settings, folder) as servers:
            signals.go_on()
            with Stack(servers, shape, folder) as stack:
                stack.start(signals.go_on)
                servers.data_dir.announce(stack.record())
                _introduce(stack, folder)
                click.echo(f"ready {stack.url}")
                while not signals.stop.wait(WATCH_SECONDS):
                    stack.supervise()
                click.echo("stopping", err=True)
    except Stopped:
        return


def _introduce(stack: Stack, folder: Path) -> None:
    """Where everything is. The URLs carry passwords: this is for the terminal of whoever started it."""
    settings = stack.settings
    click.echo(f"data      {folder}")
    click.echo(f"redis     {settings.redis_url}")
    click.echo(f"postgres  {settings.database_url}")
    if stack.made_token:
        click.echo(f"admin     {settings.admin_token}  (FLASHSALE_ADMIN_TOKEN is not set; this one was made)")
    click.echo(f"shop      {stack.url}/shop")
    click.echo(f"live      {stack.url}/ops  (wants the admin token)")
    if stack.stand_in:
        click.echo("!" * 80)
        click.echo("!! PAYMENT STAND-IN: no Stripe key is set, so no real money moves and no card is charged.")
        click.echo(f"!! api base         {stack.stand_in.base_url}")
        click.echo(f"!! secret key       {stack.stand_in.secret_key}")
        click.echo(f"!! publishable key  {stack.stand_in.publishable_key}")
        click.echo(f"!! webhook secret   {stack.stand_in.webhook_secret}")
        click.echo("!! Set FLASHSALE_STRIPE_SECRET_KEY and FLASHSALE_STRIPE_WEBHOOK_SECRET for Stripe itself.")
        click.echo("!" * 80)
