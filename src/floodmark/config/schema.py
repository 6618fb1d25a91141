"""The content that floodmark.yaml can have: a struct per section, every field None if the file does not set it.

The structs hold shapes and types; `load` knows meanings and contradictions. Each field carries the description and the
default that `config.json_schema` prints. docs/configuration.md describes each key, and tests compare the three.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from floodmark.config.contract import CONTRACT_FILE, ContractChoice, TypeChoice
from floodmark.config.key_types import (
    Acl,
    Amount,
    Encryption,
    Grace,
    Natural,
    Percentage,
    Positive,
    Share,
    Size,
    SnapshotAge,
    TimeLimit,
    Wait,
    documented_key,
)
from floodmark.config.notify_schema import CompletionSection, NotifySection, OpenLineageSection
from floodmark.config.settings import DetectMode, Mask
from floodmark.layout import LayoutName
from floodmark.model import Compression, Format, Numbers

_PLACE = "s3://bucket/prefix, or a folder: a path that begins with / or ./, or one that exists."
_PATTERN = "Patterns are schema.table, with * for any letters and ? for one."
_LAYOUT = "plain: objects stay where they are put. moj-landing: a receiver moves each object away as it arrives."
_NUMBERS = "quote-large: a number with an integer part of more than 64 bits becomes a string of the same digits."
_DATABASE_NAME = "The name of the database in keys."
_ACL = "The ACL that is sent with each put."
_SSE = "The encryption that each put asks for. By default the bucket decides."
_KMS_KEY = "The key for sse: aws:kms."
_RESEND = "The days after which an unchanged table is sent again, since the receiver might have lost it."


class SourceSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The database to read."""

    url: Annotated[
        str | None,
        documented_key(
            "The database's URL. Keep the password out of it: PGPASSWORD holds it, or MYSQL_PWD for MariaDB and MySQL. "
            "Without a URL, PGHOST, PGDATABASE and PGUSER name a PostgreSQL database.",
            examples=[
                "postgresql://user@host:5432/database",
                "mysql://user@host:3306/database",
                "sqlite:///file.db",
            ],
        ),
    ] = None
    wait_seconds: Annotated[Natural | None, documented_key("Seconds to wait for an unreachable database.", 0)] = None


class DestinationSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The place for the data."""

    url: Annotated[str | None, documented_key(_PLACE, examples=["s3://my-lake/cases"])] = None
    layout: Annotated[
        LayoutName | None, documented_key(f"{_LAYOUT} Buckets named moj-reg-* get moj-landing by default.", "plain")
    ] = None
    format: Annotated[Format | None, documented_key("jsonl: JSON Lines. csv: RFC 4180, with a header.", "jsonl")] = None
    compression: Annotated[
        Compression | None,
        documented_key("zstd needs the extra zstd. A landing zone takes none only, and gets it by default.", "gzip"),
    ] = None
    numbers: Annotated[Numbers | None, documented_key(f"In JSON Lines. {_NUMBERS}", "as-is")] = None
    database_name: Annotated[
        str | None, documented_key(f"{_DATABASE_NAME} In a landing zone it must contain an underscore.")
    ] = None
    acl: Annotated[Acl | None, documented_key(f"{_ACL} Landing zones get bucket-owner-full-control by default.")] = None
    sse: Annotated[Encryption | None, documented_key(f"{_SSE} Landing zones get AES256 by default.")] = None
    kms_key_id: Annotated[str | None, documented_key(_KMS_KEY)] = None
    resend_after_days: Annotated[Positive | None, documented_key(f"In a landing zone with state. {_RESEND}", 7)] = None
    allow_unconditional_writes: Annotated[
        bool | None,
        documented_key("Accept a store without conditional writes. Then two runs at once can lose a commit.", False),
    ] = None


class StateSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The place for the state. A landing zone can't hold it."""

    url: Annotated[
        str | None,
        documented_key(
            f"{_PLACE} By default <destination>/_floodmark/; none for a landing zone.",
            examples=["s3://my-state/cases"],
        ),
    ] = None


class ColumnsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of a table to leave out or to mask. A mask without a value is `null`, as YAML reads the word null."""

    exclude: Annotated[tuple[str, ...] | None, documented_key("Columns to leave out.", [])] = None
    mask: Annotated[
        dict[str, Mask] | None,
        documented_key(
            "A mask by column. null: always null. redact: a fixed text. "
            "hash: a keyed SHA-256, which needs FLOODMARK_MASK_KEY.",
            examples=[{"nino": "hash", "phone": "redact"}],
        ),
    ] = None


class RuleSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of one table."""

    columns: ColumnsSection | None = None
    where: Annotated[
        str | None,
        documented_key(
            "One SQL condition on the table's columns. Other rows are left out.",
            examples=["not test_data"],
        ),
    ] = None
    detect: Annotated[
        DetectMode | None,
        documented_key(
            "The way to find changes. exact: proven. journal: proven, and without a scan if the table's journal is on. "
            "column: by a column that grows with every change, no proof. always: extract everything. "
            "The top-level key is the default."
        ),
    ] = None
    column: Annotated[
        str | None,
        documented_key(
            "The column that grows with every change; detect: column needs a column.", examples=["updated_at"]
        ),
    ] = None


class TablesSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The tables to extract, and how."""

    include: Annotated[tuple[str, ...] | None, documented_key(f"The tables to extract. {_PATTERN}", ["*.*"])] = None
    exclude: Annotated[tuple[str, ...] | None, documented_key(f"The tables to leave out of these. {_PATTERN}", [])] = (
        None
    )
    new: Annotated[
        Literal["include", "fail"] | None,
        documented_key(
            "include: also extract a new table. fail: stop if the last manifest does not know a table.", "include"
        ),
    ] = None
    rules: Annotated[
        dict[str, RuleSection] | None,
        documented_key("Settings by table, written as schema.table, without wildcards."),
    ] = None


class ContractSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The agreed content of a snapshot: a reviewed file, and what a run does if the database differs from it."""

    file: Annotated[
        str | None,
        documented_key(
            "The contract: the approved tables and columns. A relative path begins at the folder of this file.",
            CONTRACT_FILE,
        ),
    ] = None
    tables: Annotated[
        ContractChoice | None,
        documented_key(
            "A table that the contract does not have. exclude: it is left out. fail: it fails, and the others go on. "
            "include: it is extracted.",
            "exclude",
        ),
    ] = None
    columns: Annotated[
        ContractChoice | None,
        documented_key(
            "A column that the contract does not have. exclude: it is left out. fail: its table fails, and keeps its "
            "last snapshot; so does a table without a column of the contract. include: it is extracted.",
            "exclude",
        ),
    ] = None
    types: Annotated[
        TypeChoice | None,
        documented_key(
            "A column whose type is not the contract's. accept: it is extracted. fail: its table fails.", "accept"
        ),
    ] = None


class GuardsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The losses at which a run commits nothing, and ends with exit code 15. A loss must exceed the percentage."""

    tables_gone: Annotated[
        Share | None,
        documented_key("The share of the tables that can be gone from the source: a percentage, or accept.", "50%"),
    ] = None
    rows_removed: Annotated[
        Share | None, documented_key("The share of all rows that can be gone: a percentage, or accept.", "90%")
    ] = None
    first_run_empty: Annotated[
        Literal["fail", "accept"] | None,
        documented_key("A run that finds no table, if its state knows none either.", "fail"),
    ] = None


class LimitsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The load on the source, and how long a run may take. Durations are seconds, or a text such as 90s, 15m or 4h."""

    connections: Annotated[
        Annotated[int, Meta(ge=1, le=128)] | None, documented_key("The most connections to the source at once.", 4)
    ] = None
    max_snapshot_age: Annotated[
        SnapshotAge | None,
        documented_key("The longest time for a run, at most 24h: an old snapshot keeps old row versions.", "4h"),
    ] = None
    statement_timeout: Annotated[TimeLimit | None, documented_key("The longest time for one statement.", "1h")] = None
    lock_timeout: Annotated[TimeLimit | None, documented_key("The longest wait for a lock on a table.", "60s")] = None
    wal_summary_wait: Annotated[
        Wait | None,
        documented_key("The longest wait for PostgreSQL's WAL summaries. 0s: use only what is there.", "30s"),
    ] = None


class AuditSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The check of proofs: chunks that were proven unchanged are read again."""

    share: Annotated[
        Percentage | None,
        documented_key("The share of the proven bytes to read again, on average over the runs. 0% reads none.", "0.5%"),
    ] = None
    chunks_per_run: Annotated[
        Natural | None, documented_key("Replaced by share. Only 0, which reads none, is still accepted.")
    ] = None


class MetricsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The ways by which a run's metrics get out."""

    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None, documented_key("The port to serve metrics on during a run.")
    ] = None
    address: Annotated[
        str | None, documented_key("The address to listen on. By default all addresses.", examples=["127.0.0.1"])
    ] = None
    pushgateway: Annotated[
        str | None, documented_key("The URL of a Pushgateway.", examples=["http://pushgateway.monitoring:9091"])
    ] = None
    textfile: Annotated[
        str | None,
        documented_key("A file to write metrics to, for node_exporter's textfile collector. Use the ending .prom."),
    ] = None


class PruneSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of `floodmark prune`."""

    grace: Annotated[
        Grace | None,
        documented_key("The longest time for a reader or a run: seconds, or a text such as 12h; at most 3650d.", "7d"),
    ] = None


class DeliverSection(Struct, frozen=True, forbid_unknown_fields=True):
    """A place that gets changed tables after each run's commit."""

    name: Annotated[
        str | None,
        documented_key(
            "The delivery's name: letters, digits, - and _. Floodmark records under it what was delivered.",
            examples=["moj"],
        ),
    ] = None
    url: Annotated[str | None, documented_key(_PLACE, examples=["s3://moj-reg-prod/landing/cases"])] = None
    layout: Annotated[LayoutName | None, documented_key(f"{_LAYOUT} The bucket's name decides by default.")] = None
    compression: Annotated[
        Literal["keep", "none"] | None,
        documented_key("keep: the objects as stored. none: uncompressed files, the default of a landing zone.", "keep"),
    ] = None
    numbers: Annotated[Numbers | None, documented_key(_NUMBERS, "as-is")] = None
    database_name: Annotated[str | None, documented_key(_DATABASE_NAME)] = None
    acl: Annotated[Acl | None, documented_key(_ACL)] = None
    sse: Annotated[Encryption | None, documented_key(_SSE)] = None
    kms_key_id: Annotated[str | None, documented_key(_KMS_KEY)] = None
    resend_after_days: Annotated[Positive | None, documented_key(f"{_RESEND} 7 in a landing zone.")] = None


class ConfigFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of a configuration file. A section that is missing is one with nothing set."""

    source: SourceSection = SourceSection()
    destination: DestinationSection = DestinationSection()
    state: StateSection = StateSection()
    states: Annotated[
        tuple[str, ...],
        documented_key(
            "The states that status, report and exporter read at once, instead of state.url. Other commands ignore it.",
            [],
            examples=[["s3://lake/cases/_floodmark", "s3://lake/staff/_floodmark"]],
        ),
    ] = ()
    tables: TablesSection = TablesSection()
    contract: ContractSection | None = None
    chunk_size: Annotated[
        Size | None,
        documented_key(
            "The size of the parts of a table that are proven, extracted and stored as one, from 8KiB to 4GiB: "
            "bytes, or a number with B, KiB, MiB or GiB.",
            "64MiB",
        ),
    ] = None
    detect: Annotated[
        DetectMode | None,
        documented_key(
            "The way to find changes. exact: proven. journal: proven, and without a scan if a table's journal is on. "
            "always: extract everything, write what differs.",
            "exact",
        ),
    ] = None
    engine: Annotated[
        str | None,
        documented_key(
            "The Dask scheduler whose workers do the work of run, load, verify and deliver: dask://host:8786, or "
            "dask+tls://host:8786. By default threads of this process do it.",
            examples=["dask://scheduler:8786"],
        ),
    ] = None
    guards: GuardsSection = GuardsSection()
    limits: LimitsSection = LimitsSection()
    audit: AuditSection = AuditSection()
    metrics: MetricsSection = MetricsSection()
    prune: PruneSection = PruneSection()
    deliver: Annotated[
        tuple[DeliverSection, ...], documented_key("The places that receive changed tables after each commit.", [])
    ] = ()
    notify: Annotated[tuple[NotifySection, ...], documented_key("The channels that are told how runs end.", [])] = ()
    runbook_url: Annotated[
        str | None,
        documented_key(
            "The address of your copy of ops/runbook.md. Notifications link to its entries.",
            examples=["https://runbooks.example.org/floodmark/runbook.md"],
        ),
    ] = None
    completion: CompletionSection = CompletionSection()
    openlineage: OpenLineageSection = OpenLineageSection()


# What a key takes, if its type does not say it.
ACCEPTED = {
    **dict.fromkeys(("tables_gone", "rows_removed"), "a percentage such as 50%, or accept"),
    "share": "a percentage such as 0.5%",
}


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def field_kinds(kind: type[Struct]) -> dict[str, Any]:
    """Return a section's keys and the kind of each, without documentation and None."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: without_none(_without_annotation(hint)) for name, hint in hints.items()}


def _without_annotation(hint: Any) -> Any:
    """Return the kind within a documented one, and any other as it is. Bounds are no documentation."""
    documented = any(getattr(one, "description", None) for one in getattr(hint, "__metadata__", ()))
    return get_args(hint)[0] if documented else hint


def without_none(hint: Any) -> Any:
    """Return `T` for `T | None`, and any other hint as it is."""
    options = [option for option in get_args(hint) if option is not type(None)]
    if type(None) not in get_args(hint) or get_origin(hint) is Literal:
        return hint
    return options[0] if len(options) == 1 else Amount


def documented_keys(kind: type[Struct] = ConfigFile, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key that can be set. `*` is a name that the user chooses, or any item of a list."""
    for name, inner in field_kinds(kind).items():
        path = f"{prefix}{name}"
        if get_origin(inner) is dict:
            path, inner = f"{path}.*", get_args(inner)[1]
        elif get_origin(inner) is tuple and is_struct(get_args(inner)[0]):
            path, inner = f"{path}.*", get_args(inner)[0]
        if is_struct(inner):
            yield from documented_keys(inner, f"{path}.")
        else:
            yield path
