"""CPU by role counts every process of a tree, those that are gone too."""

import subprocess
import sys

from loadtests import cpu

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
TREE = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN.format(seconds=0.4)!r}], check=True)
lives = subprocess.Popen([sys.executable, "-c", {BURN.format(seconds=0.4)!r} + "print('burnt', flush=True); input()"],
                         stdin=subprocess.PIPE)
lives.wait()
"""


def test_a_tree_is_counted_with_what_ended_and_what_lives() -> None:
    with subprocess.Popen([sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        assert root.stdout.readline() == b"burnt\n"
        taken = cpu.seconds([root.pid])
        root.kill()
    assert 0.7 < taken < 5


def test_what_was_spent_is_told_by_role() -> None:
    assert cpu.spent({"API": 1.0, "Redis": 2.0}, {"API": 1.5, "Redis": 2.0}) == {"API": 0.5, "Redis": 0.0}
