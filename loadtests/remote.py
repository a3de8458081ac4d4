"""Locust's crowd against any API: a rush on a sale that is named, and what its own routes say afterwards."""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

from loadtests.crowd import Target

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
ROOT: Final = Path(__file__).resolve().parents[1]
QUIET_SECONDS: Final = 120.0
"""How long holds may take to come back and the drain to come to rest, beside the holds' own lifetime."""


class CannotRush(Exception):
    """The message says what is missing."""


def rush(options: argparse.Namespace) -> int:
    """The crowd comes to the sale ``options.sale`` at ``options.url``. The exit status of ``make loadtest``: 1 where
    something broke, 2 where it could not begin.
    """
    admin_token = os.environ.get("FLASHSALE_ADMIN_TOKEN", "")
    try:
        target = find_target(options.url, options.sale, orders=options.orders)
        if admin_token:
            _ask(options.url, f"/v1/admin/sales/{_quoted(options.sale)}", admin_token)
    except CannotRush as missing:
        print(f"make loadtest: {missing}", file=sys.stderr)
        return 2
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}
    locust(options.url, env | {"PYTHONPATH": str(ROOT)} | target.environment(), options)
    try:
        broken = judge(options.url, options.sale, admin_token, options.seconds)
    except CannotRush as silent:
        broken = [str(silent)]
    found = report(options.out, broken)
    also = "" if admin_token else "; without FLASHSALE_ADMIN_TOKEN nothing was reconciled"
    return tell(found, options.out, f"of sale {options.sale}{also}")


def find_target(url: str, sale: str, *, orders: bool) -> Target:
    """The crowd's products: one that is gone, or soon is; then the scarcest of the others, and the most plentiful."""
    listed = _ask(url, f"/v1/products?limit=100&sale_id={_quoted(sale)}")["data"]
    if not listed:
        raise CannotRush(f"sale {sale} at {url} has no product")
    status = listed[0]["sale"]["status"]
    if status not in ("live", "scheduled"):
        raise CannotRush(f"sale {sale} at {url} is {status}: load one that is live, or opens meanwhile")
    listed.sort(key=lambda each: each["stock"]["available"])
    others = listed[1:] or listed
    return Target(
        shop_token=os.environ.get("FLASHSALE_SHOP_TOKEN", ""),
        orders="1" if orders else "",
        scarce=others[0]["id"],
        plenty=others[-1]["id"],
        gone=listed[0]["id"],
    )


def locust(url: str, env: dict[str, str], options: argparse.Namespace) -> None:
    """Its exit status says only that something failed; its table of failures says what."""
    argv = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    argv += ["--host", url, "--users", str(options.users), "--spawn-rate", str(max(options.users // 4, 1))]
    argv += ["--run-time", f"{options.seconds}s", "--stop-timeout", "30"]
    argv += ["--html", str(options.out / "locust.html"), "--csv", str(options.out / "locust")]
    argv += ["--json-file", str(options.out / "locust")]
    subprocess.run(argv, env=env, timeout=options.seconds + 180, check=False)


def judge(url: str, sale: str, admin_token: str, seconds: float) -> list[str]:
    """What is wrong once the crowd has left: units that do not add up, units that stay held, drift."""
    end = time.monotonic() + QUIET_SECONDS + seconds
    while True:
        products, behind = _look(url, sale, admin_token)
        held = sum(each["stock"]["held"] for each in products)
        if (not held and not behind) or time.monotonic() > end:
            break
        time.sleep(0.5)
    broken = [f"{held} units are still held, {behind} events behind"] if held or behind else []
    for each in products:
        stock = each["stock"]
        parts = [stock[name] for name in ("available", "held", "sold")]
        if sum(parts) != stock["total"] or min(parts) < 0:
            broken.append(f"{each['id']} does not add up: {stock}")
    if admin_token:
        found = _ask(url, f"/v1/admin/sales/{_quoted(sale)}/reconciliation", admin_token)
        broken += [f"drift: {json.dumps(each)}" for each in found["drift"][:20]]
    return broken


def _look(url: str, sale: str, admin_token: str) -> tuple[list[dict[str, Any]], int]:
    """The products, and how many events Postgres is behind."""
    if not admin_token:
        found: list[dict[str, Any]] = _ask(url, f"/v1/products?limit=100&sale_id={_quoted(sale)}")["data"]
        return found, 0
    whole = _ask(url, f"/v1/admin/sales/{_quoted(sale)}", admin_token)
    return whole["products"], whole["drain"]["seq"] - whole["drain"]["drained_seq"]


def _ask(url: str, path: str, token: str = "") -> Any:
    """Raises ``CannotRush``."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise CannotRush(f"--url {url} is no http:// or https:// address")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url.rstrip("/") + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise CannotRush(f"{url}{path} answers {error.code}: {error.read(300).decode(errors='replace')}") from error
    except (urllib.error.URLError, ValueError) as error:
        raise CannotRush(f"{url}{path} cannot be asked: {error}") from error


def _quoted(sale: str) -> str:
    return urllib.parse.quote(sale, safe="")


def report(out: Path, broken: list[str]) -> dict[str, Any]:
    """What Locust counted, and what broke, with each answer that no user expected."""
    failures = _failures(out / "locust_failures.csv")
    stats = json.loads((out / "locust.json").read_text())
    requests, failed = (sum(each[name] for each in stats) for name in ("num_requests", "num_failures"))
    if not requests or (failed and not failures):
        broken = [*broken, f"Locust counts {requests} requests and {failed} failures"]
    unexpected = [f"{each['times']} x unexpected {each['name']}: {each['error']}" for each in failures]
    return {"requests": requests, "unexpected": failures, "broken": broken + unexpected}


def _failures(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [
            {"name": f"{each['Method']} {each['Name']}", "error": each["Error"], "times": int(each["Occurrences"])}
            for each in csv.DictReader(file)
        ]


def tell(found: dict[str, Any], out: Path, also: str) -> int:
    """Write and print the report; the exit status."""
    (out / "loadtest.json").write_text(json.dumps(found, indent=2) + "\n")
    for line in found["broken"]:
        print(f"BROKEN: {line}")
    print(f"{found['requests']:,} requests, {also}; see {out}/locust.html")
    return 1 if found["broken"] else 0
