"""The report as one self-contained page."""

from importlib.resources import files

import jinja2

from cli.output import money
from cli.report import charts
from persistence.salereport import SaleReport


def render(report: SaleReport) -> str:
    """HTML that loads nothing from anywhere: light, dark and on paper."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(money=money, duration=charts.duration, share=_share, when=_when)
    template = environment.from_string(files(__package__ or "").joinpath("page.html").read_text(encoding="utf-8"))
    held = [step.holds for step in report.steps]
    sold = [step.sold for step in report.steps]
    return template.render(
        report=report,
        width=charts.WIDTH,
        height=charts.HEIGHT,
        charts=[
            charts.chart("Units sold", f"{sold[-1]} at the end", sold, report.step_seconds),
            charts.chart(
                f"Holds taken, each {charts.duration(report.step_seconds)}",
                f"{sum(held)} in all",
                held,
                report.step_seconds,
                bars=True,
            ),
        ]
        if report.steps
        else [],
        funnel=[
            ("Holds taken", report.holds_taken),
            ("Ordered", report.holds_ordered),
            ("Paid", report.orders_paid),
        ],
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _when(moment: str | None) -> str:
    return "-" if moment is None else moment.replace("T", " ").removesuffix("Z").partition(".")[0] + " UTC"
