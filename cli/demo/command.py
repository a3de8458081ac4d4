"""`flashsale demo`."""

import asyncio
import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import uvloop

from cli import logs
from cli.demo.progress import Screen
from cli.demo.report import judge, print_report, summary
from cli.demo.run import Addresses, Course, Demo
from cli.output import json_line
from cli.servers import embedded
from cli.stack import Shape, Stack, free_port_of
from cli.stopping import Signals, Stopped
from engine.settings import Settings


@click.command()
@click.option("--customers", default=2000, show_default=True, type=click.IntRange(1, 100_000), help="How many come.")
@click.option("--stock", default=200, show_default=True, type=click.IntRange(1, 1_000_000), help="Units in all.")
@click.option("--seed", type=int, help="The same seed, the same customers. [default: random, and shown]")
@click.option("--json", is_flag=True, help="End with one line of JSON instead of the report.")
@click.pass_context
def demo(ctx: click.Context, customers: int, stock: int, seed: int | None, json: bool) -> None:
    """Run one whole sale with thousands of customers, and prove that it adds up.

    It runs over real HTTP. Redis, Postgres, API, workers and a payment stand-in are started on free ports and
    removed afterwards. The exit status is 0 only if nothing was oversold, lost or left over.
    """
    settings = Settings.from_env(os.environ)
    logs.configure("error" if settings.log_level in ("info", "warning") else settings.log_level)
    seed = random.randrange(1_000_000) if seed is None else seed  # noqa: S311
    signals = Signals()
    signals.listen()
    try:
        with tempfile.TemporaryDirectory(prefix="flashsale-demo-", ignore_cleanup_errors=True) as folder:
            ctx.exit(0 if _run(settings, Path(folder), customers, stock, seed, signals, json=json) else 1)
    except Stopped:
        raise click.Abort from None


def _run(
    settings: Settings, folder: Path, customers: int, stock: int, seed: int, signals: Signals, *, json: bool
) -> bool:
    # The demo's customers pay at the stand-in; a Stripe account of yours is left alone.
    settings = replace(
        settings, stripe_secret_key="", stripe_webhook_secret="", stripe_api_base="", log_level="warning"
    )
    click.echo("starting Redis, Postgres, the API, workers and a payment stand-in ...")
    with embedded(settings, folder / "data") as servers:
        signals.go_on()
        shape = Shape(host="127.0.0.1", port=free_port_of("127.0.0.1", 0), logs=folder)
        with Stack(servers, shape, folder / "data") as stack:
            stack.start(signals.go_on)
            stand_in = stack.stand_in
            assert stand_in
            click.echo(
                f"ready {stack.url}   PAYMENT STAND-IN at {stand_in.base_url}: no real money moves   seed {seed}"
            )
            at = Addresses(
                shop=stack.url,
                admin_token=stack.settings.admin_token,
                shop_token=stack.settings.shop_token,
                provider=stand_in.base_url,
                publishable_key=stand_in.publishable_key,
            )
            screen = Screen()
            course = _play(Demo(at, customers, stock, seed, screen.tell), screen, signals)
            ledger = stand_in.ledger()
            verdict = judge(course, ledger)
            figures = summary(course, verdict, customers, stock)
            if not json:
                print_report(course, verdict, figures, ledger)
            if not verdict.ok:
                for finding in verdict.findings if json else ():
                    click.echo(f"NOT SO: {finding}", err=True)
                _show_logs(folder)
    if json:
        json_line(figures)
    return verdict.ok


def _play(demo: Demo, screen: Screen, signals: Signals) -> Course:
    async def play() -> Course:
        async with screen.watch(demo.rush):
            course = asyncio.create_task(demo.run())
            while not course.done():
                await asyncio.wait([course], timeout=0.2)
                if signals.stop.is_set():
                    course.cancel()
                    signals.go_on()
            return course.result()

    return uvloop.run(play())


def _show_logs(folder: Path) -> None:
    """What the roles complained of, before it is removed."""
    for log in sorted(folder.glob("*.log")):
        for line in log.read_text(errors="replace").splitlines()[-5:]:
            click.echo(f"{log.stem}: {line[:400]}", err=True)
