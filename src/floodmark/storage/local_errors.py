"""The translation of a file system's errors into storage errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from floodmark.errors import ObjectMissing, StorageDenied, StorageError, StorageUnavailable

NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_PASSING = {errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ENOLCK}
_HINTS = {
    errno.ENOSPC: "Free some space, or choose another place.",
    errno.EDQUOT: "The user's quota is used up.",
    errno.EROFS: "The file system is mounted read-only.",
    errno.ENOTDIR: "A part of the path is a file, where a folder is wanted.",
    errno.EFBIG: "A limit on the size of files (ulimit -f) is in the way.",
    errno.ENAMETOOLONG: "A table's name, percent-encoded, is longer than this file system's names may be.",
    errno.EIO: "The disk is failing; see the system's log.",
}


@contextmanager
def translated(what: str, path: Path, right: Literal["read", "write"] = "write") -> Iterator[None]:
    """Raise the StorageError that corresponds to an OSError: can't do `what`, with the path and the errno's name.

    `right` is the permission that the operation needs.
    """
    try:
        yield
    except OSError as error:
        raise _error(error)(f"can't {what}", on=str(path), why=_name(error), hint=_hint(error, right)) from None


@contextmanager
def reads(path: Path) -> Iterator[None]:
    """Translate errors of reads: a path that does not exist, or is no file, is a missing object."""
    with translated("read an object", path, "read"):
        try:
            yield
        except NOT_THERE:
            raise ObjectMissing("can't read an object", on=str(path), why="it does not exist") from None


def not_made(path: Path) -> StorageError:
    """Return the error for a path that can't be made although its parent folder was made each time (ENOENT)."""
    above = path.parent
    if above.is_dir():
        return StorageError(
            "can't put an object",
            on=str(above),
            why="no folder can be made here (ENOENT)",
            hint="Choose another place.",
        )
    if above.is_symlink():
        hint = "Make the folder that it names, or remove the link."
        return StorageError(
            "can't put an object", on=str(above), why="it is a symbolic link to a missing target", hint=hint
        )
    why = "another process removes the folder as often as it is made"
    return StorageError("can't put an object", on=str(above), why=why)


def _error(error: OSError) -> type[StorageError]:
    if error.errno in _DENIED:
        return StorageDenied
    return StorageUnavailable if error.errno in _PASSING else StorageError


def _hint(error: OSError, right: str) -> str | None:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"The user Floodmark runs as needs to {right} there."
    return _HINTS.get(error.errno or 0)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
