"""Settings: file + environment + flags → frozen structs, parsed and checked once, passed explicitly.

`settings` holds the structs, `load` makes them; the other modules serve `load`: `schema` (what a file may
hold), `document` (reading one), `tables`, `urls` and `values` (what single settings mean).
"""

from floodmark.config.load import load
from floodmark.config.settings import (
    ColumnRule,
    DeliverySettings,
    DestinationSettings,
    DetectMode,
    Flags,
    Limits,
    Mask,
    Metrics,
    Secret,
    Selection,
    Settings,
    SourceSettings,
    TableRule,
)
from floodmark.config.urls import safe_label

__all__ = [
    "ColumnRule",
    "DeliverySettings",
    "DestinationSettings",
    "DetectMode",
    "Flags",
    "Limits",
    "Mask",
    "Metrics",
    "Secret",
    "Selection",
    "Settings",
    "SourceSettings",
    "TableRule",
    "load",
    "safe_label",
]
