"""`flashsale holds`: overdue holds, without waiting for the sweep."""

import click

from cli.output import as_json, json_line
from cli.servers import Stores, stores
from engine import commands
from engine.command import run
from persistence.drain import drain_once
from persistence.refusals import Refusal
from workers.sales import read_products

BATCH_MAX = 500
PRODUCTS_MAX = 100


@click.group()
def holds() -> None:
    """Look after holds."""


@holds.command()
@click.argument("sale_id", metavar="[SALE]", required=False)
@as_json
def expire(sale_id: str | None, json: bool) -> None:
    """Release every overdue hold now, of SALE or of all sales. Workers do this by themselves."""
    with stores() as at:
        products = read_products(at.db)
        if sale_id is not None and sale_id not in products:
            raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")
        wanted = [sale_id] if sale_id is not None else sorted(products)
        released = {each: _expire(at, each, sorted(products[each])) for each in wanted}
    if json:
        json_line([{"sale_id": each, "released": count} for each, count in released.items()])
        return
    for each, count in released.items():
        click.echo(f"{each}: {count} overdue hold{'' if count == 1 else 's'} released")
    if not released:
        click.echo("there is no sale")


def _expire(at: Stores, sale_id: str, products: list[str]) -> int:
    shown = run(at.redis, commands.show(sale_id, []))
    if shown.sale is None or shown.sale.fenced:
        raise Refusal("sale_unavailable", f"Sale {sale_id} is being restored; try again when it is back.")
    ended = 0
    for start in range(0, len(products), PRODUCTS_MAX):
        more = True
        while more:
            count, more = run(at.redis, commands.expire(sale_id, products[start : start + PRODUCTS_MAX], BATCH_MAX))
            ended += count
    while (drained := drain_once(at.db, at.redis, sale_id)) and drained.behind:
        pass
    return ended
