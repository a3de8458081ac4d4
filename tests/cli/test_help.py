"""Every command explains itself, and the lazy list of commands says what they are."""

import click
import pytest

from cli.main import COMMANDS, cli
from tests.cli.conftest import Run

CONTRACT = [
    "demo", "up", "api", "worker", "scheduler", "migrate", "sale load", "sale list", "sale show", "sale pause",
    "sale resume", "sale end", "stock adjust", "holds expire", "reconcile", "webhooks replay", "refund", "rebuild",
    "disputes", "webhooks list",
]  # fmt: skip
PRINTS_DATA = [
    "demo", "sale list", "sale show", "reconcile", "stock adjust", "holds expire", "webhooks replay", "refund",
    "disputes", "webhooks list",
]  # fmt: skip


def find(path: str) -> click.Command:
    context = click.Context(cli)
    command: click.Command = cli
    for name in path.split():
        assert isinstance(command, click.Group)
        found = command.get_command(context, name)
        assert found, path
        command = found
    return command


@pytest.mark.parametrize("path", ["", *CONTRACT])
def test_every_command_takes_help(path: str, run: Run) -> None:
    result = run(*path.split(), "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: flashsale {path}".rstrip())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    assert find(name).get_short_help_str(limit=1000).rstrip(".") == COMMANDS[name][1].rstrip(".")


@pytest.mark.parametrize("path", PRINTS_DATA)
def test_commands_that_print_data_take_json(path: str) -> None:
    assert "--json" in [option for parameter in find(path).params for option in parameter.opts]


@pytest.mark.parametrize(
    ("path", "option", "default"),
    [
        ("demo", "--customers", 2000),
        ("demo", "--stock", 200),
        ("up", "--host", "127.0.0.1"),
        ("up", "--port", 8000),
        ("up", "--api-workers", 1),
        ("api", "--workers", 1),
    ],
)
def test_the_defaults_are_the_contract_s(path: str, option: str, default: object) -> None:
    [found] = [parameter for parameter in find(path).params if option in parameter.opts]
    assert found.default == default
