"""The documents about what was told: to a scheduler after a commit, and to people about the end of runs.

Like all durable documents they have a format and a version, are encoded and decoded in `state.manifest`, and are
specified in docs/format.md.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Completion(Struct, frozen=True, kw_only=True):
    """The announcement of a commit: the object at the destination, the message, and the record in the state.

    Two processes that announce the same commit write the same bytes.
    """

    format: Literal["floodmark.completion"] = "floodmark.completion"
    version: Literal[1] = 1
    run_id: str
    manifest: str
    manifest_sha256: str
    timestamp: str
    committed_at: str
    state: str
    destination: str
    dialect: str
    system_identifier: str
    database: str
    consistent: bool
    tables: int
    failed: int


class NotifiedKind(Struct, frozen=True, kw_only=True):
    """The last time that a channel was told of a kind of event."""

    kind: str
    at: str


class NotifiedChannel(Struct, frozen=True, kw_only=True):
    """A channel, by its name in the configuration, with the number of its messages since the state began."""

    name: str
    sent: int = 0
    failed: int = 0
    last: tuple[NotifiedKind, ...] = ()


class Notified(Struct, frozen=True, kw_only=True):
    """The channels of notifications, and the times of the last ones. Moved by compare-and-swap.

    It serves `min_interval` and the metrics. A lost update means one message too many.
    """

    format: Literal["floodmark.notified"] = "floodmark.notified"
    version: Literal[1] = 1
    channels: tuple[NotifiedChannel, ...] = ()
