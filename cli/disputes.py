"""`flashsale disputes`: charges that a customer's bank took up."""

import click

from cli.output import as_json, json_line, money, table
from cli.servers import stores
from payments import listing


@click.command()
@as_json
def disputes(json: bool) -> None:
    """List disputed charges, the newest first.

    They are answered at the payment provider; here they are only kept.
    """
    with stores() as at:
        found = listing.list_disputes(at.db)
    if json:
        json_line(found)
        return
    rows = [
        (
            each.id,
            each.order_id,
            money(each.amount.amount, each.amount.currency),
            each.reason,
            each.status,
            each.created_at,
        )
        for each in found
    ]
    if rows:
        table(("id", "order", "amount", "reason", "status", "created"), rows)
    else:
        click.echo("there is no dispute")
