"""The rules of a sale, as Lua scripts that Redis runs one at a time.

``script("hold")`` gives ``hold.lua`` with its ``--@include`` lines filled in from ``lib/``, and the SHA-1 under which
Redis keeps it.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_INCLUDE = re.compile(r"^--@include (\S+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script as Redis gets it: ``sha`` is what ``EVALSHA`` wants, in lower-case hex."""

    name: str
    source: str
    sha: str


def names() -> list[str]:
    """The name of each script, sorted."""
    return sorted(p.name.removesuffix(".lua") for p in files(__name__).iterdir() if p.name.endswith(".lua"))


@cache
def script(name: str) -> Script:
    """Read ``lua/{name}.lua`` and what it includes. Raises ``FileNotFoundError`` for a name that is none."""
    folder = files(__name__)
    text = (folder / f"{name}.lua").read_text()
    source = _INCLUDE.sub(lambda m: (folder / "lib" / m[1]).read_text(), text)
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
