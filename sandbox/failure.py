"""What is told of a server of ours that cannot be used. Imports nothing, so that every role may import it."""

from pathlib import Path


class ServerError(RuntimeError):
    """An embedded server that cannot be used. The message says why and what to do."""


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "it wrote no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
