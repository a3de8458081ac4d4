"""What the doctor finds: one line each, and what to change."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec


class State(StrEnum):
    """Worst last. Only ``unknown`` and ``wrong`` change the exit status."""

    FINE = "fine"
    ADVICE = "advice"
    UNKNOWN = "unknown"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """``subject`` is what was looked at (``redis 127.0.0.1:6379``), ``said`` what it is, ``change`` what to do; empty
    where that is nothing.
    """

    subject: str
    check: str
    state: State
    said: str
    change: str = ""


class Look:
    """Collects the findings about one subject."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.findings: list[Finding] = []

    def fine(self, check: str, said: str) -> None:
        self.findings.append(Finding(self.subject, check, State.FINE, said))

    def advice(self, check: str, said: str, change: str) -> None:
        self.findings.append(Finding(self.subject, check, State.ADVICE, said, change))

    def wrong(self, check: str, said: str, change: str) -> None:
        self.findings.append(Finding(self.subject, check, State.WRONG, said, change))

    def unknown(self, check: str, said: str, change: str) -> None:
        self.findings.append(Finding(self.subject, check, State.UNKNOWN, said, change))

    def expect(self, check: str, found: str, wanted: Sequence[str], change: str, *, soft: bool = False) -> None:
        """Fine where ``found`` is one of ``wanted``; else advice where it is ``soft``, or wrong."""
        if found in wanted:
            self.fine(check, found)
        elif soft:
            self.advice(check, found, change)
        else:
            self.wrong(check, found, change)


SKEW_SECONDS_MAX = 2.0
"""Deadlines are Redis's own and need no other clock; logs, ages and Stripe's signatures do."""


def judge_clock(look: Look, skew_seconds: float, uncertainty_seconds: float) -> None:
    """``skew_seconds``: how far its clock is ahead of this machine's."""
    said = f"{skew_seconds:+.2f} s against this machine"
    if abs(skew_seconds) - uncertainty_seconds <= SKEW_SECONDS_MAX:
        look.fine("clock", said)
    else:
        look.wrong("clock", said, "let one time service (chrony, NTP) set both clocks")


def exit_status(findings: Iterable[Finding]) -> int:
    """0 fine, 1 something is wrong, 2 something could not be looked at (and nothing is known to be wrong)."""
    states = {finding.state for finding in findings}
    return 1 if State.WRONG in states else 2 if State.UNKNOWN in states else 0
