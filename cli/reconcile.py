"""`flashsale reconcile`: whether the stores say the same."""

import contextlib

import click

from cli.failures import Failure, explain
from cli.output import as_json, json_line, table
from cli.servers import Stores, stores
from payments import reconcile as three_way
from payments.context import Context
from payments.provider import Provider
from persistence import reconcile as two_way
from persistence.drift import Report
from workers.sales import read_cursors

CONSISTENT, DRIFT, NOT_COMPARED = 0, 1, 2


@click.command()
@click.argument("sale_id", metavar="[SALE]", required=False)
@as_json
@click.option("--apply", "repair", is_flag=True, help="Repair what can be repaired while the sale goes on.")
@click.pass_context
def reconcile(ctx: click.Context, sale_id: str | None, json: bool, repair: bool) -> None:
    """Compare Redis, Postgres and, where one is configured, the payment provider: SALE, or every sale.

    Exit status: 0 consistent (or repaired), 1 drift was found and not repaired, 2 could not compare.
    """
    try:
        with stores() as at, contextlib.closing(Comparer(at)) as comparer:
            wanted = [sale_id] if sale_id is not None else sorted(read_cursors(at.db))
            found = [comparer.compare(each, repair=repair) for each in wanted]
    except Exception as error:
        raise Failure(f"could not compare: {explain(error)[0]}", NOT_COMPARED) from error
    reports = [after for _, after in found]
    if json:
        json_line(reports[0] if sale_id is not None else reports)
    else:
        for before, after in found:
            _print(before, after)
        if not found:
            click.echo("there is no sale")
    ctx.exit(CONSISTENT if all(report.consistent for report in reports) else DRIFT)


class Comparer:
    """Two ways where no payment provider is configured, else three."""

    def __init__(self, at: Stores) -> None:
        self._at = at
        key = at.settings.stripe_secret_key
        self._provider = Provider.from_settings(at.settings) if key else None
        self._context = Context(at.db, at.redis, self._provider, at.settings) if self._provider else None

    def compare(self, sale_id: str, *, repair: bool) -> tuple[Report, Report]:
        """The report as it was found, and as it is now."""
        if repair:
            repaired = (
                three_way.apply(self._context, sale_id)
                if self._context
                else two_way.apply(self._at.db, self._at.redis, sale_id)
            )
            return repaired.before, repaired.after
        report = (
            three_way.reconcile(self._context, sale_id)
            if self._context
            else two_way.reconcile(self._at.db, self._at.redis, sale_id)
        )
        return report, report

    def close(self) -> None:
        if self._provider:
            self._provider.close()


def _print(before: Report, after: Report) -> None:
    mended = len(before.drift) - len(after.drift)
    repaired = f", {mended} repaired" if mended > 0 else ""
    count = len(after.drift)
    verdict = "consistent" if after.consistent else f"{count} difference{'s' if count > 1 else ''}"
    click.echo(f"{after.sale_id}: {verdict}{repaired}, at event {after.seq}, {after.checked_at}")
    if after.drift:
        columns = ("promise", "kind", "id", "field", "redis", "postgres", "stripe")
        table(columns, [[getattr(each, name) for name in columns] for each in after.drift])
