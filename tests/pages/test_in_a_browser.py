"""Both pages in a real Chromium, against a real `flashsale up`: what they say is what Redis says."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from sandbox.stack import RunningStack
from tests.pages.conftest import Visit
from tests.pages.shop import COUNTERS, Shop

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.slow]

expect.set_options(timeout=20_000)
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


def eventually(check: Callable[[], bool], page: Page, what: str, seconds: float = 20) -> None:
    """Wait in the browser's own time, so that it goes on meanwhile."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, what
        page.wait_for_timeout(50)


def log_in(page: Page, stack: RunningStack, sale_id: str = "") -> Page:
    page.get_by_label("Admin token").fill(stack.admin_token)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_url("**/ops")
    if sale_id:
        page.get_by_role("button", name=sale_id.title(), exact=True).click()
        expect(page.locator("#name")).to_have_text(sale_id.title())
    return page


def number(text: str) -> int:
    return int(text.replace(",", ""))


def row(page: Page, product: str) -> dict[str, int]:
    """What the live page says of a product, all of it at one moment."""
    read = "row => [...row.querySelectorAll('[data-field]')].map(cell => [cell.dataset.field, cell.textContent])"
    texts: dict[str, str] = dict(page.locator(f"[data-product={product}]").evaluate(read))
    return {name: number(texts[name]) for name in COUNTERS}


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def tab_to(page: Page, target: Locator, most: int = 40) -> None:
    """Go there as somebody without a mouse does."""
    for _ in range(most):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"{target} was not reached by Tab")


# --- before there is a sale


def test_without_a_sale_both_pages_say_how_to_load_one(visit: Visit, stack: RunningStack) -> None:
    page = visit("/")
    expect(page.get_by_text("No sale is loaded.")).to_be_visible()
    expect(page.get_by_text("flashsale sale load sale.json")).to_be_visible()
    page.get_by_role("link", name="Live page").click()
    log_in(page, stack)
    expect(page.locator("#empty")).to_contain_text("flashsale sale load")


# --- the live page


def test_the_live_page_says_what_redis_says_as_it_changes(visit: Visit, stack: RunningStack, shop: Shop) -> None:
    shop.load("rush", {"shoe": 40, "coat": 7})
    page = log_in(visit("/ops"), stack, "rush")
    for customer in range(12):
        product = "coat" if customer % 4 == 0 else "shoe"
        if customer % 3 == 0:
            shop.buy(f"c{customer}", product)
        elif customer % 3 == 1:
            shop.hold(f"c{customer}", product, 2)
        else:
            shop.release(shop.hold(f"c{customer}", product))
        said = row(page, product)
        assert said["available"] + said["held"] + said["sold"] == said["total"]
    for product in ("shoe", "coat"):
        eventually(lambda of=product: row(page, of) == shop.counters("rush", of), page, "it never said so")  # type: ignore[misc]
    eventually(lambda: shop.counters("rush", "shoe")["sold"] + shop.counters("rush", "coat")["sold"] == 4, page, "sold")

    both = [shop.counters("rush", product) for product in ("shoe", "coat")]
    for name in COUNTERS:
        expect(page.locator(f"#stock [data-field={name}]")).to_have_text(str(sum(each[name] for each in both)))
    for promise in page.locator("[data-promise]").all():
        expect(promise.locator("b")).to_have_text("0")
        expect(promise).to_have_attribute("data-tone", "good")
    expect(page.locator("#funnel [data-step=paid]")).to_contain_text("4 ·")
    expect(page.locator("#payments tbody")).to_contain_text("succeeded")
    expect(page.locator("#money")).to_contain_text("$516.00")
    expect(page.locator("#flow [data-field=lag_events]")).to_have_text("0")
    expect(page.locator("#answers")).to_contain_text("201 created")
    expect(page.locator("#expiries li")).to_have_count(4)
    expect(page.locator("#expiries")).to_contain_text("2 units, held")
    expect(page.locator("#link")).to_have_text("live")
    assert re.fullmatch(r"\d+ left · Rush", page.title())


def test_the_buttons_ask_first_and_then_redis_says_the_same(visit: Visit, stack: RunningStack, shop: Shop) -> None:
    shop.load("steered", {"lamp": 10})
    shop.hold("ann", "lamp", 3)
    page = log_in(visit("/ops", refusals=(409,)), stack, "steered")

    page.get_by_role("button", name="Pause").click()
    expect(dialog(page)).to_contain_text("Pause: Steered?")
    dialog(page).get_by_role("button", name="Leave it").click()
    expect(dialog(page)).to_be_hidden()
    assert shop.state("steered") == "open"

    page.get_by_role("button", name="Pause").click()
    dialog(page).get_by_role("button", name="Pause").click()
    expect(page.locator("#status")).to_have_text("paused")
    assert shop.state("steered") == "paused"
    page.get_by_role("button", name="Resume").click()
    dialog(page).get_by_role("button", name="Resume").click()
    expect(page.locator("#status")).to_have_text("live")
    assert shop.state("steered") == "open"

    page.get_by_role("button", name="Adjust the stock of Lamp").click()
    dialog(page).get_by_label("Units to add").fill("-8")
    dialog(page).get_by_label("Why").fill("lost a box")
    dialog(page).get_by_role("button", name="Adjust").click()
    expect(dialog(page).get_by_role("alert")).to_contain_text("3 are held and 0 sold")
    dialog(page).get_by_label("Units to add").fill("5")
    dialog(page).get_by_role("button", name="Adjust").click()
    expect(dialog(page)).to_be_hidden()
    assert shop.counters("steered", "lamp") == {"total": 15, "available": 12, "held": 3, "sold": 0}
    eventually(lambda: row(page, "lamp") == shop.counters("steered", "lamp"), page, "it never said so")
    expect(page.locator("#notices")).to_contain_text("steered lamp · 5 lost a box", timeout=40_000)

    page.get_by_role("button", name="End").click()
    dialog(page).get_by_role("button", name="End for good").click()
    expect(page.locator("#status")).to_have_text("ended")
    assert shop.state("steered") == "ended"
    expect(page.get_by_role("button", name="End")).to_be_disabled()


def test_the_live_page_by_keyboard_alone(visit: Visit, stack: RunningStack, shop: Shop) -> None:
    shop.load("keys", {"desk": 5})
    page = visit("/ops#keys")
    expect(page.get_by_label("Admin token")).to_be_focused()  # Chromium does that when it first draws the page
    page.keyboard.type(stack.admin_token)
    page.keyboard.press("Enter")
    choice = page.get_by_role("button", name="Keys", exact=True)
    choice.wait_for()
    tab_to(page, choice)
    page.keyboard.press("Enter")
    expect(choice).to_have_attribute("aria-current", "true")
    pause = page.get_by_role("button", name="Pause")
    tab_to(page, pause)
    page.keyboard.press("Enter")
    expect(dialog(page).get_by_role("button", name="Leave it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog(page)).to_be_hidden()
    expect(pause).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("paused")
    assert shop.state("keys") == "paused"
    tab_to(page, page.get_by_role("button", name="Adjust the stock of Desk"))
    page.wait_for_timeout(1200)  # another picture comes, and the focus stays
    expect(page.get_by_role("button", name="Adjust the stock of Desk")).to_be_focused()


# --- the shop window


def test_somebody_buys_a_thing(visit: Visit, shop: Shop) -> None:
    shop.load("window", {"chair": 5}, hold_ttl_seconds=60)
    page = visit("/shop", refusals=(402,))
    page.get_by_role("link", name=re.compile("Window")).click()
    expect(page.get_by_text("5 of 5 left")).to_be_visible()
    page.get_by_label("How many of Chair").select_option("2")
    page.get_by_role("button", name="Reserve").click()
    expect(page.get_by_role("heading", name="Reserved for you")).to_be_visible()
    expect(page.locator("#lines")).to_contain_text(re.compile(r"2 . Chair\$258\.00"))
    first = page.locator("#left").inner_text()
    assert re.fullmatch(r"1:00|0:[345]\d", first)
    eventually(lambda: page.locator("#left").inner_text() != first, page, "it does not tick")
    expect(page.get_by_text("3 of 5 left, 2 in baskets")).to_be_visible()
    assert shop.counters("window", "chair")["held"] == 2

    page.get_by_role("button", name="Check out").click()
    page.get_by_label("Visa 0002, which is declined").check()
    page.get_by_role("button", name="Pay").click()
    expect(page.locator("#mine-said")).to_contain_text("The bank said no (generic decline)")
    assert shop.counters("window", "chair")["held"] == 2
    page.reload()  # what was begun is found again
    page.get_by_label("Visa 4242, which pays").check()
    page.get_by_role("button", name="Pay").click()
    expect(page.get_by_role("heading", name="It is yours")).to_be_visible()
    expect(page.locator("#mine-text")).to_contain_text("is paid for, and the money is taken")
    found = re.search(r"order_window_\S+", page.locator("#mine-text").inner_text())
    assert found
    order: dict[str, Any] = shop.client.get(f"/v1/orders/{found[0]}").json()
    assert (order["status"], order["payment"]["status"]) == ("paid", "succeeded")
    assert shop.counters("window", "chair") == {"total": 5, "available": 3, "held": 0, "sold": 2}
    page.get_by_role("button", name="Look for more").click()
    expect(page.get_by_role("button", name="Reserve")).to_be_focused()


def test_the_shop_window_by_keyboard_alone(visit: Visit, shop: Shop) -> None:
    shop.load("typed", {"mug": 5})
    page = visit("/shop/typed")
    reserve = page.get_by_role("button", name="Reserve")
    reserve.wait_for()
    tab_to(page, reserve)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Reserved for you")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    pay = page.get_by_role("button", name="Pay")
    pay.wait_for()
    tab_to(page, pay)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="It is yours")).to_be_visible()


def test_sold_out_says_when_to_come_back(visit: Visit, shop: Shop) -> None:
    shop.load("scarce", {"vase": 1}, hold_ttl_seconds=60)
    page = visit("/shop/scarce", refusals=(409,))
    expect(page.get_by_text("1 of 1 left")).to_be_visible()
    hold_id = shop.hold("quick", "vase")
    expect(page.get_by_text("None left; 1 in baskets, and what is not paid for comes back")).to_be_visible()
    page.get_by_role("button", name="Try anyway").click()
    said = page.locator("#said")
    expect(said).to_contain_text("Sold out just now. One unit is still in other baskets")
    expect(said).to_contain_text(re.compile(r"the next perhaps in (1:00|0:\d\d)\."))
    expect(page.get_by_role("button", name=re.compile("Again in"))).to_be_disabled()
    shop.release(hold_id)
    page.get_by_role("button", name="Reserve").click()
    page.get_by_role("button", name="Give it back").click()
    expect(page.get_by_role("heading", name="Given back")).to_be_visible()
    shop.buy("quick", "vase")
    expect(page.get_by_role("button", name="Sold out")).to_be_disabled()


def test_before_the_start_while_paused_and_after_the_end(visit: Visit, stack: RunningStack, shop: Shop) -> None:
    hour = datetime.now(UTC) + timedelta(hours=1)
    shop.load("soon", {"ring": 2}, starts_at=hour.isoformat())
    page = visit("/shop/soon")
    expect(page.locator("#countdown")).to_have_text(re.compile(r"5\d:\d\d|1:00:00"))
    expect(page.get_by_role("button", name="Not on sale now")).to_be_disabled()
    shop.load("soon", {"ring": 2}, starts_at=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    expect(page.get_by_role("button", name="Reserve")).to_be_enabled()
    expect(page.locator("#countdown")).to_be_hidden()
    headers = {"Authorization": f"Bearer {stack.admin_token}"}
    for verb, about in (("pause", "Paused by the shop."), ("end", "This sale is over.")):
        shop.client.post(f"/v1/admin/sales/soon/{verb}", headers=headers)
        expect(page.locator("#about")).to_contain_text(about)
        expect(page.get_by_role("button", name="Not on sale now")).to_be_disabled()
    expect(visit("/shop/nope", refusals=(404,)).locator("#said")).to_contain_text("There is no sale")


def test_a_window_that_may_only_show_and_one_that_takes_real_cards(visit: Visit, shop: Shop) -> None:
    shop.load("strict", {"book": 5})
    page = visit("/shop")

    def answer_as(name: str, value: str) -> None:
        def change(route: Route) -> None:
            real = route.fetch()
            route.fulfill(response=real, body=re.sub(f'data-{name}="[^"]*"', f'data-{name}="{value}"', real.text()))

        page.route("**/shop/strict", change)

    answer_as("orders", "closed")
    page.goto("/shop/strict")
    expect(page.get_by_text("FLASHSALE_SHOP_TOKEN is set")).to_be_visible()
    expect(page.get_by_text("5 of 5 left")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)

    page.unroute_all()
    answer_as("payments", "live")
    page.goto("/shop/strict")
    page.get_by_role("button", name="Reserve").click()
    page.get_by_role("button", name="Check out").click()
    expect(page.get_by_text("Payment Element")).to_be_visible()
    expect(page.locator("#secret")).to_have_text(re.compile(r"^pi_\w+…$"))
    expect(page.get_by_role("button", name="Pay")).to_have_count(0)


# --- how they look


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_pages_fit_a_phone_and_follow_the_scheme(
    visit: Visit, stack: RunningStack, shop: Shop, scheme: str
) -> None:
    shop.load("narrow", {"a-thing-with-quite-a-long-name": 100_000, "hat": 5})
    ops = log_in(visit("/ops", color_scheme=scheme, **PHONE), stack, "narrow")
    window = visit("/shop/narrow", color_scheme=scheme, **PHONE)
    window.locator("[data-product=hat]").get_by_role("button", name="Reserve").click()
    window.get_by_role("button", name="Check out").click()
    window.get_by_role("button", name="Pay").wait_for()
    for page in (ops, window, visit("/shop", color_scheme=scheme, **PHONE)):
        wide, there = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= there == 360, page.url
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = max(int(each) for each in re.findall(r"\d+", ground)) > 128
        assert light == (scheme == "light"), page.url
        small = page.evaluate(
            "[...document.querySelectorAll('button, select')].filter(e => e.offsetHeight && e.offsetHeight < 24).length"
        )
        assert small == 0, "something is too small for a finger"
