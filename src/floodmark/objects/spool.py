"""A temporary file that holds one object until it is complete: in memory while it is small, then on the disk.

An object is put only from a complete spool. So an object that turns out to be wrong is thrown away before any byte
leaves, and a repeated put starts at byte 0.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from contextlib import suppress
from typing import BinaryIO, cast

from floodmark.errors import StorageError
from floodmark.model import Compression
from floodmark.objects.compression import compressor
from floodmark.storage.base import Body

# A usual chunk (17 MB stored) stays in memory. Memory stays flat with four chunks in progress.
SPOOL_MEMORY = 24 * 1024**2
# What a spool that would not stay in memory anyway keeps there.
SPOOL_BUFFER = 1024**2


class Spool(io.RawIOBase):
    """A temporary file that counts and hashes what is written to it. Use it as a context manager, or close it."""

    def __init__(self, memory: int = SPOOL_MEMORY) -> None:
        super().__init__()
        self._file = tempfile.SpooledTemporaryFile(max_size=memory, prefix="floodmark-")  # noqa: SIM115
        self._digest, self.size = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Append bytes. Raises StorageError if the disk is full or refuses them."""
        try:
            self._file.write(data)
        except OSError as error:
            raise not_written(error) from None
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    @property
    def body(self) -> Body:
        """Return all that was written, ready for a put. Raises StorageError if the last bytes do not fit."""
        try:
            self._file.seek(0)  # writes what is still buffered
        except OSError as error:
            raise not_written(error) from None
        return Body(cast(BinaryIO, self._file), self.size, self._digest.hexdigest())

    def close(self) -> None:
        with suppress(OSError):  # bytes that the disk does not take are thrown away with the others
            self._file.close()
        super().close()


class LineSpool(Spool):
    """A spool of lines that compresses them, with the size and digest of the lines themselves."""

    def __init__(self, compression: Compression, memory: int = SPOOL_MEMORY) -> None:
        super().__init__(memory)
        self._compressor = compressor(compression)
        self._lines, self.raw_bytes = hashlib.sha256(), 0

    def take(self, lines: bytes | bytearray | memoryview) -> None:
        """Append a block of whole lines. Raises StorageError if the disk is full or refuses them."""
        self._lines.update(lines)
        self.raw_bytes += len(lines)
        self.write(self._compressor.compress(lines))

    def finish(self) -> None:
        """Write the end of the compressed stream."""
        self.write(self._compressor.flush())

    @property
    def content_sha256(self) -> str:
        return self._lines.hexdigest()


def not_written(error: OSError) -> StorageError:
    """Return the error for a temporary file that the disk does not take."""
    return StorageError(
        "can't write a temporary file",
        on=tempfile.tempdir or "the folder for temporary files",  # gettempdir() would try to write there
        why=error.strerror,
        hint="Free space there, or set TMPDIR to another folder.",
    )
