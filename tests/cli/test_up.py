"""`flashsale up`: the whole stack in the foreground, stopped whole, its data there again the next time."""

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sandbox.stack import RunningStack, running_stacks
from tests.cli.conftest import FILE, Background, Run, gone

Start = Callable[..., Background]


def get(url: str, token: str = "") -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def post(url: str, body: object) -> Any:
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), head, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def schedulers(up: Background) -> list[psutil.Process]:
    found = []
    for each in up.family:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if "scheduler" in each.cmdline():
                found.append(each)
    return found


def wait_for(check: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_up_serves_survives_a_killed_role_stops_whole_and_keeps_its_data(
    start: Start, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sale.yaml"
    file.write_text(FILE.replace("hold_ttl_seconds: 60", "hold_ttl_seconds: 1"))
    up = start("up", "--port", "0", "--data-dir", "data")
    url = up.ready()
    said = "\n".join(up.lines)
    assert "PAYMENT STAND-IN" in said
    assert "redis://" in said
    assert "postgresql://" in said
    record = RunningStack.read(tmp_path / "data")
    assert record
    assert record.api_url == url
    assert record.admin_token in said
    assert get(f"{url}/health/ready")

    # A command without URLs finds this stack, because it was started in this folder.
    assert run("sale", "load", str(file)).code == 0
    hold = post(f"{url}/v1/holds", {"customer_id": "ann", "product_id": "sneaker", "qty": 2})
    assert hold["status"] == "held"

    # A role that dies is started again.
    [scheduler] = schedulers(up)
    scheduler.kill()
    wait_for(lambda: [each for each in schedulers(up) if each != scheduler] != [])

    # Workers bring the abandoned hold back, and Postgres hears of it.
    admin = f"{url}/v1/admin/sales/bf"
    wait_for(lambda: get(admin, record.admin_token)["products"][0]["stock"]["available"] == 10)
    assert run("reconcile", "bf").code == 0

    family = up.family
    with monkeypatch.context() as alone:
        alone.setenv("FLASHSALE_STRIPE_SECRET_KEY", "")
        role = run("api", "--port", "0")
    assert (role.code, "FLASHSALE_STRIPE_SECRET_KEY" in role.err) == (2, True), "this stack's provider is not its own"

    assert up.stop(signal.SIGINT) == 0
    assert not gone(family)
    assert not [stack for stack in running_stacks(os.environ) if stack.data_dir == record.data_dir]

    # Nothing runs now: a command says so and starts nothing, though the data is there.
    monkeypatch.setenv("FLASHSALE_DATA_DIR", str(tmp_path / "data"))
    refused = run("stock", "adjust", "sneaker", "5", "--reason", "found")
    assert (refused.code, "no stack runs" in refused.err, refused.err.count("\n")) == (2, True, 1)
    assert not running_stacks(os.environ)

    again = start("up", "--port", "0", "--data-dir", "data")
    url = again.ready()
    second = RunningStack.read(tmp_path / "data")
    assert second
    assert second.admin_token == record.admin_token
    assert second.stripe_secret_key == record.stripe_secret_key
    assert run("stock", "adjust", "sneaker", "5", "--reason", "found").code == 0
    shown = get(f"{url}/v1/admin/sales/bf", second.admin_token)
    assert shown["products"][0]["stock"] == {"total": 15, "available": 15, "held": 0, "sold": 0}
    in_use = run("up", "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert (in_use.code, in_use.err.count("\n")) == (1, 1)
    assert "--data-dir" in in_use.err

    # Even a SIGKILL leaves nothing behind.
    family = again.family
    again.stop(signal.SIGKILL)
    assert not gone(family, seconds=20)
