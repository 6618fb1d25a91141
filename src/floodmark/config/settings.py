"""The frozen settings that are passed explicitly to the code that needs them. `config.load` makes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from floodmark.config.contract import CONTRACT_FILE, ContractColumn, ContractTerms
from floodmark.layout import LAYOUTS, LayoutName
from floodmark.model import Compression, Format, Numbers
from floodmark.native import EncoderName, usual_encoder

DetectMode = Literal["exact", "journal", "column", "always"]
Mask = Literal["null", "redact", "hash"]
# What a channel can be told of, gravest first: a message names the gravest one in its title.
NotifyKind = Literal[
    "audit_mismatch", "failed", "stopped", "partial", "tables_gone", "contract", "schema_changed", "succeeded"
]
ChannelKind = Literal["people", "webhook", "topic"]

DEFAULT_CHUNK_BYTES = 64 * 1024**2
DEFAULT_GRACE = 7 * 86400  # seconds
DEFAULT_AUDIT_SHARE = 0.5  # percent


class Secret(Struct, frozen=True):
    """A value that prints as ***. Read it with `reveal`, as late as possible."""

    value: str

    def reveal(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Hide the value from pretty printers, which otherwise show a struct's fields."""
        return [("value", "***")]


class ColumnRule(Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of a table that are left out, and the columns that are masked, each with its mask.

    `approved` are the columns that a contract approves, None without a contract.
    """

    exclude: tuple[str, ...] = ()
    mask: dict[str, Mask] = {}
    approved: Mapping[str, ContractColumn] | None = None

    def approves(self, name: str, attributes: Collection[str] = ()) -> bool:
        """Return True if the contract lets the column leave the database as this rule reads it.

        `attributes` are those of the column's type, if it is composite.
        """
        if self.approved is None:
            return True
        column = self.approved.get(name)
        if column is None or name in self.mask:
            return column is not None
        return not column.masked and set(attributes) <= set(column.attributes)


class TableRule(Struct, frozen=True, forbid_unknown_fields=True):
    """The rule for one table. `where` is an SQL condition on its columns; `column` serves detect: column."""

    columns: ColumnRule = ColumnRule()
    where: str | None = None
    detect: DetectMode | None = None
    column: str | None = None


class Selection(Struct, frozen=True):
    """The choice of tables, and the rules for each.

    Patterns are `schema.table` with `*` and `?`. Without a dot they mean schema public (or SQLite's main). `only` (from
    --table) and `skip` (from --exclude) narrow the choice of include and exclude for this run: the tables that they
    leave out keep their place in the manifest. `rules` are keyed by exact `schema.table`. `new`: "fail" stops the run
    at a table that the last manifest does not know. `contract` narrows the choice of tables and columns once more.
    """

    include: tuple[str, ...] = ("*.*",)
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    new: Literal["include", "fail"] = "include"
    rules: dict[str, TableRule] = {}
    detect: DetectMode = "exact"
    mask_key: Secret | None = None
    contract: ContractTerms | None = None


class SourceSettings(Struct, frozen=True):
    """The settings of the source. `url` is None if libpq's own environment (PG*) names the database.

    `encoder` is the maker of PostgreSQL's lines. Both makers give the same bytes.
    """

    url: Secret | None = None
    wait_seconds: int = 0
    encoder: EncoderName = field(default_factory=usual_encoder)


class DestinationSettings(Struct, frozen=True):
    """The destination of data. `database_name` overrides the database_name= part of keys.

    `acl`, `sse` and `kms_key_id` go with every put as S3 spells them; None sends nothing. `url` is empty only if a
    command reads nothing but the state. `numbers`: see `objects.numbers`.
    """

    url: str
    layout: LayoutName = "plain"
    format: Format = "jsonl"
    compression: Compression = "gzip"
    numbers: Numbers = "as-is"
    database_name: str | None = None
    acl: str | None = None
    sse: str | None = None
    kms_key_id: str | None = None
    resend_after_days: int = 7
    allow_unconditional_writes: bool = False


class DeliverySettings(Struct, frozen=True):
    """A landing zone that receives changed tables. `name` is the cursor's; an empty name is made from the URL.

    `compression`: "none" turns the objects into plain lines, "keep" leaves them as they are stored. `numbers`: "as-is"
    leaves numbers unchanged, "quote-large" makes strings of large ones.
    """

    url: str
    name: str = ""
    layout: LayoutName = "plain"
    compression: Literal["keep", "none"] = "keep"
    numbers: Numbers = "as-is"
    database_name: str | None = None
    acl: str | None = None
    sse: str | None = None
    kms_key_id: str | None = None
    resend_after_days: int | None = None


class Limits(Struct, frozen=True):
    """The number of simultaneous connections to the source, and time limits in seconds."""

    connections: int = 4
    max_snapshot_age: int = 4 * 3600
    statement_timeout: int = 3600
    lock_timeout: int = 60
    wal_summary_wait: int = 30


class Guards(Struct, frozen=True):
    """The losses at which a run commits nothing.

    `tables_gone` and `rows_removed` are percentages that a loss must exceed. None accepts every loss.
    """

    tables_gone: int | None = 50
    rows_removed: int | None = 90
    first_run_empty: Literal["fail", "accept"] = "fail"


class Metrics(Struct, frozen=True):
    """The outputs of a run's metrics. `port` serves them during the run.

    `pushgateway` is a URL, which can hold a user and a password.
    """

    port: int | None = None
    address: str = ""
    pushgateway: Secret | None = None
    textfile: str | None = None

    @property
    def wanted(self) -> bool:
        return self.port is not None or self.pushgateway is not None or self.textfile is not None


class ChannelSettings(Struct, frozen=True, kw_only=True):
    """A channel for notifications, and the kinds of event that it is told of.

    `kind` tells how `to` is reached: people through apprise, a webhook by a POST that is signed with `secret`, a topic
    of SNS by its ARN. `min_interval` is the shortest time between two messages about the same kind, in seconds. `name`
    goes into logs, metrics and the state, so it holds no secret.
    """

    name: str
    kind: ChannelKind
    to: Secret
    on: tuple[NotifyKind, ...]
    min_interval: int = 0
    secret: Secret | None = None


class NotifySettings(Struct, frozen=True):
    """The channels for notifications, and the address of the runbook that their messages link to."""

    channels: tuple[ChannelSettings, ...] = ()
    runbook_url: str | None = None


class CompletionSettings(Struct, frozen=True):
    """The signals that follow a commit, for a scheduler.

    `object`: "state" writes <state>/complete/<run_id>.json, "destination" also <destination>/_SUCCESS. `message` is the
    ARN of an SNS topic or of an EventBridge bus.
    """

    object: Literal["state", "destination"] | None = None
    message: str | None = None

    @property
    def wanted(self) -> bool:
        return self.object is not None or self.message is not None


class OpenLineageSettings(Struct, frozen=True, kw_only=True):
    """The receiver of OpenLineage events. `transport` is None if nobody wants them.

    `url` holds no secret, and ends with a slash. `job` is None for the database's name.
    """

    transport: Literal["http", "file"] | None = None
    url: str = ""
    endpoint: str = "api/v1/lineage"
    path: str = ""
    namespace: str = "floodmark"
    job: str | None = None
    api_key: Secret | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of one command. `state_url` is None for a stateless run; `prune_grace` is seconds.

    `audit_share` is the percentage of the proven bytes that the audit may read again. If `audit` is False, this run
    leaves its share to the next one. `contract_file` is the place of the contract. It is in force only
    if `selection` holds it. `engine` is the address of a Dask scheduler, None for threads of this process.
    """

    source: SourceSettings
    destination: DestinationSettings
    state_url: str | None
    selection: Selection = Selection()
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    guards: Guards = Guards()
    limits: Limits = Limits()
    audit_share: float = DEFAULT_AUDIT_SHARE
    audit: bool = True
    metrics: Metrics = Metrics()
    deliver: tuple[DeliverySettings, ...] = ()
    notify: NotifySettings = NotifySettings()
    completion: CompletionSettings = CompletionSettings()
    contract_file: Path = Path(CONTRACT_FILE)
    openlineage: OpenLineageSettings = OpenLineageSettings()
    full: bool = False
    adopt_source: bool = False
    prune_grace: int = DEFAULT_GRACE
    engine: str | None = None

    @property
    def chunks_grow(self) -> bool:
        """Return True if large tables get larger chunks.

        Lines that are not compressed need much disk while they wait, and could exceed a receiver's limit.
        """
        compressions = [self.destination.compression, *(one.compression for one in self.deliver)]
        return LAYOUTS[self.destination.layout].objects_stay and "none" not in compressions


class Flags(Struct, frozen=True, kw_only=True):
    """The values given on the command line. None, False and () mean: not given.

    `source` is a Secret: only `load` finds out that it holds no password. `states` are those of a command that reads
    several, and only `load_states` reads them.
    """

    config: Path | None = None
    source: Secret | None = None
    destination: str | None = None
    state: str | None = None
    states: tuple[str, ...] = ()
    layout: LayoutName | None = None
    format: Format | None = None
    numbers: Numbers | None = None
    tables: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    connections: int | None = None
    full: bool = False
    adopt_source: bool = False
    accept_loss: bool = False
    no_audit: bool = False
    allow_unconditional_writes: bool = False
    metrics_port: int | None = None
    push_gateway: Secret | None = None
    metrics_textfile: str | None = None
    grace: str | None = None
    engine: str | None = None
