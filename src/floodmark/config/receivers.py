"""The settings of a place that files are sent to: a destination or a delivery, checked together and completed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from floodmark.config.shown import CONFIG_REFUSED
from floodmark.errors import ConfigError
from floodmark.layout import LAYOUTS, LayoutName
from floodmark.places import bucket_of, option_problem

LANDING_ZONES = "moj-reg-"


def layout_of(url: str) -> LayoutName:
    """Return the default layout of a place, from its bucket's name."""
    return "moj-landing" if (bucket_of(url) or "").startswith(LANDING_ZONES) else "plain"


def place_settings(chosen: Mapping[str, Any], url: str, layout: LayoutName, path: str, name: str) -> dict[str, Any]:
    """Return the settings that the user chose for a place, with what its receiver demands.

    `path` is the place's key in the file called `name`, for errors. Raises ConfigError for a setting that contradicts
    the place, the receiver or another setting.
    """

    def refuse(field: str, why: str, hint: str) -> NoReturn:
        raise ConfigError(CONFIG_REFUSED, on=f"{path}.{field} ({name})", why=why, hint=hint)

    problem = option_problem(url, *(chosen.get(field) for field in ("acl", "sse", "kms_key_id")))
    if problem is not None and problem.option is not None:
        refuse(problem.option, problem.why, problem.hint)
    database = chosen.get("database_name")
    if database is not None and not database.strip():
        refuse("database_name", "it is empty", "Remove the key to use the database's own name.")
    if layout != "moj-landing":
        return dict(chosen)
    compression = chosen.get("compression", "none")
    if compression != "none":
        why = f"{compression} contradicts the layout moj-landing, which accepts uncompressed files only"
        refuse("compression", why, "Remove compression, or set layout: plain.")
    if LAYOUTS[layout].database_needs_underscore and "_" not in (database or "_"):
        refuse("database_name", "the layout moj-landing needs an underscore in it", "Write <service>_<database>.")
    demanded = {"acl": "bucket-owner-full-control", "sse": "AES256"} if bucket_of(url) is not None else {}
    return {**demanded, **chosen, "compression": "none"}
