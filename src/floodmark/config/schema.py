"""What floodmark.yaml may hold: a struct per section, every field None where the file says nothing.

Only shape and type are told here; meaning and contradictions are `load`'s. docs/configuration.md describes
each key, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from floodmark.config.settings import DetectMode, Mask
from floodmark.layout import LayoutName
from floodmark.model import Compression, Format, Numbers

Natural = Annotated[int, Meta(ge=0, le=2_147_483)]
Positive = Annotated[int, Meta(ge=1, le=2_147_483)]
Amount = int | str
Acl = Literal["private", "bucket-owner-read", "bucket-owner-full-control"]
Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]


class SourceSection(Struct, frozen=True):
    url: str | None = None
    wait_seconds: Natural | None = None


class DestinationSection(Struct, frozen=True):
    url: str | None = None
    layout: LayoutName | None = None
    format: Format | None = None
    compression: Compression | None = None
    numbers: Numbers | None = None
    database_name: str | None = None
    acl: Acl | None = None
    sse: Encryption | None = None
    kms_key_id: str | None = None
    resend_after_days: Positive | None = None
    allow_unconditional_writes: bool | None = None


class StateSection(Struct, frozen=True):
    url: str | None = None


class ColumnsSection(Struct, frozen=True):
    """A mask without a value is `null`, which is how YAML reads the word null."""

    exclude: tuple[str, ...] | None = None
    mask: dict[str, Mask] | None = None


class RuleSection(Struct, frozen=True):
    columns: ColumnsSection | None = None
    where: str | None = None
    detect: DetectMode | None = None
    column: str | None = None


class TablesSection(Struct, frozen=True):
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    new: Literal["include", "fail"] | None = None
    rules: dict[str, RuleSection] | None = None


class LimitsSection(Struct, frozen=True):
    connections: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_snapshot_age: Amount | None = None
    statement_timeout: Amount | None = None
    lock_timeout: Amount | None = None


class AuditSection(Struct, frozen=True):
    chunks_per_run: Natural | None = None


class MetricsSection(Struct, frozen=True):
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    address: str | None = None
    pushgateway: str | None = None
    textfile: str | None = None


class PruneSection(Struct, frozen=True):
    grace: Amount | None = None


class DeliverSection(Struct, frozen=True):
    name: str | None = None
    url: str | None = None
    layout: LayoutName | None = None
    compression: Literal["keep", "none"] | None = None
    numbers: Numbers | None = None
    database_name: str | None = None
    acl: Acl | None = None
    sse: Encryption | None = None
    kms_key_id: str | None = None
    resend_after_days: Positive | None = None


class File(Struct, frozen=True):
    """The whole of a configuration file. A section that is missing is one with nothing set."""

    source: SourceSection = SourceSection()
    destination: DestinationSection = DestinationSection()
    state: StateSection = StateSection()
    tables: TablesSection = TablesSection()
    chunk_size: Amount | None = None
    detect: DetectMode | None = None
    limits: LimitsSection = LimitsSection()
    audit: AuditSection = AuditSection()
    metrics: MetricsSection = MetricsSection()
    prune: PruneSection = PruneSection()
    deliver: tuple[DeliverSection, ...] = ()


# Values that are planned, and that this version does not take yet.
LATER_VALUES = frozenset({("detect", "journal")})


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def field_kinds(kind: type[Struct]) -> dict[str, Any]:
    """A section's keys and what each takes, None left out."""
    return {name: without_none(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}


def without_none(hint: Any) -> Any:
    """`T` for `T | None`; anything else as it is."""
    options = [option for option in get_args(hint) if option is not type(None)]
    if type(None) not in get_args(hint) or get_origin(hint) is Literal:
        return hint
    return options[0] if len(options) == 1 else Amount


def keys(kind: type[Struct] = File, prefix: str = "") -> Iterator[str]:
    """Every dotted key that can be set, `*` standing for a name the user chooses, or for each item of a list."""
    for name, inner in field_kinds(kind).items():
        path = f"{prefix}{name}"
        if get_origin(inner) is dict:
            path, inner = f"{path}.*", get_args(inner)[1]
        elif get_origin(inner) is tuple and is_struct(get_args(inner)[0]):
            path, inner = f"{path}.*", get_args(inner)[0]
        if is_struct(inner):
            yield from keys(inner, f"{path}.")
        else:
            yield path
