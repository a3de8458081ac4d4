"""Ask before what cannot be undone, where a person is there to answer."""

import sys

import click

from cli.failures import Failure

yes_option = click.option("--yes", is_flag=True, help="Do not ask. Without a terminal nothing is asked.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal. Raises ``Failure`` where the answer is no; then nothing was changed."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if not click.confirm(f"{question} Go on?", err=True):
        raise Failure("not confirmed: nothing was changed")
