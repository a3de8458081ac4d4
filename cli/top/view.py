"""A frame as a terminal shows it."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.output import money
from cli.top.frame import Api, Frame, Rates
from engine.shapes import Stock
from persistence.live import Live, LiveSale

BAR = 40
PARTS = (("sold", "green", "█"), ("held", "yellow", "▓"), ("available", "bright_black", "░"))
NOTICES = 5


def view(frame: Frame) -> RenderableType:
    """The whole of it, as wide as the terminal."""
    parts: list[RenderableType] = [_head(frame), _promises(frame.live)]
    parts += [_sale(sale, frame.rates[sale.id]) for sale in frame.live.sales]
    if not frame.live.sales:
        parts.append(Text("no sale is in Redis"))
    if frame.live.waiting:
        parts.append(_waiting(frame.live))
    parts.append(_api(frame.api))
    for notice in frame.live.notices[:NOTICES]:
        told = " · ".join(filter(None, (notice.kind.replace("_", " "), notice.subject, notice.said)))
        parts.append(Text(told, style="red" if notice.bad else ""))
    return Group(*parts)


def _head(frame: Frame) -> Text:
    text = Text.assemble((frame.at, "bold"), "  ctrl-c leaves")
    if not frame.live.postgres:
        text.append("  Postgres does not answer", style="bold red")
    return text


def _promises(live: Live) -> Text:
    text = Text("promises  ")
    for name in live.promises.__struct_fields__:
        value = getattr(live.promises, name)
        style = "green" if value == 0 else "bold red" if value else "magenta"
        text.append(f"{name} {'?' if value is None else value}  ", style=style)
    return text


def _sale(sale: LiveSale, rates: Rates) -> Panel:
    state = "FENCED" if sale.fenced else sale.status
    lag = "?" if sale.lag_events is None else f"{sale.lag_events} events, {sale.lag_seconds or 0:.1f} s"
    conversion = "?" if rates.conversion is None else f"{rates.conversion:.1%}"
    line = Text(f"{rates.holds_per_second:g} holds/s   {sale.holds} holds   {sale.paying} in payment   ")
    line.append(f"paid {conversion}   lag {lag}")
    if sale.overdue or sale.unsound:
        line.append(f"   overdue {sale.overdue}, unsound {sale.unsound}", style="bold red")
    rows: list[RenderableType] = [_stock(sale.stock), line]
    if sale.products_in_all > 1:
        rows.append(_products(sale))
    if sale.money:
        rows.append(_money(sale))
    if sale.expiries:
        ends = (
            f"{each.units} {each.status} in {max(each.at_ms - sale.now_ms, 0) / 1000:.0f} s" for each in sale.expiries
        )
        rows.append(Text(f"next ends  {', '.join(ends)}"))
    style = "red" if sale.fenced else "green" if sale.status == "live" else "yellow"
    return Panel(Group(*rows), title=f"{sale.name} ({sale.id}) {state}", title_align="left", border_style=style)


def _stock(stock: Stock) -> Text:
    text = Text()
    for name, style, sign in PARTS:
        share = getattr(stock, name) / stock.total if stock.total else 0
        text.append(sign * round(share * BAR), style=style)
    text.append(f"  sold {stock.sold}  held {stock.held}  available {stock.available}  of {stock.total}")
    return text


def _products(sale: LiveSale) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("product", "available", "held", "sold", "total"):
        table.add_column(name, justify="left" if name == "product" else "right")
    for each in sale.products:
        stock = each.stock
        table.add_row(each.name, str(stock.available), str(stock.held), str(stock.sold), str(stock.total))
    if sale.products_in_all > len(sale.products):
        table.add_row(f"and {sale.products_in_all - len(sale.products)} more")
    return table


def _money(sale: LiveSale) -> Text:
    assert sale.money
    orders = ", ".join(f"{count} {status}" for status, count in sorted(sale.money.orders.items()) if count)
    payments = ", ".join(f"{each.count} {each.status}" for each in sale.money.payments)
    text = Text(f"orders  {orders or 'none'}   payments  {payments or 'none'}")
    for taken in sale.money.taken:
        text.append(f"   captured {money(taken.captured, taken.currency)}")
    return text


def _waiting(live: Live) -> Text:
    assert live.waiting
    due = {**live.waiting.webhook_events, **live.waiting.payments_due, "set aside": live.waiting.events_set_aside}
    waits = ", ".join(f"{count} {name}" for name, count in due.items() if count)
    oldest = live.waiting.oldest_authorisation_seconds
    return Text(f"waiting  {waits or 'nothing'}   oldest authorisation {oldest:.0f} s")


def _api(api: Api | None) -> Text:
    if api is None:
        return Text("API  none answers (--api URL)", style="dim")
    answers = "  ".join(f"{name} {count}" for name, count in api.answers.items())
    times = f"p50 {_shown(api.hold_p50_ms)}  p99 {_shown(api.hold_p99_ms)}"
    return Text(f"API  {api.per_second:g} answers/s   holds {times}   {answers or 'nothing asked'}")


def _shown(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:g} ms"
