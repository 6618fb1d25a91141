"""The options of a store: the attributes of every put, and the time limits for an answer."""

from __future__ import annotations

from msgspec import Struct


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
