"""The frozen structs of a manifest. They do no I/O and have no behaviour beyond small derivations.

Their field names are the format's (docs/format.md). Sizes are bytes, times are ISO 8601 in UTC, durations are seconds.
"""

from __future__ import annotations

from sys import intern
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import force_setattr, replace

from floodmark.lineage import Lineage

Status = Literal["extracted", "unchanged", "failed", "dropped"]
Origin = Literal["extracted", "reused"]
Format = Literal["jsonl", "csv"]
Compression = Literal["gzip", "zstd", "none"]
Numbers = Literal["as-is", "quote-large"]
Outcome = Literal["success", "partial", "failed", "stopped"]
# The start or the end of a run. A document with any other text there is damaged, so no reader meets one.
_DATE = r"[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
Moment = Annotated[str, Meta(pattern=f"^{_DATE}T{_TIME}$")]
ReasonCode = Literal[
    "first_run",
    "forced",
    "schema_changed",
    "config_changed",
    "lineage_changed",
    "rewritten",
    "rows_changed",
    "rows_removed",
    "objects_missing",
    "no_proof",
    "resend",
    "unchanged",
    "journal",
    "identical",
    "dropped",
    "attached",
    "denied",
    "contract",
    "deadline",
    "failed",
]

DriftKind = Literal["new_table", "new_column", "unmasked", "other_type", "other_key", "gone_column", "gone_table"]


def _shared(text: str) -> str:
    """Return the one copy of a text in memory. A driver's own kind of text stays as it is."""
    return intern(text) if type(text) is str else text


class TableName(Struct, frozen=True, order=True, gc=False):
    """A relation's schema and name, exactly as the source spells them."""

    schema: str
    name: str

    @property
    def label(self) -> str:
        """Return `schema.name`, for people and patterns. It is not unique if names hold dots."""
        return f"{self.schema}.{self.name}"


class Reason(Struct, frozen=True, gc=False):
    """The reason for a decision: a code for machines and a sentence for people.

    `code` is a ReasonCode, or a code of a newer Floodmark. An unknown code is no reason to refuse the document.
    """

    code: str
    detail: str


class Column(Struct, frozen=True, gc=False):
    """A column as it is extracted, in order. `type` is the source's own name for its type.

    `base` is set only if that type is a domain. It is the type below the domain, through any domains in between.
    `comment` is the source's own comment on the column, if it has one. It describes no data.
    """

    name: str
    type: str
    nullable: bool
    base: str | UnsetType = UNSET
    comment: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Share the texts with the columns of other tables. A manifest can hold many thousands of them."""
        force_setattr(self, "name", _shared(self.name))
        force_setattr(self, "type", _shared(self.type))

    @property
    def plain_type(self) -> str:
        """Return the type of the column's values: the base if `type` is a domain with a recorded base."""
        return self.type if self.base is UNSET else self.base


def commented(column: Column, comment: str | None) -> Column:
    """Return the column with the source's comment on it, if there is one."""
    return replace(column, comment=comment) if comment else column


class Fingerprint(Struct, frozen=True, gc=False):
    """Digests (hex) of everything that shapes a table's lines, apart from its rows.

    `schema` covers the source's definitions, `config` the user's choices (columns, masks, filter, format). `guards` is
    the version of the checks that the lines were read under. Release 0.1.0 wrote none: that counts as 1.
    """

    schema: str
    config: str
    guards: int | UnsetType = UNSET

    @property
    def guards_version(self) -> int:
        return 1 if self.guards is UNSET else self.guards


class WalBase(Struct, frozen=True):
    """A checkpoint of the source: while its WAL was before `lsn`, no transaction from `next_xid` on had an id.

    `lsn` is a position on `timeline`, as PostgreSQL writes it. `next_xid` has 64 bits.
    """

    timeline: int
    lsn: str
    next_xid: int


class Point(Struct, frozen=True):
    """The moment that a snapshot of the source shows. xmin and xmax are 64-bit transaction ids, if it has any.

    `taken_at` is the source's clock just before the snapshot: it contains everything that was committed by then.
    `consistency` says in words how consistent the snapshot is. PostgreSQL's is always one snapshot, so it has none.
    `mixed` is set if the database offers no common moment: its tables can then show different moments.
    `wal` is a checkpoint whose `next_xid` is at most xmin, if the source keeps WAL summaries.
    """

    taken_at: str
    xmin: int | None = None
    xmax: int | None = None
    lineage: Lineage | None = None
    consistency: str | UnsetType = UNSET
    mixed: bool | UnsetType = UNSET
    wal: WalBase | UnsetType = UNSET


class Chunk(Struct, frozen=True, order=True, gc=False):
    """A division of a table. `part` is the leaf (its oid, as text); [start, stop) are its heap blocks.

    A part that is read whole has start 0 and stop None. If a part is read by ranges of a key, start is the number of
    the range, from 0, and stop is the next one. It never holds a key.
    """

    part: str
    start: int = field(name="from", default=0)
    stop: int | None = field(name="to", default=None)

    def __post_init__(self) -> None:
        """Share the text with the other chunks of the part: a manifest can hold many thousands of them."""
        force_setattr(self, "part", _shared(self.part))


class ChunkMark(Struct, frozen=True, gc=False):
    """The remembered facts about a chunk of heap blocks: its row count and its file.

    `rows` is the source's count(*) before any row filter. `frozen` is the number of those rows with xmin 2. `object` is
    the index of its object in the entry's `objects`, None if the chunk gave no lines. `newest` serves `detect: column`:
    the SHA-256 of the column's greatest value, None in other modes. If `provable` is False, the mark only keeps the
    chunk's place and never proves anything. `digest` (hex, 256 bits) is set if the source proves by digest. `audited`
    is a timestamp as in keys: the last reading that gave the lines of an object that was there before, or no line.
    """

    chunk: Chunk
    relfilenode: int
    rows: int
    frozen: int
    object: int | None
    provable: bool = True
    newest: str | None = None
    digest: str | UnsetType = UNSET
    audited: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Share the time with the other chunks that the same run read."""
        if self.audited is not UNSET:
            force_setattr(self, "audited", _shared(self.audited))


class PartDefinition(Struct, frozen=True):
    """A digest (hex) of the definition of a table's part: `part` as in Chunk, `schema` as in Fingerprint."""

    part: str
    schema: str


class PartName(Struct, frozen=True):
    """The name of a table's partition: `part` as in Chunk."""

    part: str
    schema: str
    name: str

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)


class JournalMark(Struct, frozen=True):
    """The journal of a table's part, as the watermark's snapshot showed it: `part` as in Chunk.

    `stamp` is a digest (hex) of the journal's objects and of the transactions that wrote them. `since` is the xmax of
    the first known snapshot with this stamp: whoever has an id from there on ran under these objects.
    """

    part: str
    stamp: str
    since: int


class Watermark(Struct, frozen=True):
    """The base that a later observation is compared with: the point in time, and a mark for each provable chunk.

    `parts` has an entry for each part that is defined by more than the table itself. `names` has one for each
    partition, so that a later run can name a partition that is gone. `journal` has one for each part with a usable
    journal, in the mode `detect: journal`.
    """

    point: Point
    table_oid: int
    chunks: tuple[ChunkMark, ...]
    parts: tuple[PartDefinition, ...] | UnsetType = UNSET
    names: tuple[PartName, ...] | UnsetType = UNSET
    journal: tuple[JournalMark, ...] | UnsetType = UNSET


class ObjectEntry(Struct, frozen=True, gc=False):
    """One object at the destination: the lines of one chunk. `key` is relative to the destination."""

    key: str
    rows: int
    raw_bytes: int
    stored_bytes: int
    sha256: str
    content_sha256: str
    chunk: Chunk
    origin: Origin


class Encoding(Struct, frozen=True):
    """The written form of an object's rows: the rows' `format`, and the `compression` of the whole object.

    `numbers` is set only if lines hold large numbers as strings (`objects.numbers`).
    """

    format: Format = "jsonl"
    compression: Compression = "gzip"
    numbers: Literal["quote-large"] | UnsetType = UNSET

    @property
    def digest(self) -> str:
        """Return the encoding's part of a table's config fingerprint.

        Another encoding makes other lines of the same rows.
        """
        return "/".join(part for part in (self.format, self.compression, self.numbers) if part is not UNSET)


class TableEntry(Struct, frozen=True, kw_only=True):
    """A table's line in a manifest. See docs/format.md.

    `status` and `reason` describe the last attempt at the table. The other fields describe the last good snapshot; they
    are None or empty if there never was one. `carried_over` is set if that attempt was another run's: this run left the
    table out, or another run committed a later snapshot of it meanwhile. `primary_key` and `unique_keys` name columns,
    in the order of the key. They are set only if the landed lines hold the key: each row of a snapshot differs in it.
    """

    schema: str
    name: str
    status: Status
    reason: Reason
    as_of: str | None = None
    changed_at: str | None = None
    changed_by: str | None = None
    columns: tuple[Column, ...] = ()
    encoding: Encoding | None = None
    fingerprint: Fingerprint | None = None
    watermark: Watermark | None = None
    checksum: str | None = None
    rows: int | None = None
    raw_bytes: int | None = None
    stored_bytes: int | None = None
    duration_seconds: float = 0.0
    objects: tuple[ObjectEntry, ...] = ()
    carried_over: bool | UnsetType = UNSET
    primary_key: tuple[str, ...] | UnsetType = UNSET
    unique_keys: tuple[tuple[str, ...], ...] | UnsetType = UNSET
    comment: str | UnsetType = UNSET

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)


class SourceIdentity(Struct, frozen=True):
    """The identity of a database. A state belongs to one identity."""

    dialect: str
    system_identifier: str
    database: str
    server_version: str


class ContractDrift(Struct, frozen=True, kw_only=True):
    """A difference between the contract and the database. `column` is missing if it is about the whole table.

    `kind` is a DriftKind, or one of a newer Floodmark. `action` says what the run did: it left the table or the column
    out (`excluded`), did not read the table (`failed`), or only tells it (`told`). `detail` says the same for people.
    """

    kind: str
    schema: str
    name: str
    column: str | UnsetType = UNSET
    action: str
    detail: str

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)

    @property
    def label(self) -> str:
        """Return the table, or the column with its table, for people."""
        return self.table.label if self.column is UNSET else f"{self.table.label}.{self.column}"


class ContractFacts(Struct, frozen=True):
    """The contract that a run kept to: the SHA-256 (hex) of its file, and all differences from the database."""

    digest: str
    drift: tuple[ContractDrift, ...] = ()


class Ended(Struct, frozen=True, kw_only=True):
    """The end of a run, for its observers. `database` is empty if the run ended before it knew the database.

    `outcome` is an Outcome of this version, or a value of a later version. `partial` is a run that committed although
    some tables failed; `stopped` is a run that a signal ended. Under its last snapshot the run planned to extract
    `chunks` and extracted `chunks_done` of them. `error` says why it failed, without a row's value.
    """

    run_id: str
    database: str
    started_at: Moment
    ended_at: Moment
    outcome: str
    exit_code: int
    retries: int = 0
    audited_chunks: int = 0
    audit_mismatches: int = 0
    uploaded_bytes: int = 0
    chunks: int | UnsetType = UNSET
    chunks_done: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
