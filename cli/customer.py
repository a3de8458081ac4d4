"""`flashsale customer`: what is kept of a customer, and how to forget them."""

import click

from cli.failures import Failure
from cli.output import as_json, json_line, table
from cli.servers import stores
from persistence import customers
from persistence.customers import Kept

WAITING = 1


@click.group()
def customer() -> None:
    """Show what is kept of a customer, and forget them."""


@customer.command()
@click.argument("customer_id", metavar="CUSTOMER")
@as_json
def show(customer_id: str, json: bool) -> None:
    """What is kept of CUSTOMER, sale by sale."""
    with stores() as at:
        kept = customers.read(at.db, customer_id)
    _print(kept, json=json)


@customer.command()
@click.argument("customer_id", metavar="CUSTOMER")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@as_json
@click.pass_context
def erase(ctx: click.Context, customer_id: str, yes: bool, json: bool) -> None:
    """Put a pseudonym wherever CUSTOMER is named, and remove what is personal from stored payment events.

    Stock, money and the feed still add up. Only sales that have left Redis, 24 h after their end, and orders with
    nothing open: run it again for what waits. Exit status: 0 nothing names them any more, 1 something waits.
    """
    with stores() as at:
        if not yes:
            _ask(customers.read(at.db, customer_id))
        kept = customers.erase(at.db, customer_id)
    _print(kept, json=json)
    ctx.exit(WAITING if kept.waiting else 0)


def _ask(kept: Kept) -> None:
    """Raises ``Failure`` where the answer is no, or where nobody can be asked."""
    ready = len(kept.sales) - len(kept.waiting)
    asked = f"Erase {kept.customer_id} from {ready} sales for good ({len(kept.waiting)} have to wait)?"
    if not click.confirm(asked, err=True):
        raise Failure("nothing was erased")


def _print(kept: Kept, *, json: bool) -> None:
    if json:
        json_line(kept)
        return
    if not kept.sales:
        click.echo(f"nothing names {kept.customer_id}")
        return
    columns = ("sale", "holds", "orders", "feed changes", "payment events", "first at", "waits for")
    rows = [
        (
            each.sale_id,
            each.holds,
            len(each.orders),
            each.feed_changes,
            each.payment_events,
            each.first_at or "",
            each.waits_for,
        )
        for each in kept.sales
    ]
    table(columns, rows)
    click.echo(f"pseudonym {kept.pseudonym}")
