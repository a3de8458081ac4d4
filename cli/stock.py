"""`flashsale stock`: units that come and go by hand."""

import click

from cli.asking import confirm, yes_option
from cli.output import as_json, json_line
from cli.servers import stores
from engine import ids
from persistence import sales
from persistence.refusals import Refusal

REASON_CHARACTERS_MAX = 500
DELTA_MAX = 10_000_000


@click.group()
def stock() -> None:
    """Add or take stock."""


@stock.command(context_settings={"ignore_unknown_options": True})  # so that -5 is a number and no option
@click.argument("product_id", metavar="PRODUCT")
@click.argument("delta", type=click.IntRange(-DELTA_MAX, DELTA_MAX))
@click.option("--reason", required=True, help="Why; it is kept in the ledger.")
@yes_option
@as_json
def adjust(product_id: str, delta: int, reason: str, yes: bool, json: bool) -> None:
    """Add DELTA units of PRODUCT, or take them where it is negative: on a terminal that asks first.

    Never below what is held and sold: that is refused, with exit status 1.
    """
    reason = reason.strip()
    if delta == 0:
        raise click.BadParameter("must not be 0", param_hint="DELTA")
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX or "\0" in reason:
        raise click.BadParameter(f"must be text of 1 to {REASON_CHARACTERS_MAX} characters", param_hint="--reason")
    with stores() as at:
        if ids.NAME.fullmatch(product_id) is None:
            raise Refusal("product_not_found", f"There is no product {product_id[:64]!r}.")
        if delta < 0:
            confirm(f"This takes {-delta} units of {product_id} off sale.", yes=yes)
        product = sales.adjust_stock(at.db, at.redis, product_id, delta, reason, ids.new_token())
    if json:
        json_line(product)
        return
    units = product.stock
    counters = f"{units.available} available, {units.held} held, {units.sold} sold"
    click.echo(f"{product.id}: {delta:+d}, now {units.total} in all, {counters}")
