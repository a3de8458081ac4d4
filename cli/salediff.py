"""How the difference between a sale file and the loaded sale is printed, and what looks like a mistake."""

from collections.abc import Iterable
from typing import Any

import click

from cli.output import json_line, money, table
from engine.shapes import Money
from persistence.salechange import Difference, Warn


def tell_warnings(warnings: Iterable[Warn]) -> None:
    """A line for each on stderr."""
    for warning in warnings:
        click.echo(f"flashsale: warning: {warning}", err=True)


def print_difference(found: Difference, *, json: bool) -> None:
    tell_warnings(found.warnings)
    if json:
        json_line(found)
        return
    if found.new:
        click.echo(f"{found.sale_id}: a new sale")
    elif not found.changes:
        click.echo(f"{found.sale_id}: nothing would change")
    if found.changes:
        rows = [(each.field, _shown(each.before), _shown(each.after)) for each in found.changes]
        table(("field", "is", "would be"), rows)
    for product in found.unnamed:
        click.echo(f"products[{product}] is not in the file and stays as it is")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Money):
        return money(value.amount, value.currency)
    return str(value)
