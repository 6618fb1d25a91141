"""The common part of all sources' masks: the key of `hash`, and the facts about it that may be known."""

from __future__ import annotations

import hashlib
import hmac

from floodmark.config import Secret


def key_bytes(key: Secret) -> bytes:
    """Return the key in the form that HMAC takes."""
    return key.reveal().encode("utf-8")


def mask_identity(key: Secret) -> str:
    """Return a digest that changes with the key and reveals nothing about it."""
    return hmac.new(key_bytes(key), b"floodmark: the identity of a mask key", hashlib.sha256).hexdigest()
