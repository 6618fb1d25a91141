"""Settings: file + environment + flags → frozen structs, parsed and checked once, passed explicitly.

`settings` holds the structs and `load` makes them. The other modules serve `load`: `schema` (the possible content of a
file), `document` (the reading of one), `tables`, `urls` and `values` (the meaning of single settings).
"""

from floodmark.config.contract import Contract, ContractColumn, ContractTable, ContractTerms
from floodmark.config.load import load, load_settings
from floodmark.config.settings import (
    ChannelSettings,
    ColumnRule,
    CompletionSettings,
    DeliverySettings,
    DestinationSettings,
    DetectMode,
    Flags,
    Guards,
    Limits,
    Mask,
    Metrics,
    NotifyKind,
    NotifySettings,
    OpenLineageSettings,
    Secret,
    Selection,
    Settings,
    SourceSettings,
    TableRule,
)
from floodmark.config.states import WatchedStates, load_states
from floodmark.config.urls import safe_label

__all__ = [
    "ChannelSettings",
    "ColumnRule",
    "CompletionSettings",
    "Contract",
    "ContractColumn",
    "ContractTable",
    "ContractTerms",
    "DeliverySettings",
    "DestinationSettings",
    "DetectMode",
    "Flags",
    "Guards",
    "Limits",
    "Mask",
    "Metrics",
    "NotifyKind",
    "NotifySettings",
    "OpenLineageSettings",
    "Secret",
    "Selection",
    "Settings",
    "SourceSettings",
    "TableRule",
    "WatchedStates",
    "load",
    "load_settings",
    "load_states",
    "safe_label",
]
