"""The command."""

from pathlib import Path

import click

from cli.failures import Failure, first_line
from cli.output import as_json, json_line, money, table
from cli.report.charts import duration
from cli.servers import stores
from persistence import salereport
from persistence.salereport import SaleReport


@click.command()
@click.argument("sale_id", metavar="SALE")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the page to this file.")
@as_json
def report(sale_id: str, html: Path | None, json: bool) -> None:
    """How SALE went: sold over time, conversion, peak, refunds, revenue.

    From Postgres alone, so also of a sale that has left Redis. The page loads nothing from anywhere.
    """
    with stores() as at:
        found = salereport.read(at.db, sale_id)
    if html is not None:
        from cli.report.page import render  # noqa: PLC0415 - jinja2, which nothing else here needs

        try:
            html.write_text(render(found), encoding="utf-8")
        except OSError as error:
            raise Failure(f"{html}: {error.strerror or first_line(error)}") from error
    if json:
        json_line(found)
    elif html is not None:
        click.echo(f"wrote {click.format_filename(html)}")
    else:
        _print(found)


def _print(found: SaleReport) -> None:
    click.echo(f"{found.sale_id}: {found.name}, {'archived' if found.retired else found.state}, as of {found.as_of}")
    paid = f"{100 * found.orders_paid / found.holds_taken:.1f} %" if found.holds_taken else "none"
    click.echo(f"holds {found.holds_taken}, ordered {found.holds_ordered}, paid {found.orders_paid} ({paid})")
    click.echo(
        f"customers {found.customers}, buyers {found.buyers}, busiest second {found.peak_holds_per_second} holds"
    )
    columns = ("product", "units", "sold", "returned", "revenue", "all reserved after", "sold out after")
    rows = [
        (
            each.id,
            each.total,
            each.sold,
            each.returned,
            money(each.revenue, each.currency),
            duration(each.gone_after_seconds),
            duration(each.sold_out_after_seconds),
        )
        for each in found.products
    ]
    table(columns, rows)
    for each in found.money:
        kept, captured = money(each.kept, each.currency), money(each.captured, each.currency)
        click.echo(f"kept {kept} of {captured} captured")
    for anomaly in found.anomalies:
        if anomaly.count:
            click.echo(f"{anomaly.kind} {anomaly.count}: {anomaly.means}")
