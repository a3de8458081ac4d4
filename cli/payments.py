"""What the commands that touch money share, and `flashsale refund`."""

import contextlib
import secrets
from collections.abc import Iterator

import click
import msgspec

from cli.output import as_json, json_line, money
from cli.servers import stores
from engine import shapes
from engine.settings import SettingError
from payments.context import Context
from payments.provider import Provider
from payments.refunding import RefundLine, RefundRequest, create_refund


@contextlib.contextmanager
def payments_context() -> Iterator[Context]:
    """Raises ``SettingError`` where no payment provider is configured, else as ``stores``."""
    with stores() as at:
        if not at.settings.stripe_secret_key:
            raise SettingError(
                "there is no payment provider: set FLASHSALE_STRIPE_SECRET_KEY, or run `flashsale up` beside this"
            )
        with contextlib.closing(Provider.from_settings(at.settings)) as provider:
            yield Context(at.db, at.redis, provider, at.settings)


@click.command()
@click.argument("order_id", metavar="ORDER")
@click.option(
    "--amount",
    type=click.IntRange(min=1),
    help="In minor units; without it the price of the lines, or all that is left.",
)
@click.option("--reason", help="Why: duplicate, fraudulent, requested_by_customer, or your own words.")
@click.option(
    "--line", "lines", multiple=True, metavar="PRODUCT=QTY", help="Units that are returned; may be given again."
)
@click.option("--restock", is_flag=True, help="Put the returned units on sale again.")
@click.option("--key", metavar="IDEMPOTENCY_KEY", help="The same key again is the same refund. [default: a new one]")
@as_json
def refund(  # noqa: PLR0917 - one for each option, and called by click alone
    order_id: str,
    amount: int | None,
    reason: str | None,
    lines: tuple[str, ...],
    restock: bool,
    key: str | None,
    json: bool,
) -> None:
    """Give money back for ORDER, whole or in part."""
    wanted = [_line(text) for text in lines]
    request = RefundRequest(amount=amount, reason=reason, lines=wanted or None, restock=restock)
    with payments_context() as context:
        answer = create_refund(context, order_id, request, key or secrets.token_urlsafe(16))
    made = msgspec.json.decode(answer.body, type=shapes.Refund)
    if json:
        json_line(made)
        return
    returned = ", units back on sale" if made.restocked else ""
    click.echo(f"{made.id}: {money(made.amount.amount, made.amount.currency)} {made.status}{returned}")


def _line(text: str) -> RefundLine:
    product, _, quantity = text.rpartition("=")
    if not product or not (quantity.isascii() and quantity.isdigit()) or not 1 <= int(quantity) <= 99:
        raise click.BadParameter(f"{text!r} is not PRODUCT=QTY, as sneaker-42=1", param_hint="--line")
    return RefundLine(product, int(quantity))
