"""A file that a command writes: the whole of it, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile


def replace_file(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write the whole file, or leave the old one as it is. A symbolic link stays one.

    What is no regular file, such as a pipe, is written to. Raises OSError; without `overwrite` also FileExistsError.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:100]}.", delete=False) as file:
        temporary = Path(file.name)
        with _removed_on_error(temporary):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    with _removed_on_error(temporary):
        temporary.chmod(path.stat().st_mode if path.exists() else 0o644)
        if not overwrite and os.path.lexists(path):
            raise FileExistsError(str(path))
        temporary.replace(path)


@contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
