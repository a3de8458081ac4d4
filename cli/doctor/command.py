"""The command."""

import os
from collections.abc import Callable, Iterator

import click
from rich.table import Table
from rich.text import Text

from cli.doctor.findings import Finding, Look, State, exit_status
from cli.doctor.machine import judge_files
from cli.doctor.postgres import look_at_postgres
from cli.doctor.redis_server import look_at_redis
from cli.doctor.stripe_account import look_at_stripe
from cli.output import as_json, console, json_line
from cli.servers import effective_environment
from engine.settings import Settings

STYLE = {State.FINE: "green", State.ADVICE: "yellow", State.UNKNOWN: "magenta", State.WRONG: "bold red"}
NOT_SET = "not set, and no stack runs here: only `up` and `demo` start an embedded one"


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, json: bool) -> None:
    """Check Redis, Postgres, Stripe and this machine, and say what to change.

    It changes nothing and starts no server. Exit status: 0 fine (advice is no fault), 1 something is wrong, 2 nothing
    is known to be wrong, but something could not be looked at.
    """
    settings = Settings.from_env(effective_environment(os.environ))
    findings = list(examine(settings))
    status = exit_status(findings)
    if json:
        json_line({"ok": status == 0, "findings": findings})
    else:
        _print(findings)
    ctx.exit(status)


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything, in the order in which it is printed."""
    yield from _where_set(settings.redis_url, "redis", "FLASHSALE_REDIS_URL", lambda: look_at_redis(settings))
    yield from _where_set(
        settings.database_url, "postgres", "FLASHSALE_DATABASE_URL", lambda: look_at_postgres(settings)
    )
    yield from look_at_stripe(settings)
    here = Look("here")
    judge_files(here)
    if not settings.admin_token:
        here.wrong("admin token", "none", "set FLASHSALE_ADMIN_TOKEN, or every admin request is refused")
    else:
        here.fine("admin token", "set")
    if not settings.shop_token:
        here.advice("shop token", "none", "set FLASHSALE_SHOP_TOKEN, or anybody may hold and order for anybody")
    else:
        here.fine("shop token", "set")
    yield from here.findings


def _where_set(url: str, subject: str, name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    if url:
        yield from look()
        return
    nothing = Look(subject)
    nothing.unknown("reach", f"{name} is {NOT_SET}", f"set {name}, or run this where `flashsale up` runs")
    yield from nothing.findings


def _print(findings: list[Finding]) -> None:
    shown = Table(box=None, show_header=False, pad_edge=False)
    for name in ("state", "subject", "check", "said"):
        shown.add_column(name, overflow="fold", no_wrap=name != "said")
    for each in findings:
        said = Text(each.said)
        if each.change:
            said.append(f" -> {each.change}", style="bold" if each.state is State.WRONG else "")
        shown.add_row(Text(each.state, style=STYLE[each.state]), each.subject, each.check, said)
    console().print(shown)
