"""How a store is spoken to: what goes with every put, and how long an answer may take."""

from __future__ import annotations

from msgspec import Struct


class StorageOptions(Struct, frozen=True):
    """`acl`, `sse` and `kms_key_id` go with every put as S3 spells them; None sends nothing.

    `conditional` is False for a landing zone, whose receiver moves objects away: nothing is written on a
    condition there, and nothing is read, listed or deleted. `allow_unconditional` accepts a store that
    ignores or refuses conditions. Timeouts are seconds, for each connect and for each silence.
    """

    acl: str | None = None
    sse: str | None = None
    kms_key_id: str | None = None
    conditional: bool = True
    allow_unconditional: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
