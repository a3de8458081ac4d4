"""Stripe: the key, the webhook endpoint, and how money is taken."""

import contextlib
from collections.abc import Iterator

from cli.doctor.findings import Finding, Look
from engine.settings import Settings
from payments.handlers import HANDLERS
from payments.provider import KeyRefused, Provider, ProviderError

PATH = "/v1/payments/webhook"
PATIENCE_SECONDS = 5


def look_at_stripe(settings: Settings) -> Iterator[Finding]:
    look = Look("stripe")
    key = settings.stripe_secret_key
    _judge_settings(look, settings)
    if not key:
        change = "set FLASHSALE_STRIPE_SECRET_KEY; `up` and `demo` run a stand-in without one"
        look.wrong("key", "none", change)
        yield from look.findings
        return
    provider = Provider(key, api_base=settings.stripe_api_base, timeout_seconds=PATIENCE_SECONDS)
    with contextlib.closing(provider):
        try:
            provider.try_key()
            kind = "live" if "_live_" in key else "test"
            look.fine("key", f"a {kind} key, and it may read payments")
            _judge_endpoints(look, provider, live=kind == "live")
        except KeyRefused as error:
            look.wrong("key", str(error), "set FLASHSALE_STRIPE_SECRET_KEY to one that may read and write payments")
        except ProviderError as error:
            look.unknown("reach", str(error), "check the way to the API, and FLASHSALE_STRIPE_API_BASE")
    yield from look.findings


def _judge_settings(look: Look, settings: Settings) -> None:
    secret = settings.stripe_webhook_secret
    if not secret:
        look.wrong("webhook secret", "none", "set FLASHSALE_STRIPE_WEBHOOK_SECRET to the endpoint's whsec_...")
    elif not secret.startswith("whsec_"):
        look.wrong("webhook secret", "not Stripe's", "it begins with whsec_: copy the endpoint's signing secret")
    else:
        look.fine("webhook secret", "set")
    change = "`manual` lets Postgres confirm the units before money is taken; with `automatic` it is refunded instead"
    look.expect("capture", settings.capture_method, ("manual",), change, soft=True)
    if settings.stripe_api_base:
        look.advice("api base", settings.stripe_api_base, "no real money moves; unset FLASHSALE_STRIPE_API_BASE for it")


def _judge_endpoints(look: Look, provider: Provider, *, live: bool) -> None:
    try:
        endpoints = provider.list_webhook_endpoints()
    except KeyRefused as error:
        look.unknown("webhook", str(error), "let a restricted key read webhook endpoints, or look in the dashboard")
        return
    ours = [each for each in endpoints if each.url.partition("?")[0].endswith(PATH)]
    if not ours:
        change = f"add one in Stripe's dashboard: https://YOUR.HOST{PATH}; or `stripe listen` while you try it"
        say = look.wrong if live else look.advice
        say("webhook", f"no endpoint ends in {PATH}", change)
        return
    enabled = [each for each in ours if each.status == "enabled"]
    if not enabled:
        look.wrong("webhook", f"{ours[0].url} is {ours[0].status}", "enable it in Stripe's dashboard")
        return
    for each in enabled:
        missing = sorted(set(HANDLERS) - set(each.enabled_events)) if "*" not in each.enabled_events else []
        if missing:
            look.wrong("webhook", f"{each.url} is not told of {', '.join(missing)}", "add these events to it")
        else:
            look.fine("webhook", each.url)
