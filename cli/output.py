"""What commands print: JSON for programs, tables for people."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

as_json = click.option("--json", is_flag=True, help="Print JSON.")
"""The option of every command that prints data."""


def json_line(value: Any) -> None:
    """One line of JSON on stdout."""
    click.echo(msgspec.json.encode(value).decode())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table; columns whose values are all numbers stand to the right."""
    listed = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
    if title:
        click.echo(f"\n{title}")
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = bool(listed) and all(_is_number(row[number]) for row in listed)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        shown.add_row(*row)
    console().print(shown)


def console() -> Console:
    """Wide where nobody's terminal limits it, so that lines in a log or a pipe are whole."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)


def money(amount: int, currency: str) -> str:
    """``129.00 usd``, as read: currencies without minor units are shown as they are."""
    if currency in _NO_MINOR_UNIT:
        return f"{amount} {currency}"
    return f"{amount // 100}.{amount % 100:02d} {currency}"


_NO_MINOR_UNIT = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"}
)


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()
