"""`flashsale rebuild`: a sale in Redis, from Postgres."""

import click

from cli.failures import Failure
from cli.output import as_json, json_line
from cli.servers import stores
from persistence.rebuild import RebuildRefused
from persistence.rebuild import rebuild as restore


@click.command()
@click.argument("sale_id", metavar="SALE")
@as_json
def rebuild(sale_id: str, json: bool) -> None:
    """Restore SALE in Redis from Postgres, after Redis lost data.

    It can be stopped and repeated anywhere. Holds that Postgres does not know are lost, and their units are for sale.
    """
    with stores() as at:
        try:
            done = restore(at.db, at.redis, sale_id, by_hand=True)
        except RebuildRefused as refused:
            raise Failure(str(refused)) from refused
    if json:
        json_line(done)
    else:
        click.echo(f"{done.sale_id}: restored as epoch {done.epoch}")
