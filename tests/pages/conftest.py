"""A real `flashsale up`, and a real Chromium that looks at it."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from loadtests.browser import ARGUMENTS, NAMES, find_chromium
from sandbox.stack import RunningStack
from tests.pages.shop import Shop

ROOT = Path(__file__).parents[2]
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> str:
    path = find_chromium()
    if path is None:
        said = f"NO CHROMIUM, SO NO PAGE WAS TRIED IN A BROWSER: install one of {', '.join(NAMES)}"
        warnings.warn(said, stacklevel=1)
        pytest.skip(said)
    return path


@pytest.fixture(scope="module")
def stack(
    chromium: str, outer_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    """Everything, with its own servers and the payment stand-in."""
    folder = tmp_path_factory.mktemp("up")
    command = [sys.executable, "-m", "cli.main", "up", "--port", "0", "--data-dir", "data"]
    with (
        (folder / "stderr").open("w") as errors,
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as up,
    ):
        try:
            assert up.stdout
            said = []
            for line in up.stdout:
                said.append(line)
                if line.startswith("ready "):
                    break
            else:
                pytest.fail(f"it ended with {up.wait()}: {(folder / 'stderr').read_text()[-2000:]}")
            record = RunningStack.read(folder / "data")
            assert record
            assert f"shop      {record.api_url}/shop\n" in said
            assert f"live      {record.api_url}/ops" in "".join(said)
            yield record
        finally:
            up.terminate()
            assert up.wait(60) == 0


@pytest.fixture(scope="module")
def browser(chromium: str, stack: RunningStack) -> Iterator[Browser]:
    """Of one module only: while it runs, its thread has an event loop, and no async test may want another."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, stack: RunningStack) -> Iterator[Visit]:
    """``visit("/shop")`` is a page in a browser profile of its own. Afterwards: no error in any console, nothing that
    the page's policy forbade, and no request to another host. Answers with a status in ``refusals`` are expected.
    """
    found: list[str] = []
    contexts = []

    def go(path: str, refusals: tuple[int, ...] = (), **options: Any) -> Page:
        context = browser.new_context(base_url=stack.api_url, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        expected = tuple(f"Failed to load resource: the server responded with a status of {each} " for each in refusals)

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not message.text.startswith(expected or ("\0",)):
                found.append(f"{path}: {message.type}: {message.text}")

        def on_request(request: Request) -> None:
            if urlsplit(request.url).netloc != urlsplit(stack.api_url).netloc:
                found.append(f"{path}: asked {request.url}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: found.append(f"{path}: {error}"))
        page.on("request", on_request)
        page.goto(path)
        return page

    yield go
    for context in contexts:
        context.close()
    assert not found


@pytest.fixture
def shop(stack: RunningStack) -> Iterator[Shop]:
    with (
        httpx.Client(base_url=stack.api_url, timeout=20) as client,
        redis.Redis.from_url(stack.redis_url, decode_responses=True) as store,
    ):
        yield Shop(client, store, stack.admin_token)
