"""The durable documents: manifest, head, the runs in flight and the progress of each. Encode, decode, versions.

A reader ignores fields that it does not know and refuses a version that it does not know. It reads an older version by
stepwise upgrades (`_UPGRADES`), and nothing is upgraded silently on write. Spec: docs/format.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import fields

from floodmark.errors import StateUnreadable
from floodmark.layout import default_schema
from floodmark.model import (
    ContractFacts,
    Encoding,
    Ended,
    Fingerprint,
    Moment,
    ObjectEntry,
    Point,
    SourceIdentity,
    TableEntry,
    TableName,
    Watermark,
)
from floodmark.state.announced import Completion, Notified
from floodmark.state.consumers import Cursor, ParquetIndex
from floodmark.wording import indented_json

VERSION: Final = 1

# Relative to the state location; see `layout.manifest_key`. Any other text would be looked up as a run_id.
ManifestKey = Annotated[str, Meta(pattern=r"^manifests/[^/]+\.json$")]
# The keys that the list of runs in flight names: always those of a progress.
ProgressKey = Annotated[str, Meta(pattern=r"^progress/[^/]+\.json$")]


class ManifestSource(Struct, frozen=True, kw_only=True):
    """The database that a run read, and the moment of the read.

    `schema` is the one that a pattern without a schema refers to. It is missing if it is the dialect's usual one.
    """

    dialect: str
    database: str
    system_identifier: str
    server_version: str
    snapshot: Point
    schema: str | UnsetType = UNSET

    @property
    def identity(self) -> SourceIdentity:
        return SourceIdentity(self.dialect, self.system_identifier, self.database, self.server_version)

    @property
    def default_schema(self) -> str:
        """Return the schema that a pattern without a schema refers to."""
        return default_schema(self.dialect, self.database) if self.schema is UNSET else self.schema


class Manifest(Struct, frozen=True, kw_only=True):
    """The immutable document of a run: a complete, verifiable snapshot of every table.

    `uploaded_bytes` is what the run itself put. Its new objects can also come from a run that it continued. `announces`
    is True if the configuration asked the run to announce its commit to schedulers. `audit_carried` are the bytes that
    the audit may read in the next run on top of that run's own share. `contract` is set if a contract was in force.
    """

    format: Literal["floodmark.manifest"] = "floodmark.manifest"
    version: Literal[1] = VERSION
    run_id: str
    parent: ManifestKey | None
    tool_version: str
    started_at: Moment
    finished_at: Moment
    timestamp: str
    destination: str
    layout: str
    consistent: bool
    source: ManifestSource
    tables: tuple[TableEntry, ...]
    uploaded_bytes: int | UnsetType = UNSET
    announces: bool | UnsetType = UNSET
    audit_carried: int | UnsetType = UNSET
    contract: ContractFacts | UnsetType = UNSET

    @property
    def attempted(self) -> tuple[TableEntry, ...]:
        """Return the entries of the tables that this run worked on. The others are as another run left them."""
        return tuple(entry for entry in self.tables if entry.carried_over is not True)


class Head(Struct, frozen=True, kw_only=True):
    """The one small object that names the current manifest. `manifest` is relative to the state location.

    Two fields record what prune put out of reach. `oldest` is the manifest with which history ends: its parent is
    deleted, or about to be. `floor` is an extraction_timestamp that only rises. An object with this timestamp or an
    earlier one might have been deleted if no manifest in reach names it, so nothing may name it again.
    """

    format: Literal["floodmark.head"] = "floodmark.head"
    version: Literal[1] = VERSION
    run_id: str
    manifest: ManifestKey
    manifest_sha256: str
    timestamp: str
    committed_at: str
    dialect: str
    system_identifier: str
    database: str
    oldest: ManifestKey | None = None
    floor: str | None = None


class Working(Struct, frozen=True, kw_only=True):
    """A run at work: its claimed timestamp, and the key of its progress."""

    run_id: str
    timestamp: str
    progress: ProgressKey
    started_at: Moment


class Record(Struct, frozen=True, kw_only=True):
    """The record that ended runs leave for monitoring, even if they committed nothing.

    `succeeded_at` is the end of the last run that left no table out. The numbers are sums over all runs since the state
    began; the first four count the runs by outcome. `uncommitted` are the last runs that committed nothing, oldest
    first. A run that committed has a manifest instead.
    """

    last: Ended
    succeeded_at: str | None = None
    success: int = 0
    partial: int = 0
    failed: int = 0
    stopped: int = 0
    retries: int = 0
    audited_chunks: int = 0
    audit_mismatches: int = 0
    uploaded_bytes: int = 0
    uncommitted: tuple[Ended, ...] | UnsetType = UNSET

    @property
    def known_ends(self) -> dict[str, Ended]:
        """Return the recorded ends by run id: those of the last run, and of runs that committed nothing."""
        ended = (*(() if self.uncommitted is UNSET else self.uncommitted), self.last)
        return {one.run_id: one for one in ended}


class Begun(Struct, frozen=True, kw_only=True):
    """A table that a run began to send to a landing zone under this timestamp, and that no manifest describes yet."""

    schema: str
    name: str
    timestamp: str

    @property
    def table(self) -> TableName:
        return TableName(self.schema, self.name)


class Inflight(Struct, frozen=True, kw_only=True):
    """The runs in progress; moved by compare-and-swap. `latest` is the last timestamp that was given away.

    `ended` is the record of ended runs, once there is one. `begun` lists the tables that a landing zone's receiver
    might hold only in part. A table stays there until a run has committed it.
    """

    format: Literal["floodmark.inflight"] = "floodmark.inflight"
    version: Literal[1] = VERSION
    latest: str | None = None
    runs: tuple[Working, ...] = ()
    ended: Record | UnsetType = UNSET
    begun: tuple[Begun, ...] | UnsetType = UNSET

    @property
    def known_ends(self) -> dict[str, Ended]:
        """Return the recorded ends of runs by run id."""
        return {} if self.ended is UNSET else self.ended.known_ends


class FinishedChunks(Struct, frozen=True, kw_only=True):
    """Chunks of one table that one snapshot showed, with their objects, in the form of a manifest's entry.

    `stamp` is that of their part (`observed.Part`). Release 0.1.0 wrote none; its chunks are not used. `reason` is the
    code of the reason why they were read. It is missing in documents of release 0.1.0.
    """

    schema: str
    name: str
    fingerprint: Fingerprint
    watermark: Watermark
    objects: tuple[ObjectEntry, ...]
    stamp: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        known = range(len(self.objects))
        if any(mark.object is not None and mark.object not in known for mark in self.watermark.chunks):
            raise ValueError("a chunk's object is not among its objects")


class Progress(Struct, frozen=True, kw_only=True):
    """The chunks that a run has finished so far, for the next run if this one dies.

    `timestamps` are all that it claimed. Prune finds objects that the run put under them and that no manifest names. A
    table can appear in `chunks` more than once, once for each snapshot that the run took. `parts` are the keys of
    documents of the same form, which hold the chunks that a long run finished earlier.
    """

    format: Literal["floodmark.progress"] = "floodmark.progress"
    version: Literal[1] = VERSION
    run_id: str
    written_at: str
    destination: str
    encoding: Encoding
    dialect: str
    system_identifier: str
    database: str
    timestamps: tuple[str, ...]
    chunks: tuple[FinishedChunks, ...]
    parts: tuple[ProgressKey, ...] | UnsetType = UNSET


Document = TypeVar("Document", Manifest, Head, Inflight, Progress, Cursor, ParquetIndex, Completion, Notified)

_FORMATS: dict[type[Any], str] = {
    Manifest: "floodmark.manifest",
    Head: "floodmark.head",
    Inflight: "floodmark.inflight",
    Progress: "floodmark.progress",
    Cursor: "floodmark.cursor",
    ParquetIndex: "floodmark.parquet",
    Completion: "floodmark.completion",
    Notified: "floodmark.notified",
}
# A larger document is for machines: its line breaks and blanks would add a third to it.
MOST_INDENTED = 1024**2
# From version n to n + 1: _UPGRADES[(format, n)]. Each format counts its own versions, and 1 is the first.
_UPGRADES: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}


def encode(
    document: Manifest | Head | Inflight | Progress | Cursor | ParquetIndex | Completion | Notified,
) -> bytes:
    """Return the document as UTF-8 JSON, indented for a person who reads it at 3 a.m., unless it is large."""
    data = msgspec.json.encode(document)
    return data if len(data) > MOST_INDENTED else indented_json(data)


# A reader of the error needs the place in the document, and no pattern.
_PATTERN = re.compile(r"Expected `str` matching regex '.*'")


def decode(kind: type[Document], data: bytes, where: str) -> Document:
    """Read a document, and upgrade an older version in memory. Raises StateUnreadable, which names `where`.

    A document of the newest version goes straight into its structs: as dicts, a manifest takes three times the memory.
    """
    version = _known_version(kind, data, where)
    try:
        if version == _newest(kind):
            return msgspec.json.decode(data, type=kind)
        return msgspec.convert(
            _upgraded(msgspec.json.decode(data), _FORMATS[kind], version, _newest(kind), where), kind
        )
    except msgspec.ValidationError as error:
        raise unreadable(where, _PATTERN.sub("unexpected text", str(error))) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _not_json(where, error) from None


def checksum(objects: Iterable[ObjectEntry]) -> str:
    """Return a table's checksum: SHA-256 over its chunks' content digests (hex, ASCII), in order."""
    digest = hashlib.sha256()
    for entry in objects:
        digest.update(entry.content_sha256.encode("ascii"))
    return f"sha256:{digest.hexdigest()}"


_DAMAGED = (
    "Nothing was written over it. Restore it from the bucket's versions; to start again, use another place "
    "(--state, or another target). A cursor may be deleted: then its consumer takes everything once more."
)
_NEWER = "A newer Floodmark wrote it: use that one here, too. Nothing was written over it."


def unreadable(where: str, why: str, hint: str = _DAMAGED) -> StateUnreadable:
    """Return the error for data at `where` that Floodmark did not write in this form."""
    return StateUnreadable("state can't be read", on=where, why=why, hint=hint)


class _Envelope(Struct):
    """The two fields of every document that say if the others can be read."""

    format: Any = None
    version: Any = None


def _known_version(kind: type[Document], data: bytes, where: str) -> int:
    """Return a document's version, after the checks that it is of this kind and that its version can be read."""
    expected: str = _FORMATS[kind]
    envelope = _Envelope()
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look into the names of fields that it does not know
        with suppress(msgspec.ValidationError):  # JSON, but no object
            envelope = msgspec.json.decode(data, type=_Envelope)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _not_json(where, error) from None
    if envelope.format != expected:
        raise unreadable(where, f"not a {expected} document")
    version, newest = envelope.version, _newest(kind)
    oldest = min([newest, *(step for name, step in _UPGRADES if name == expected)])
    if type(version) is not int or not oldest <= version <= newest:
        known = f"{newest}" if oldest == newest else f"{oldest} to {newest}"
        hint = _NEWER if type(version) is int and version > newest else _DAMAGED
        raise unreadable(where, f"version {version!r} is not known to this Floodmark (it reads {known})", hint)
    return version


def _not_json(where: str, error: Exception) -> StateUnreadable:
    told = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
    return unreadable(where, f"not JSON ({told})")


def _upgraded(raw: dict[str, Any], format: str, version: int, newest: int, where: str) -> dict[str, Any]:
    """Return the document in this version's form, upgraded step by step from its own version."""
    for step in range(version, newest):
        try:
            raw = _UPGRADES[(format, step)](raw)
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(where, f"damaged: it can't be read as version {step} ({type(error).__name__})") from None
    return raw


@cache
def _newest(kind: type[Document]) -> int:
    """Return the version that this Floodmark writes."""
    (version,) = [field.default for field in fields(kind) if field.name == "version"]
    return int(version)
