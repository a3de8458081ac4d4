"""The command line as its users meet it: arguments in; exit status, stdout and stderr out."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli import failures
from cli.main import cli

FILE = """\
id: bf
name: Black Friday
hold_ttl_seconds: 60
products:
  - id: sneaker
    name: Sneaker 42
    price: {amount: 12900, currency: usd}
    stock: 10
    per_customer_limit: 2
"""


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("sale", "list")`, in this process."""

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = failures.run(lambda: cli.main(list(arguments), prog_name="flashsale", standalone_mode=False))
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def stores(redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of an operator whose Redis and Postgres are set."""
    monkeypatch.setenv("FLASHSALE_REDIS_URL", redis_url)
    monkeypatch.setenv("FLASHSALE_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def loaded(stores: None, run: Run, tmp_path: Path) -> Path:
    """A sale `bf` with ten of `sneaker`; its file."""
    file = tmp_path / "sale.yaml"
    file.write_text(FILE)
    result = run("sale", "load", str(file))
    assert result.code == 0, result.err
    return file


@dataclass
class Background:
    """A command that runs until it is told to stop."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def ready(self) -> str:
        """The URL of its `ready` line."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready "):
                return line.split()[1]
        pytest.fail(f"it ended with {self.process.wait()}: {self.lines}")

    @property
    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 40) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Background]]:
    """`start("up", "--port", "0")`, as a process of its own in an empty folder."""
    started: list[Background] = []

    def call(*arguments: str) -> Background:
        root = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Background(process))
        return started[-1]

    yield call
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def gone(processes: list[psutil.Process], seconds: float = 5.0) -> list[psutil.Process]:
    """Those that still live after a moment."""
    end = time.monotonic() + seconds
    while alive := [each for each in processes if lives(each)]:
        if time.monotonic() > end:
            return alive
        time.sleep(0.05)
    return []
