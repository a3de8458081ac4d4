"""`flashsale sale`: the life of a sale."""

import sys
from pathlib import Path
from typing import Literal

import click

from cli.failures import Failure, first_line, refusal_line
from cli.output import as_json, json_line, money, table
from cli.servers import stores
from engine import ids, shapes
from engine.shapes import Sale
from persistence import sales
from persistence.refusals import Refusal
from persistence.salefile import SaleFile, SaleFileError, parse

FAULTS_SHOWN = 5
FILE_BYTES_MAX = 8 * 1024 * 1024


@click.group()
def sale() -> None:
    """Load, show, pause, resume and end sales."""


@sale.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@as_json
def load(file: Path, json: bool) -> None:
    """Put the sale of FILE (JSON or YAML; - reads standard input) on sale, or bring it up to date.

    The same file again changes nothing. A fault in it is told with its line and field; the exit status is 2 then.
    """
    loaded = _read(file)
    with stores() as at:
        try:
            result = sales.load_sale(at.db, at.redis, loaded)
        except Refusal as refusal:
            raise Failure(f"{file}: {_at_fault(refusal, loaded)}{refusal_line(refusal)}", 2) from refusal
        _print_sale(result.sale, json=json)


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
@as_json
def end(sale_id: str, json: bool) -> None:
    """End a sale for good. Live holds may still be ordered and paid."""
    _steer(sale_id, "end", json=json)


def _steer(sale_id: str, verb: sales.Verb, *, json: bool) -> None:
    with stores() as at:
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
        more = len(error.errors) - FAULTS_SHOWN
        faults = "; ".join(str(fault) for fault in error.errors[:FAULTS_SHOWN])
        raise Failure(f"{file}: {faults}{f'; and {more} more' if more > 0 else ''}", 2) from error


def _at_fault(refusal: Refusal, file: SaleFile) -> str:
    """The field of a file that Redis or Postgres refused."""
    field = {"stock_below_committed": "stock", "product_in_other_sale": "id"}.get(refusal.code, "")
    names = [product.id for product in file.products]
    product_id = refusal.extra.get("product_id")
    return f"products[{names.index(product_id)}].{field}: " if field and product_id in names else ""


def _print_sale(shown: Sale, *, json: bool) -> None:
    if json:
        click.echo(shapes.encode(shown).decode())
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
