"""`make screenshots`: the demo's report, and both pages during a live sale, light, dark and on a phone, into
``docs/images``.

A stack of its own sells a small sale to a trickle of customers; Chromium looks at it.
"""

import io
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from loadtests.browser import ARGUMENTS, find_chromium
from sandbox.stack import RunningStack

ROOT: Final = Path(__file__).parents[1]
IMAGES: Final = ROOT / "docs" / "images"
SALE: Final = "black-friday"
STOCK: Final = {"sneaker-42": 400, "wool-coat": 150, "headphones": 220, "backpack": 90}
WARM_SECONDS: Final = 60
DESK: Final = {"width": 1360, "height": 940}
PHONE: Final = {"width": 390, "height": 844}
COLOURS_MAX: Final = 96


def sale_file() -> dict[str, Any]:
    """Four things, for long enough."""
    names = {"sneaker-42": "Sneaker 42", "wool-coat": "Wool coat", "headphones": "Headphones", "backpack": "Backpack"}
    prices = {"sneaker-42": 12900, "wool-coat": 24900, "headphones": 17900, "backpack": 8900}
    products = [
        {
            "id": each,
            "name": names[each],
            "price": {"amount": prices[each], "currency": "usd"},
            "compare_at_price": {"amount": prices[each] * 3 // 2 // 100 * 100, "currency": "usd"},
            "stock": STOCK[each],
            "per_customer_limit": 2,
        }
        for each in STOCK
    ]
    return {
        "id": SALE,
        "name": "Black Friday",
        "hold_ttl_seconds": 45,
        "payment_ttl_seconds": 120,
        "products": products,
    }


@contextmanager
def stack(folder: Path) -> Iterator[RunningStack]:
    """A `flashsale up` on a free port."""
    command = [sys.executable, "-m", "cli.main", "up", "--port", "0", "--data-dir", str(folder / "data")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout
            if not any(line.startswith("ready ") for line in up.stdout):
                raise SystemExit("flashsale up did not start; its message is above")
            record = RunningStack.read(folder / "data")
            assert record
            yield record
        finally:
            up.terminate()
            up.wait(60)


@dataclass
class Trickle:
    """Customers, some a second: most pay, some give back, some leave."""

    url: str
    stop: threading.Event

    def run(self) -> None:
        dice = random.Random(1)
        number = 0
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self.stop.wait(dice.expovariate(9)):
                number += 1
                self._customer(client, f"customer-{number}", dice)

    def _customer(self, client: httpx.Client, name: str, dice: random.Random) -> None:
        product = dice.choices(list(STOCK), weights=[6, 2, 3, 5])[0]
        body = {"customer_id": name, "product_id": product, "qty": dice.choice([1, 1, 2])}
        answer = client.post("/v1/holds", json=body)
        if answer.status_code != 201 or dice.random() < 0.3:
            return
        if dice.random() < 0.1:
            client.delete(f"/v1/holds/{answer.json()['id']}")
            return
        card = "pm_card_visa" if dice.random() < 0.85 else "pm_card_chargeDeclined"
        client.post("/v1/orders", json={"hold_id": answer.json()["id"], "payment_method_id": card})


def log_in(page: Page, record: RunningStack) -> None:
    page.goto(f"{record.api_url}/ops")
    page.get_by_label("Admin token").fill(record.admin_token)
    page.get_by_role("button", name="Come in").click()
    page.locator("#products tbody tr").first.wait_for()


def take(browser: Browser, record: RunningStack) -> None:
    """Six pictures: each page light, dark and on a phone."""
    for kind, size, scheme in (("light", DESK, "light"), ("dark", DESK, "dark"), ("phone", PHONE, "light")):
        with browser.new_context(viewport=size, color_scheme=scheme) as context:  # type: ignore[arg-type]
            ops = context.new_page()
            log_in(ops, record)
            ops.wait_for_timeout(2500)
            shoot(ops, f"ops-{kind}", full_page=kind != "phone")
            shop = context.new_page()
            shop.goto(f"{record.api_url}/shop/{SALE}")
            item = shop.locator("[data-product=headphones]")
            item.get_by_role("button", name="Reserve").click()
            shop.get_by_role("button", name="Check out").wait_for()
            shop.wait_for_timeout(1500)
            if kind != "light":
                shop.get_by_role("button", name="Check out").click()
                shop.get_by_role("button", name="Pay").wait_for()
            shoot(shop, f"shop-{kind}")


def shoot(page: Page, name: str, *, full_page: bool = False) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, full_page=full_page, animations="disabled", timeout=120_000)
    shrink(path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


def shrink(path: Path) -> None:
    """Fewer colours: flat pages lose nothing that is seen. Without Pillow the picture stays as it is."""
    try:
        from PIL import Image  # noqa: PLC0415 - matplotlib brings it; nothing else needs it
    except ImportError:
        return
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS_MAX).save(path, optimize=True)


def draw_demo() -> None:
    """The end of `make demo`, as text in an SVG. No font is loaded from elsewhere."""
    command = [sys.executable, "-m", "cli.main", "demo", "--seed", "7"]
    demo = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = demo.stdout.splitlines()
    shown = ["$ make demo", *lines[1:3], "...", "", *lines[lines.index("Each customer") :]]
    terminal = Console(record=True, width=104, file=io.StringIO(), highlight=False)
    for line in shown:
        terminal.print(Text(line))
    picture = re.sub(r"@font-face \{.*?\}\s*", "", terminal.export_svg(title="flashsale"), flags=re.DOTALL)
    path = IMAGES / "demo.svg"
    path.write_text(picture)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


def main() -> None:
    draw_demo()
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("there is no Chromium here: install chromium, chromium-browser or google-chrome")
    folder = Path(tempfile.mkdtemp(prefix="flashsale-screenshots-"))
    stop = threading.Event()
    try:
        with stack(folder) as record:
            headers = {"Authorization": f"Bearer {record.admin_token}"}
            loaded = httpx.put(f"{record.api_url}/v1/admin/sales/{SALE}", json=sale_file(), headers=headers, timeout=20)
            loaded.raise_for_status()
            customers = threading.Thread(target=Trickle(record.api_url, stop).run)
            customers.start()
            try:
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
                    watcher = browser.new_page()
                    log_in(watcher, record)  # the curves are kept while somebody watches
                    time.sleep(WARM_SECONDS)
                    take(browser, record)
                    browser.close()
            finally:
                stop.set()
                customers.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
