"""Checked `DeliverySettings`, made from the file's `deliver` list or from `--to`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from floodmark.config.document import WHAT
from floodmark.config.schema import DeliverSection
from floodmark.config.settings import DeliverySettings, Settings
from floodmark.config.urls import bucket, check_place
from floodmark.errors import ConfigError
from floodmark.layout import LayoutName
from floodmark.model import Numbers

LANDING_ZONES = "moj-reg-"
RESEND_AFTER_DAYS = 7
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\Z", re.ASCII)


def deliveries(sections: Sequence[DeliverSection], name: str) -> tuple[DeliverySettings, ...]:
    """Return the deliveries of a file called `name`. Raises ConfigError."""
    found = tuple(delivery(section, f"deliver[{number}]", name) for number, section in enumerate(sections))
    names = [one.name for one in found]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        hint = "Each needs a name of its own: what it has delivered is remembered by it."
        raise ConfigError(WHAT, on=f"deliver ({name})", why=f"two deliveries are named {twice}", hint=hint)
    places = [(one.url.rstrip("/"), one.database_name) for one in found]
    shared = next((one.name for one, place in zip(found, places, strict=True) if places.count(place) > 1), None)
    if shared is not None:
        why = f"{shared} and another deliver to the same place, where one's files may replace the other's"
        raise ConfigError(
            WHAT, on=f"deliver ({name})", why=why, hint="Give each a place or a database_name of its own."
        )
    return found


def delivery(section: DeliverSection, path: str, name: str) -> DeliverySettings:
    """Return one delivery. `path` gives its place in the file, for errors."""
    if section.url is None:
        hint = "Write url: s3://bucket/prefix, or a folder's path."
        raise ConfigError(WHAT, on=f"{path}.url ({name})", why="it says not where to", hint=hint)
    if not _NAME.match(section.name or ""):
        hint = "Write name: and letters, digits, - or _: what was delivered is remembered by it."
        raise ConfigError(WHAT, on=f"{path}.name ({name})", why="it has no such name as is wanted", hint=hint)
    url = check_place(section.url, f"{path}.url ({name})")
    layout: LayoutName = section.layout or layout_of(url)
    given = {field: getattr(section, field) for field in section.__struct_fields__}
    chosen = {field: value for field, value in given.items() if value is not None}
    return _checked({**chosen, "url": url, "layout": layout}, path, name)


def to_url(
    url: str, name: str | None, layout: LayoutName | None = None, numbers: Numbers | None = None
) -> DeliverySettings:
    """Return the delivery that `--to`, `--name`, `--layout` and `--numbers` describe. Raises ConfigError."""
    if name is not None:
        require_name(name)
    place = check_place(url, "--to")
    chosen = {"url": place, "name": name or "", "layout": layout or layout_of(place), "numbers": numbers or "as-is"}
    return _checked(chosen, "--to", "command line")


def require_name(name: str) -> None:
    """Raise ConfigError if `--name` can't be a delivery's name."""
    if not _NAME.match(name):
        hint = "Write letters, digits, - or _."
        raise ConfigError(WHAT, on="--name", why="it is no name for a delivery", hint=hint)


def layout_of(url: str) -> LayoutName:
    """Return the default layout of a place, from its bucket's name."""
    return "moj-landing" if (bucket(url) or "").startswith(LANDING_ZONES) else "plain"


def require_deliverable(settings: Settings, name: str) -> None:
    """Raise ConfigError unless deliveries go from a destination that keeps its objects to another place."""
    for one in settings.deliver:
        on = f"deliver ({name})"
        if settings.destination.layout != "plain" or settings.state_url is None:
            why = "there is nothing to deliver from: the destination is a landing zone itself"
            hint = "Set destination.url to a bucket of your own, and let deliver fill the landing zone."
            raise ConfigError(WHAT, on=on, why=why, hint=hint)
        for other, what in ((settings.destination.url, "the destination"), (settings.state_url, "the state")):
            if other and nested(one.url, other):
                hint = "Give the delivery a place of its own."
                raise ConfigError(
                    WHAT, on=on, why=f"{one.name or 'its place'} lies within {what}, or that in it", hint=hint
                )


def nested(one: str, other: str) -> bool:
    """Return True if two places are the same, or one lies within the other."""
    if (bucket(one) is None) != (bucket(other) is None):
        return False
    if bucket(one) is None:
        one, other = str(Path(one).resolve()), str(Path(other).resolve())
    a, b = f"{one.rstrip('/')}/", f"{other.rstrip('/')}/"
    return a.startswith(b) or b.startswith(a)


def _checked(chosen: dict[str, Any], path: str, name: str) -> DeliverySettings:
    """Return settings with the layout's demands, unless the layout allows another value that is set."""
    local = bucket(chosen["url"]) is None
    for field in ("acl", "sse", "kms_key_id"):
        if local and field in chosen:
            why, hint = "it contradicts the url, a local folder", f"Remove {field}."
            raise ConfigError(WHAT, on=f"{path}.{field} ({name})", why=why, hint=hint)
    if "kms_key_id" in chosen and not chosen.get("sse", "").startswith("aws:kms"):
        why, hint = "a KMS key contradicts any sse but aws:kms", "Set sse: aws:kms."
        raise ConfigError(WHAT, on=f"{path}.kms_key_id ({name})", why=why, hint=hint)
    if chosen["layout"] != "moj-landing":
        return DeliverySettings(**chosen)
    if chosen.get("compression", "none") != "none":
        why, hint = "the layout moj-landing takes plain lines only", "Remove compression, or set layout: plain."
        raise ConfigError(WHAT, on=f"{path}.compression ({name})", why=why, hint=hint)
    if "_" not in chosen.get("database_name", "_"):
        why, hint = "the layout moj-landing wants an underscore in it", "Write it as <service>_<database>."
        raise ConfigError(WHAT, on=f"{path}.database_name ({name})", why=why, hint=hint)
    demanded = {} if local else {"acl": "bucket-owner-full-control", "sse": "AES256"}
    given = {"resend_after_days": RESEND_AFTER_DAYS, **demanded, **chosen, "compression": "none"}
    return DeliverySettings(**given)
