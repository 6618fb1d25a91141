"""URLs as the report shows them: without user, password and parameters. Pure."""

from __future__ import annotations

import re

# As in config.urls, a password ends at an @ and can hold anything before it, also a slash.
_URL = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)(?:[^\s@]*@)?(?P<rest>[^\s?#]*)(?:[?#]\S*)?")


def without_secrets_in_urls(text: str) -> str:
    """Return the text with each URL reduced to its scheme, host and path."""
    return _URL.sub(lambda found: found["scheme"] + found["rest"], text)
