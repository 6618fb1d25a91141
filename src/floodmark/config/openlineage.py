"""Checked `OpenLineageSettings`, made from the file's `openlineage` section and from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlsplit

from floodmark.config.notify_schema import OpenLineageSection
from floodmark.config.settings import OpenLineageSettings, Secret
from floodmark.config.shown import CONFIG_REFUSED
from floodmark.errors import ConfigError

_HTTP_ONLY, _FILE_ONLY = ("url", "endpoint", "api_key_env"), ("path",)


def openlineage_settings(section: OpenLineageSection, environ: Mapping[str, str], name: str) -> OpenLineageSettings:
    """Return the receiver of a file called `name`. Raises ConfigError, which repeats no value."""

    def refuse(key: str, why: str, hint: str) -> NoReturn:
        raise ConfigError(CONFIG_REFUSED, on=f"openlineage.{key} ({name})", why=why, hint=hint)

    given = [key for key in section.__struct_fields__ if getattr(section, key) is not None]
    if section.transport is None:
        place = next((key for key in ("url", "path", "api_key_env") if key in given), None)
        if place is not None:
            refuse("transport", f"{place} is set, and the transport is missing", "Write transport: http, or file.")
        return OpenLineageSettings()
    other = next((key for key in (_FILE_ONLY if section.transport == "http" else _HTTP_ONLY) if key in given), None)
    if other is not None:
        refuse(other, f"it has no meaning with transport: {section.transport}", "Remove the key.")
    needed = "url" if section.transport == "http" else "path"
    if not getattr(section, needed):
        refuse(needed, f"transport: {section.transport} needs it", f"Write {needed}: and the receiver.")
    for key in ("namespace", "job", "endpoint"):
        if getattr(section, key) is not None and not getattr(section, key).strip():
            refuse(key, "it is empty", "Remove the key to use the default.")
    url = (section.url or "").strip()
    if section.transport == "http" and (problem := _url_problem(url)) is not None:
        hint = "Write the receiver's address, such as https://marquez.example.org. A key comes from api_key_env."
        refuse("url", problem, hint)
    secret = environ.get(section.api_key_env or "", "").strip()
    if section.api_key_env is not None and not secret:
        hint = "Set it, for example from a secret of the job. Write only its name here, never its content."
        refuse("api_key_env", "the environment variable of this name is not set", hint)
    defaults = OpenLineageSettings()
    return OpenLineageSettings(
        transport=section.transport,
        url=f"{url.rstrip('/')}/" if url else "",
        endpoint=(section.endpoint or defaults.endpoint).strip().lstrip("/"),
        path=section.path or "",
        namespace=section.namespace or defaults.namespace,
        job=section.job,
        api_key=Secret(secret) if secret else None,
    )


def _url_problem(url: str) -> str | None:
    """Return why an address can't be used, or None. One with a user or parameters can hold a secret."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is no URL"
    if parts.scheme not in ("http", "https") or not host:
        return "it must be an http:// or https:// URL"
    if parts.username is not None or parts.query or parts.fragment:
        return "a user, a password or parameters can be a secret"
    return None
