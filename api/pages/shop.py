"""The shop window: pages alone. What they show and do, they ask of the same routes that every shop has."""

from urllib.parse import urlsplit

from litestar import get

from api.bodies import is_name
from api.pages.files import page, redirect, static
from api.routes.common import AnyRequest, path_of, services_of
from api.wire import Answer
from engine.settings import Settings
from persistence.refusals import Refusal


def _payments(settings: Settings) -> str:
    """Who takes the money: ``stand-in``, ``test`` (Stripe's test mode) or ``live``."""
    host = urlsplit(settings.stripe_api_base).hostname or "api.stripe.com"
    if not (host == "stripe.com" or host.endswith(".stripe.com")):
        return "stand-in"
    return "test" if "_test_" in settings.stripe_secret_key else "live"


@get("/", opt={"page": "where the pages are: sends on to `/shop`"})
async def get_root() -> Answer:
    return redirect("/shop")


@get("/shop", opt={"page": "the sales that there are"})
async def get_shop() -> Answer:
    return page("sales.html")


@get("/shop/{sale_id:str}", opt={"page": "one sale's shop window"})
async def get_window(request: AnyRequest) -> Answer:
    services, sale_id = services_of(request), path_of(request, "sale_id")
    if not is_name(sale_id):
        raise Refusal("sale_not_found", f"There is no sale {sale_id[:64]!r}.")
    return page(
        "shop.html",
        sale=sale_id,
        payments=_payments(services.settings),
        # With a shop token only the shop's servers speak for a customer: a page that had it would give it to everybody.
        orders="closed" if services.settings.shop_token else "open",
    )


@get("/static/{version:str}/{name:str}", opt={"page": "the pages' scripts, styles and images"})
async def get_static(request: AnyRequest) -> Answer:
    known = request.headers.get("if-none-match", "").encode()
    return static(path_of(request, "version"), path_of(request, "name"), known)


ROUTES = [get_root, get_shop, get_window, get_static]
