"""`flashsale audit`: what people did."""

import click
import msgspec

from cli.output import as_json, json_line, table
from cli.servers import stores
from persistence.audit import LIMIT_MAX, list_entries

DETAIL_CHARACTERS_MAX = 200


@click.group()
def audit() -> None:
    """List what people did, the newest first."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="How many at most.")
@click.option("--subject", metavar="ID", help="Only what was done to this sale, product or order.")
@click.option("--before", type=click.IntRange(min=1), metavar="NUMBER", help="Only entries before this one.")
@as_json
def list_(limit: int, subject: str | None, before: int | None, json: bool) -> None:
    """List what people did by commands and admin routes, the newest first.

    Loads, pauses, ends and withdrawals of sales, stock adjustments, refunds, repairs, rebuilds, replays of webhooks
    and erasures. `by` is the user of a command, or the admin token.
    """
    with stores() as at:
        found = list_entries(at.db, limit, subject, before)
    if json:
        json_line(found)
    elif found:
        rows = [
            (each.id, each.at, each.detail.get("by", ""), each.action, each.subject, _short(each.detail))
            for each in found
        ]
        table(("number", "at", "by", "action", "subject", "detail"), rows)
    else:
        click.echo("there is no such entry")


def _short(detail: dict[str, object]) -> str:
    """The detail but for ``by``, which has a column of its own."""
    rest = {name: value for name, value in detail.items() if name != "by"}
    text = msgspec.json.encode(rest).decode() if rest else ""
    return text if len(text) <= DETAIL_CHARACTERS_MAX else f"{text[:DETAIL_CHARACTERS_MAX]} ..."
