"""Streams whose errors are Floodmark's own."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol, cast

from floodmark.errors import StorageError, StorageUnavailable

BLOCK = 1024 * 1024
Translated = Callable[[], AbstractContextManager[None]]


class Readable(Protocol):
    """A source of bytes that can be read and closed: a file, or the body of a response."""

    def read(self, amount: int, /) -> bytes: ...

    def close(self) -> None: ...


def reader(stream: Readable, translated: Translated) -> BinaryIO:
    """Return a buffered stream whose reads raise StorageErrors. `stream` must end where the object ends."""
    return cast(BinaryIO, io.BufferedReader(_Reader(stream, translated), BLOCK))


class _Reader(io.RawIOBase):
    def __init__(self, stream: Readable, translated: Translated) -> None:
        self._stream, self._translated = stream, translated

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with self._translated():
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def window(stream: BinaryIO, start: int, size: int) -> BinaryIO:
    """Return bytes [start, start + size) of a seekable stream as a stream of its own, without a copy."""
    return cast(BinaryIO, _Window(stream, start, size))


class _Window(io.RawIOBase):
    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._start, self._size = stream, start, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._stream.seek(self._start + self._at)
        data = self._stream.read(left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data


def length(stream: BinaryIO) -> int:
    """Return how many bytes a seekable stream holds, and leave it at its start."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return size


def not_as_announced(key: str) -> StorageError:
    """Return the error for a body that differs from its announced size or SHA-256. Retryable, like S3's BadDigest."""
    return StorageUnavailable(
        "can't put an object", on=key, why="the body does not have the announced size and SHA-256"
    )
