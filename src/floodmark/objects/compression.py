"""Compression of objects, in both directions, as streams: gzip, zstd or none."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

from isal import igzip, isal_zlib

from floodmark.errors import ConfigError
from floodmark.model import Compression
from floodmark.storage.streams import Readable
from floodmark.wording import install_hint

# gzip level 1: in measurements, a higher level costs more time than the transfer of the saved bytes.
GZIP_LEVEL = 1
ZSTD_LEVEL = 1
_BROKEN_GZIP = (EOFError, OSError, zlib.error, cast(type[Exception], isal_zlib.error))


class Undecompressed(Exception):
    """An error for stored bytes that are not one complete compressed stream.

    The message is the library's error name.
    """


class Compressor(Protocol):
    """The methods that zlib-like compressors share."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


def compressor(compression: Compression) -> Compressor:
    """Return a compressor for one object. Raises ConfigError if the optional library is not installed."""
    if compression == "gzip":
        return cast(Compressor, isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 16 + zlib.MAX_WBITS))
    if compression == "zstd":
        return cast(Compressor, _zstandard().ZstdCompressor(level=ZSTD_LEVEL).compressobj())
    return _Plain()


def compressed(blocks: Iterable[bytes | bytearray | memoryview], compression: Compression) -> Iterator[bytes]:
    """Yield the same bytes compressed, as one stream. Raises the errors of `compressor`."""
    packing = compressor(compression)
    for block in blocks:
        yield packing.compress(block)
    yield packing.flush()


def decompressed(stored: Readable, compression: Compression) -> Readable:
    """Return a reader of a stored object's raw bytes.

    Its reads raise Undecompressed and the errors of `stored`. Raises ConfigError if the optional library is not
    installed.
    """
    if compression == "gzip":
        return _Decompressed(igzip.GzipFile(fileobj=stored, mode="rb"), _BROKEN_GZIP)  # type: ignore[no-untyped-call]
    if compression == "zstd":
        library = _zstandard()
        stream = library.ZstdDecompressor().stream_reader(stored, read_across_frames=True)
        return _Decompressed(stream, (library.ZstdError,))
    return stored


class _Plain:
    """A compressor that passes bytes through."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


class _Decompressed:
    """A library's stream, with the same error for every library."""

    def __init__(self, stream: Readable, failures: tuple[type[Exception], ...]) -> None:
        self._stream, self._failures = stream, failures

    def read(self, amount: int, /) -> bytes:
        try:
            return self._stream.read(amount)
        except self._failures as error:
            raise Undecompressed(type(error).__name__) from None

    def close(self) -> None:
        self._stream.close()


def _zstandard() -> Any:
    try:
        import zstandard as found  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise ConfigError(
            "zstd can't be used here",
            why="the package zstandard is not installed",
            hint=f"{install_hint('zstd')}; destination.compression: gzip needs nothing more.",
        ) from None
    return found
