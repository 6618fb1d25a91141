"""Where bytes go: the one protocol every store implements, and what it owes its callers.

Obligations, tested for every implementation by tests/contract/test_storage.py:

- `put` is atomic: a reader sees the old object, or the whole new one, never a part; after it returns the
  object is durable.
- A condition is checked and the object written in one step. Where it does not hold, nothing is written and
  `ConditionFailed` is raised. A store that can't do this raises `NoConditionalWrites` from `check`.
- The body's length and SHA-256 are given with the call and verified by the store, not only by us.
- `put` may be called again with the same body after `StorageUnavailable`; it reads the body from the start.
- Vendor errors come out as `StorageError`s that name operation and key, never a credential.
- Retrying is not the store's business: see `storage.retry`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import BinaryIO, Protocol

from msgspec import Struct


class IfAbsent(Struct, frozen=True):
    """Write only where no object is (If-None-Match: *)."""


class IfMatch(Struct, frozen=True):
    """Write only where the object still has this etag (If-Match)."""

    etag: str


Condition = IfAbsent | IfMatch | None


class Body(Struct, frozen=True):
    """What to put: a seekable stream of `size` bytes whose SHA-256 is `sha256` (hex)."""

    stream: BinaryIO
    size: int
    sha256: str


class Fetched(Struct, frozen=True):
    """A small object, whole. `etag` is opaque: good for `IfMatch`, no digest."""

    data: bytes
    etag: str


class Stat(Struct, frozen=True):
    """What a store says of an object. `sha256` (hex) only where the store keeps the one given with `put`."""

    size: int
    etag: str
    sha256: str | None


class Storage(Protocol):
    """A bucket's prefix, or a folder. Keys are relative, with forward slashes.

    Implementations are safe to use from several threads.
    """

    @property
    def url(self) -> str:
        """Where this is, as a person would write it; holds no secret."""
        ...

    def check(self) -> None:
        """Prove that the store is there and honours conditions. Leaves nothing behind.

        Raises StorageError, or NoConditionalWrites.
        """
        ...

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        """Write an object and return its etag. Raises ConditionFailed, StorageError."""
        ...

    def get(self, key: str) -> Fetched:
        """Read a small object whole. Raises ObjectMissing, StorageError."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading as a stream; the caller closes it. Raises ObjectMissing, StorageError."""
        ...

    def stat(self, key: str) -> Stat | None:
        """Size and etag of an object, or None where there is none (a store may answer 403 for that)."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error where there is none. Raises StorageError."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a prefix, in no order. For those who sweep; never to learn the state."""
        ...

    def unfinished(self, before: datetime) -> Iterator[str]:
        """What puts that were killed before that moment left behind, by names that are no keys: for who sweeps."""
        ...

    def discard(self, name: str) -> None:
        """Remove what `unfinished` named; no error where it is gone. Raises StorageError."""
        ...
