"""The `flashsale` command. Each command's module is imported when it is called for: together they take seconds."""

import sys
from importlib import import_module

import click

from cli import failures

COMMANDS = {
    "api": ("cli.serve:api", "Serve the HTTP API."),
    "audit": ("cli.audit:audit", "List what people did, the newest first."),
    "customer": ("cli.customer:customer", "Show what is kept of a customer, and forget them."),
    "demo": ("cli.demo.command:demo", "Run one whole sale with thousands of customers, and prove that it adds up."),
    "disputes": ("cli.disputes:disputes", "List disputed charges, the newest first."),
    "doctor": ("cli.doctor.command:doctor", "Check Redis, Postgres, Stripe and this machine, and say what to change."),
    "hold": ("cli.timelines:hold", "Look at one hold."),
    "holds": ("cli.holds:holds", "Look after holds."),
    "migrate": ("cli.serve:migrate", "Bring Postgres to the current schema."),
    "order": ("cli.timelines:order", "Look at one order."),
    "rebuild": ("cli.rebuild:rebuild", "Restore SALE in Redis from Postgres, after Redis lost data."),
    "reconcile": (
        "cli.reconcile:reconcile",
        "Compare Redis, Postgres and, where one is configured, the payment provider: SALE, or every sale.",
    ),
    "refund": ("cli.payments:refund", "Give money back for ORDER, whole or in part."),
    "report": ("cli.report.command:report", "How SALE went: sold over time, conversion, peak, refunds, revenue."),
    "sale": ("cli.sale:sale", "Write, load, show, pause, resume, withdraw and end sales."),
    "scheduler": ("cli.serve:scheduler", "Wake the workers, again and again."),
    "stock": ("cli.stock:stock", "Add or take stock."),
    "top": ("cli.top.command:top", "Watch the sales as they go: stock, holds a second, money, lag, answers."),
    "up": ("cli.up:up", "Run the whole stack: API, workers, scheduler, and what is not configured."),
    "webhooks": ("cli.webhooks:webhooks", "Look after stored payment events."),
    "worker": ("cli.serve:worker", "Drain events into Postgres, sweep overdue holds, handle payments."),
}
"""Where each command is, and its help in a line."""


class Commands(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(
    "flashsale", cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="flashsale", prog_name="flashsale")
def cli() -> None:
    """A flash-sale reservation engine: never oversold, and never money without a thing.

    Redis and Postgres are those of FLASHSALE_REDIS_URL and FLASHSALE_DATABASE_URL; where they are not set, those of
    the stack that runs here. Only `up` and `demo` start servers of their own.
    """


def main() -> None:
    """The console script: exits with the command's status."""
    sys.exit(failures.run(lambda: cli.main(prog_name="flashsale", standalone_mode=False)))


if __name__ == "__main__":
    main()
