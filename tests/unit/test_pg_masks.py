"""Masks: the settings that carry the key, and the select-list items. What they give: integration/test_catalog."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from floodmark.config import Secret
from floodmark.source.masks import mask_identity
from floodmark.source.postgres.masks import INNER, OUTER, mask_settings, masked_value


@pytest.mark.parametrize("key", ["k", "a key of some length", "x" * 64, "x" * 65, "é" * 40])
def test_the_settings_make_an_hmac(key: str) -> None:
    settings = mask_settings(Secret(key))
    assert set(settings) == {INNER, OUTER}
    inner, outer = bytes.fromhex(settings[INNER]), bytes.fromhex(settings[OUTER])
    digest = hashlib.sha256(outer + hashlib.sha256(inner + b"value").digest()).hexdigest()
    assert digest == hmac.new(key.encode(), b"value", hashlib.sha256).hexdigest()


def test_the_identity_follows_the_key_and_hides_it() -> None:
    assert mask_identity(Secret("a")) == mask_identity(Secret("a"))
    assert mask_identity(Secret("a")) != mask_identity(Secret("b"))
    assert "canary" not in mask_identity(Secret("canary"))


@pytest.mark.parametrize("mask", ["null", "redact", "hash"])
def test_a_value_quotes_the_column_and_null_does_not_read_it(mask: str) -> None:
    assert masked_value('a"b', mask).count('"a""b"') == (0 if mask == "null" else 1)  # type: ignore[arg-type]
