"""Masks: the text in a line that replaces a column's value, computed by the server.

`hash` is HMAC-SHA-256 (RFC 2104) of the value's text, in hex. The key never appears in a statement: the session holds
the key's padded blocks as two settings, from which the server computes the two digests.
"""

from __future__ import annotations

import hashlib

from floodmark.config import Mask, Secret
from floodmark.source.masks import key_bytes
from floodmark.source.quoting import quoted

INNER = "floodmark.mask_inner"
OUTER = "floodmark.mask_outer"
_BLOCK = 64  # bytes, SHA-256's block
_OR = "OPERATOR(pg_catalog.||)"


def mask_settings(key: Secret) -> dict[str, str]:
    """Return the session settings for `hash`: the key's inner and outer blocks in hex.

    They are as secret as the key.
    """
    block = key_bytes(key)
    if len(block) > _BLOCK:
        block = hashlib.sha256(block).digest()
    block = block.ljust(_BLOCK, b"\0")
    return {INNER: bytes(b ^ 0x36 for b in block).hex(), OUTER: bytes(b ^ 0x5C for b in block).hex()}


def masked_value(column: str, mask: Mask) -> str:
    """Return the expression that replaces the column. A null stays null under every mask.

    It uses IS DISTINCT FROM NULL, not IS NOT NULL: the latter looks into the fields of a composite value.
    """
    name = quoted(column)
    if mask == "null":
        return "NULL::pg_catalog.text"
    if mask == "redact":
        return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN 'REDACTED'::pg_catalog.text END"
    text = f"pg_catalog.convert_to({name}::pg_catalog.text, 'UTF8')"
    inner = f"pg_catalog.sha256({_block(INNER)} {_OR} {text})"
    return f"pg_catalog.encode(pg_catalog.sha256({_block(OUTER)} {_OR} {inner}), 'hex')"


def _block(setting: str) -> str:
    return f"pg_catalog.decode(pg_catalog.current_setting('{setting}'), 'hex')"
