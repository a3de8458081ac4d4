"""`flashsale hold show` and `flashsale order show`: what happened, in the order of time."""

import click

from cli.output import as_json, json_line, money, table
from cli.servers import stores
from persistence.timeline import Entry, hold_story, order_story


@click.group()
def hold() -> None:
    """Look at one hold."""


@click.group()
def order() -> None:
    """Look at one order."""


@hold.command("show")
@click.argument("hold_id", metavar="ID")
@as_json
def show_hold(hold_id: str, json: bool) -> None:
    """Show a hold, its order, and how its units moved."""
    with stores() as at:
        story = hold_story(at.db, at.redis, hold_id)
    if json:
        json_line(story)
        return
    found = story.hold
    click.echo(f"{found.id}  {found.status}  {money(found.total.amount, found.total.currency)}  {found.customer_id}")
    click.echo(f"from {found.created_at} until {found.expires_at}, order {story.order_id or 'none'}")
    _print(story.timeline)


@order.command("show")
@click.argument("order_id", metavar="ID")
@as_json
def show_order(order_id: str, json: bool) -> None:
    """Show an order with its money, and all that happened to it: hold, attempts, events, refunds, disputes."""
    with stores() as at:
        story = order_story(at.db, order_id)
    if json:
        json_line(story)
        return
    found, payment = story.order, story.payment
    because = f" ({story.ended_because})" if story.ended_because else ""
    click.echo(f"{found.id}  {found.status}{because}  {found.customer_id}  {found.hold_id}")
    for line in found.lines:
        click.echo(f"{line.qty} x {line.product_id} at {money(line.unit_price.amount, line.unit_price.currency)}")
    sums = [money(amount, found.total.currency) for amount in (payment.amount, payment.captured, payment.refunded)]
    intent = f"intent {payment.intent_id or 'none yet'}, {payment.status}"
    click.echo(f"{intent}: {sums[0]}, captured {sums[1]}, refunded {sums[2]}")
    if payment.due:
        click.echo(f"owed: {payment.due}, {payment.tries} tries failed; {payment.last_error or 'no error yet'}")
    _print(story.timeline)


def _print(timeline: list[Entry]) -> None:
    table(("at", "what", "detail"), [(each.at, each.what, each.detail) for each in timeline])
