"""The one protocol that every store implements, and its obligations to callers.

tests/contract/test_storage.py tests these obligations for every implementation:

- `put` is atomic: a reader sees the old object or the whole new one, never a part. After it returns the
  object is durable.
- A condition is checked and the object written in one step. If the condition does not hold, nothing is written and
  `ConditionFailed` is raised. A store that can't do this raises `NoConditionalWrites` from `check`.
- The body's length and SHA-256 are given with the call, and the store verifies them too, not only Floodmark.
- `put` can be called again with the same body after `StorageUnavailable`; it reads the body from the start.
- Vendor errors become `StorageError`s that name operation and key, never a credential.
- A store does not retry: see `storage.retry`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import BinaryIO, Protocol

from msgspec import Struct


class IfAbsent(Struct, frozen=True):
    """A condition: write only if no object exists (If-None-Match: *)."""


class IfMatch(Struct, frozen=True):
    """A condition: write only if the object still has this etag (If-Match)."""

    etag: str


Condition = IfAbsent | IfMatch | None


class Body(Struct, frozen=True):
    """The content to put: a seekable stream of `size` bytes whose SHA-256 is `sha256` (hex)."""

    stream: BinaryIO
    size: int
    sha256: str


class Fetched(Struct, frozen=True):
    """A small object, whole. `etag` is opaque: it serves `IfMatch` and is no digest."""

    data: bytes
    etag: str


class Stat(Struct, frozen=True):
    """The store's facts about an object. `sha256` (hex) is set only if the store keeps the one given with `put`."""

    size: int
    etag: str
    sha256: str | None


class StorageOptions(Struct, frozen=True):
    """The options for one store. `acl`, `sse` and `kms_key_id` go with every put as S3 spells them; None sends nothing.

    `conditional` is False for a landing zone, whose receiver moves objects away: there, Floodmark writes nothing on a
    condition, and reads, lists and deletes nothing. `allow_unconditional` accepts a store that ignores or refuses
    conditions. Timeouts are seconds, for each connect and for each silence.
    """

    acl: str | None = None
    sse: str | None = None
    kms_key_id: str | None = None
    conditional: bool = True
    allow_unconditional: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 60.0


class Storage(Protocol):
    """A bucket's prefix, or a folder. Keys are relative, with forward slashes.

    Implementations are safe to use from several threads.
    """

    @property
    def url(self) -> str:
        """Return the location, as a person would write it. It holds no secret."""
        ...

    def check(self) -> None:
        """Prove that the store exists and honours conditions. Leaves nothing behind.

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
        """Return size and etag of an object, or None if it does not exist (a store can answer 403 for that)."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error if it does not exist. Raises StorageError."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a prefix, in no order. For sweeps only; never a way to learn the state."""
        ...

    def unfinished(self, before: datetime) -> Iterator[str]:
        """Yield names, which are no keys, of remains of puts that were killed before that moment. For sweeps only."""
        ...

    def discard(self, name: str) -> None:
        """Remove an item that `unfinished` named; no error if it is gone. Raises StorageError."""
        ...
