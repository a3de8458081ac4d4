"""Each metric that an alert or a panel asks for is in the scrape of an API that has sold something."""

import re

import httpx

from api.app import ROUTES
from persistence.refusals import PROBLEMS
from tests.api.server import Shop, product
from tests.house.monitoring import read

PROMETHEUS_OWN = {"up", "ALERTS"}
SAMPLE = re.compile(r"^(flashsale_\w+?)(?:{(.*)})? \S+$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


def test_every_metric_that_is_watched_is_there(shop: Shop, api_url: str) -> None:
    shop.load(product("sock", 2))
    assert shop.order(shop.hold(sock=2)).status_code == 201
    shop.ask("bob", sock=1)
    samples: dict[str, dict[str, set[str]]] = {}
    for name, labels in SAMPLE.findall(httpx.get(f"{api_url}/metrics").text):
        for label, value in [("", ""), *LABEL.findall(labels)]:
            samples.setdefault(name, {}).setdefault(label, set()).add(value)
    routes = {re.sub(r":\w+", "", path) for handler in ROUTES for path in handler.paths}
    for where, name, matchers in read():
        if name in PROMETHEUS_OWN:
            continue
        assert name in samples, f"{where} asks for {name}"
        for label, (operator, value) in matchers.items():
            assert label in samples[name], f"{where} asks {name} for {label}"
            if operator != "MatchOp.Equal" or not value:
                continue
            if label == "code":
                assert value in PROBLEMS, where
            elif label == "route":
                assert value in routes, where
            else:
                assert value in samples[name][label], f"{where} asks {name} for {label}={value}"
