"""The command."""

import math
import os
import sys
import time
from pathlib import Path

import click
from redis.exceptions import RedisError
from rich.live import Live as Screen
from rich.text import Text

from cli.failures import first_line
from cli.output import as_json, console, json_line
from cli.servers import stores
from cli.top.frame import Watcher
from cli.top.view import view
from sandbox.stack import find_running_stack


@click.command()
@click.option(
    "--interval", default=1.0, show_default=True, type=click.FloatRange(0.2, 60), help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Print one frame, of one interval, and leave.")
@click.option("--api", "api_url", default="", metavar="URL", help="The API whose answers are shown.")
@as_json
def top(interval: float, once: bool, api_url: str, json: bool) -> None:
    """Watch the sales as they go: stock, holds a second, money, lag, answers.

    In a terminal one page that changes, until Ctrl-C; elsewhere a frame each interval.
    """
    if math.isnan(interval):
        raise click.BadParameter("must be a number", param_hint="--interval")
    with stores() as at:
        watcher = Watcher(at, (api_url or _stack_url()).rstrip("/"))
        watcher.look()
        try:
            if sys.stdout.isatty() and not (once or json):
                _show(watcher, interval)
            else:
                _print(watcher, interval, once=once, json=json)
        except KeyboardInterrupt:
            return


def _stack_url() -> str:
    stack = find_running_stack(os.environ, Path.cwd())
    return stack.api_url if stack else ""


def _print(watcher: Watcher, interval: float, *, once: bool, json: bool) -> None:
    while True:
        time.sleep(interval)
        frame = watcher.look()
        if json:
            json_line(frame)
        else:
            console().print(view(frame))
        sys.stdout.flush()
        if once:
            return


def _show(watcher: Watcher, interval: float) -> None:
    """A Redis that is away is told, and asked again."""
    with Screen(console=console(), screen=True, auto_refresh=False) as screen:
        while True:
            time.sleep(interval)
            try:
                screen.update(view(watcher.look()), refresh=True)
            except RedisError as error:
                away = f"Redis does not answer ({first_line(error)})"
                screen.update(Text(away, style="bold red"), refresh=True)
