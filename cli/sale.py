"""`flashsale sale`: the life of a sale."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
import msgspec

from cli.asking import confirm, yes_option
from cli.failures import Failure, first_line, printable, refusal_line
from cli.output import as_json, json_line, money, table
from cli.salediff import print_difference, tell_warnings
from cli.saleinit import template
from cli.servers import stores
from engine import ids
from engine.shapes import Sale
from persistence import sales
from persistence.refusals import Refusal
from persistence.salechange import Warn, check, compare
from persistence.salefile import SaleFile, SaleFileError, parse

FAULTS_SHOWN = 5
"""Faults of a file that fit into the line of an error. Where there are more, each has a line of its own before it."""
FAULT_LINES_MAX = 100
FILE_BYTES_MAX = 8 * 1024 * 1024


@click.group()
def sale() -> None:
    """Write, load, show, pause, resume, withdraw and end sales."""


@sale.command()
@click.argument("file", type=click.Path(path_type=Path), default="sale.yaml")
@click.option("--id", "sale_id", default="my-sale", show_default=True, metavar="ID", help="The id of the sale.")
def init(file: Path, sale_id: str) -> None:
    """Write a commented sale file to FILE (sale.yaml), to be changed and loaded. A file that is there is kept."""
    if ids.NAME.fullmatch(sale_id) is None:
        raise click.BadParameter("must be 1 to 64 of A-Z a-z 0-9 . _ -, first a letter or a digit", param_hint="--id")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(template(sale_id, datetime.now(UTC)))
    except FileExistsError as error:
        raise Failure(f"{file} is there already: give another name", 1) from error
    click.echo(f"wrote {file}: change it, then `flashsale sale load {file} --dry-run`")


@sale.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Print what would change, field by field, and change nothing.")
@as_json
def load(file: Path, dry_run: bool, json: bool) -> None:
    """Put the sale of FILE (JSON or YAML; - reads standard input) on sale, or bring it up to date.

    The same file again changes nothing. A fault in it is told with its line and field; the exit status is 2 then. What
    is allowed and looks like a mistake is a warning on standard error.
    """
    loaded = _read(file)
    with stores() as at:
        try:
            found = compare(at.db, loaded)
            if dry_run:
                check(at.db, at.redis, loaded)
                print_difference(found, json=json)
                return
            tell_warnings(found.warnings)
            result = sales.load_sale(at.db, at.redis, loaded)
        except Refusal as refusal:
            raise Failure(f"{file}: {_at_fault(refusal, loaded)}{refusal_line(refusal)}", 2) from refusal
        _print_sale(result.sale, json=json, warnings=found.warnings)


@sale.command("list")
@as_json
def list_(json: bool) -> None:
    """Every sale, the newest first."""
    with stores() as at:
        found = sales.list_sales(at.db, at.redis)
    if json:
        json_line(found)
        return
    table(
        ("id", "name", "status", "starts at", "ends at"),
        [(each.id, each.name, each.status, each.starts_at or "", each.ends_at or "") for each in found],
    )


@sale.command()
@click.argument("sale_id", metavar="ID")
@as_json
def show(sale_id: str, json: bool) -> None:
    """A sale with its live counters."""
    with stores() as at:
        _print_sale(sales.show_sale(at.db, at.redis, _known_name(sale_id)), json=json)


@sale.command()
@click.argument("sale_id", metavar="ID")
@as_json
def pause(sale_id: str, json: bool) -> None:
    """Take no new holds for now. Live holds may still be ordered and paid."""
    _steer(sale_id, "pause", json=json)


@sale.command()
@click.argument("sale_id", metavar="ID")
@as_json
def resume(sale_id: str, json: bool) -> None:
    """Let a paused sale go on."""
    _steer(sale_id, "resume", json=json)


@sale.command()
@click.argument("sale_id", metavar="ID")
@yes_option
@as_json
def end(sale_id: str, yes: bool, json: bool) -> None:
    """End a sale for good: on a terminal that asks first. Live holds may still be ordered and paid."""
    _steer(sale_id, "end", json=json, ask=not yes)


@sale.command()
@click.argument("sale_id", metavar="ID")
@as_json
def withdraw(sale_id: str, json: bool) -> None:
    """Take back a sale that is scheduled and had no hold. Its products are free for another sale.

    Its file can be loaded again within 24 hours; after that a sale needs an id of its own.
    """
    with stores() as at:
        try:
            taken = sales.withdraw(at.db, at.redis, _known_name(sale_id))
        except sales.NotWithdrawn as refused:
            raise Failure(str(refused)) from refused
        _print_sale(taken, json=json)


def _steer(sale_id: str, verb: sales.Verb, *, json: bool, ask: bool = False) -> None:
    with stores() as at:
        if ask:
            before = sales.show_sale(at.db, at.redis, _known_name(sale_id))
            confirm(f"This ends sale {before.id} ({before.name}, {before.status}) for good.", yes=False)
        _print_sale(sales.set_state(at.db, at.redis, _known_name(sale_id), verb), json=json)


def _known_name(sale_id: str) -> str:
    """Raises ``Refusal`` for a name that no sale can have."""
    if ids.NAME.fullmatch(sale_id) is None:
        raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")
    return sale_id


def _read(file: Path) -> SaleFile:
    """Raises ``Failure`` with status 2, naming each fault's line and field."""
    try:
        data = sys.stdin.buffer.read(FILE_BYTES_MAX) if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or first_line(error)}", 2) from error
    kind: Literal["json", "yaml"] = "json" if file.suffix.lower() == ".json" else "yaml"
    if file.suffix.lower() not in (".json", ".yaml", ".yml") and data.lstrip()[:1] == b"{":
        kind = "json"
    try:
        return parse(data, format=kind)
    except SaleFileError as error:
        if len(error.errors) > FAULTS_SHOWN:
            for fault in error.errors[:FAULT_LINES_MAX]:
                click.echo(f"{file}: {printable(str(fault))}", err=True)
            raise Failure(f"{file}: has {len(error.errors)} faults, the first of them above", 2) from error
        raise Failure(f"{file}: {'; '.join(map(str, error.errors))}", 2) from error


def _at_fault(refusal: Refusal, file: SaleFile) -> str:
    """The field of a file that Redis or Postgres refused."""
    field = {"stock_below_committed": "stock", "product_in_other_sale": "id"}.get(refusal.code, "")
    names = [product.id for product in file.products]
    product_id = refusal.extra.get("product_id")
    return f"products[{names.index(product_id)}].{field}: " if field and product_id in names else ""


def _print_sale(shown: Sale, *, json: bool, warnings: list[Warn] | None = None) -> None:
    if json:
        found = msgspec.to_builtins(shown)
        json_line(found if warnings is None else found | {"warnings": warnings})
        return
    fenced = ", fenced" if shown.fenced else ""
    click.echo(f"{shown.id}  {shown.name}  {shown.status}{fenced}")
    click.echo(f"from {shown.starts_at or 'the start'} to {shown.ends_at or 'its end by hand'}")
    drain = shown.drain
    click.echo(f"event {drain.seq}, {drain.drained_seq} in Postgres, {drain.lag_seconds:g} s behind")
    table(
        ("product", "name", "price", "total", "available", "held", "sold", "limit"),
        [
            (
                each.id,
                each.name,
                money(each.price.amount, each.price.currency),
                each.stock.total,
                each.stock.available,
                each.stock.held,
                each.stock.sold,
                each.per_customer_limit or "",
            )
            for each in shown.products
        ],
    )
