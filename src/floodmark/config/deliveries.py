"""Checked `DeliverySettings`, made from the file's `deliver` list or from `--to`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from floodmark.config.receivers import layout_of, place_settings
from floodmark.config.schema import DeliverSection
from floodmark.config.settings import DeliverySettings, Settings
from floodmark.config.shown import CONFIG_REFUSED
from floodmark.config.urls import check_place
from floodmark.errors import ConfigError
from floodmark.layout import LayoutName
from floodmark.model import Numbers
from floodmark.places import either_contains

RESEND_AFTER_DAYS = 7
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\Z", re.ASCII)


def delivery_settings(sections: Sequence[DeliverSection], name: str) -> tuple[DeliverySettings, ...]:
    """Return the deliveries of a file called `name`. Raises ConfigError."""
    found = tuple(one_delivery(section, f"deliver[{number}]", name) for number, section in enumerate(sections))
    names = [one.name for one in found]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        hint = "Give each its own name: Floodmark records under it what was delivered."
        raise ConfigError(CONFIG_REFUSED, on=f"deliver ({name})", why=f"two deliveries are named {twice}", hint=hint)
    places = [(one.url.rstrip("/"), one.database_name) for one in found]
    shared = next((one.name for one, place in zip(found, places, strict=True) if places.count(place) > 1), None)
    if shared is not None:
        why = f"{shared} and another write to the same place, so one can overwrite the other's files"
        raise ConfigError(
            CONFIG_REFUSED, on=f"deliver ({name})", why=why, hint="Give each its own url or database_name."
        )
    return found


def one_delivery(section: DeliverSection, path: str, name: str) -> DeliverySettings:
    """Return one delivery. `path` gives its place in the file, for errors."""
    if section.url is None:
        hint = "Write url: s3://bucket/prefix, or a folder's path."
        raise ConfigError(CONFIG_REFUSED, on=f"{path}.url ({name})", why="the url is missing", hint=hint)
    if not _NAME.match(section.name or ""):
        hint = "Set name: to letters, digits, - or _. Floodmark records under it what was delivered."
        raise ConfigError(CONFIG_REFUSED, on=f"{path}.name ({name})", why="the name is missing or invalid", hint=hint)
    url = check_place(section.url, f"{path}.url ({name})")
    layout: LayoutName = section.layout or layout_of(url)
    given = {field: getattr(section, field) for field in section.__struct_fields__}
    chosen = {field: value for field, value in given.items() if value is not None}
    return _with_layout_rules({**chosen, "url": url, "layout": layout}, path, name)


def to_url(
    url: str, name: str | None, layout: LayoutName | None = None, numbers: Numbers | None = None
) -> DeliverySettings:
    """Return the delivery that `--to`, `--name`, `--layout` and `--numbers` describe. Raises ConfigError."""
    if name is not None:
        require_name(name)
    place = check_place(url, "--to")
    chosen = {"url": place, "name": name or "", "layout": layout or layout_of(place), "numbers": numbers or "as-is"}
    return _with_layout_rules(chosen, "--to", "command line")


def require_name(name: str) -> None:
    """Raise ConfigError if `--name` can't be a delivery's name."""
    if not _NAME.match(name):
        hint = "Write letters, digits, - or _."
        raise ConfigError(CONFIG_REFUSED, on="--name", why="not a valid name for a delivery", hint=hint)


def require_deliverable(settings: Settings, name: str) -> None:
    """Raise ConfigError unless deliveries go from a destination that keeps its objects to another place."""
    for one in settings.deliver:
        on = f"deliver ({name})"
        if settings.destination.layout != "plain" or settings.state_url is None:
            why = "the destination is itself a landing zone, so no object stays there to deliver"
            hint = "Set destination.url to a bucket of your own, and let deliver fill the landing zone."
            raise ConfigError(CONFIG_REFUSED, on=on, why=why, hint=hint)
        for other, what in ((settings.destination.url, "the destination"), (settings.state_url, "the state")):
            if other and either_contains(one.url, other):
                hint = "Give the delivery its own url."
                raise ConfigError(
                    CONFIG_REFUSED,
                    on=on,
                    why=f"{one.name or 'its url'} and {what} overlap: one lies within the other",
                    hint=hint,
                )


def _with_layout_rules(chosen: dict[str, Any], path: str, name: str) -> DeliverySettings:
    """Return settings with what the receiver demands, unless the user set another value that it accepts."""
    layout = chosen["layout"]
    defaults = {"resend_after_days": RESEND_AFTER_DAYS} if layout == "moj-landing" else {}
    return DeliverySettings(**{**defaults, **place_settings(chosen, chosen["url"], layout, path, name)})
