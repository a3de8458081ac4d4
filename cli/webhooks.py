"""`flashsale webhooks`: the inbox of payment events."""

from concurrent.futures import ThreadPoolExecutor

import click

from cli.output import as_json, json_line, table
from cli.payments import payments_context
from cli.servers import stores
from payments import inbox, listing

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


@webhooks.command("list")
@click.option("--status", type=click.Choice(listing.OPEN), help="Only those of this status.")
@click.option(
    "--limit", type=click.IntRange(1, listing.LIMIT_MAX), default=100, show_default=True, help="How many at most."
)
@as_json
def list_(status: listing.Open | None, limit: int, json: bool) -> None:
    """List stored payment events that were not handled, the oldest first.

    A parked one waits for people: its reason says why, and `flashsale webhooks replay` tries it again.
    """
    with stores() as at:
        found = listing.list_events(at.db, status, limit)
    if json:
        json_line(found)
    elif found:
        columns = ("id", "type", "status", "reason", "received_at", "intent", "tries")
        table(columns, [[getattr(each, name) for name in columns] for each in found])
    else:
        click.echo("there is no such event")
