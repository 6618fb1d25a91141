"""The words of errors about a configuration: a key is shown only if it looks like one, and a value never."""

from __future__ import annotations

import re

CONFIG_REFUSED = "can't use this configuration"
_SHOWABLE_KEY = re.compile(r"[^\x00-\x1f\x7f-\x9f:/@=]{1,80}\Z")
_PLAIN_KEY = re.compile(r"[\w.-]+\Z")


def shown_key(key: object) -> str:
    """Return a key for an error: quoted if it is no plain word, hidden if it might be a value."""
    if not isinstance(key, str):
        return f"({yaml_kind(key)})"
    if not _SHOWABLE_KEY.match(key):
        return "(a key that is not shown)"
    return key if _PLAIN_KEY.match(key) else f'"{key}"'


def yaml_kind(value: object) -> str:
    """Return the kind of a YAML value, for a person; never the value."""
    if value is None:
        return "nothing"
    names: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a fraction"),
        (str, "text"),
        (list, "a list"),
        (dict, "a section with keys"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")
