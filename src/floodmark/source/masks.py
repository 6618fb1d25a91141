"""What the masks of all sources have in common: the key of `hash`, and what may be known of it."""

from __future__ import annotations

import hashlib
import hmac

from floodmark.config import Secret


def key_bytes(key: Secret) -> bytes:
    """The key as HMAC takes it."""
    return key.reveal().encode("utf-8")


def mask_identity(key: Secret) -> str:
    """A digest that changes when the key does and tells nothing about it."""
    return hmac.new(key_bytes(key), b"floodmark: the identity of a mask key", hashlib.sha256).hexdigest()
