"""`flashsale webhooks`: the inbox of payment events."""

from concurrent.futures import ThreadPoolExecutor

import click

from cli.output import as_json, json_line
from cli.payments import payments_context
from payments import inbox

THREADS = 8


@click.group()
def webhooks() -> None:
    """Look after stored payment events."""


@webhooks.command()
@click.option("--pending", is_flag=True, help="Only those that were never handled.")
@as_json
def replay(pending: bool, json: bool) -> None:
    """Process stored payment events again. What was done once is not done twice."""
    with payments_context() as context, ThreadPoolExecutor(THREADS) as pool:
        count = inbox.replay(context, pool, pending_only=pending)
    if json:
        json_line({"replayed": count})
    else:
        click.echo(f"{count} event{'' if count == 1 else 's'} processed")
