"""What the tests of the command line share: manifests to show, and streams that keep what was written."""

from __future__ import annotations

import io
from collections.abc import Mapping

from floodmark.cli.output.streams import CommandStreams, Stream
from floodmark.model import (
    Chunk,
    ChunkMark,
    Column,
    ObjectEntry,
    Origin,
    Point,
    Reason,
    ReasonCode,
    Status,
    TableEntry,
    Watermark,
)
from floodmark.state.manifest import Head, Manifest, ManifestSource

EVIL = "x\x1b[31m\x9b2J\u202e[red]\nend"
EVIL_SHOWN = "x\\x1b[31m\\x9b2J\\u202e[red]\\nend"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Tty(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def command_streams(
    environ: Mapping[str, str] | None = None, *, out: io.StringIO | None = None, err: io.StringIO | None = None
) -> tuple[CommandStreams, io.StringIO, io.StringIO]:
    """A command's streams, and what the two hold."""
    out, err = out or io.StringIO(), err or io.StringIO()
    return CommandStreams(Stream(out), Stream(err), environ or {}), out, err


def part(number: int, origin: Origin = "extracted") -> ObjectEntry:
    return ObjectEntry(f"data/{number}.jsonl.gz", 500, 90_000, 21_000, "a" * 64, "b" * 64, Chunk("1", number), origin)


def entry(
    name: str = "person",
    status: Status = "extracted",
    code: ReasonCode = "rows_changed",
    *,
    objects: tuple[ObjectEntry, ...] = (part(0), part(8, "reused")),
    as_of: str | None = "2026-11-24T01:02:03.000Z",
    detail: str = "1 of 2 chunks hold newer rows",
) -> TableEntry:
    """A table's entry; one that never succeeded has no as_of."""
    good = as_of is not None
    return TableEntry(
        schema="public",
        name=name,
        status=status,
        reason=Reason(code, detail),
        as_of=as_of,
        changed_at="2026-11-23T01:02:03.000Z" if good else None,
        changed_by="20261123T010203Z-aaaaaa" if good else None,
        columns=(Column("id", "integer", False),),
        checksum="sha256:" + "c" * 64 if good else None,
        rows=1000 * len(objects) if good else None,
        raw_bytes=180_000 if good else None,
        stored_bytes=42_000 if good else None,
        duration_seconds=1.25,
        objects=objects if good else (),
        watermark=Watermark(Point("t"), 1, tuple(ChunkMark(Chunk("1", n), 1, 5, 0, None) for n in range(3)))
        if good
        else None,
    )


def manifest(*tables: TableEntry, run_id: str = "20261124T010203Z-7f3a9c") -> Manifest:
    return Manifest(
        run_id=run_id,
        parent=None,
        tool_version="0.1.0",
        started_at="2026-11-24T01:02:03.000Z",
        finished_at="2026-11-24T01:03:03.000Z",
        timestamp="20261124010203Z",
        destination="s3://mine/lake",
        layout="plain",
        consistent=True,
        source=ManifestSource(
            dialect="postgresql",
            database="cases",
            system_identifier="7",
            server_version="18.1",
            snapshot=Point("2026-11-24T01:02:03.000Z", 700, 710),
        ),
        tables=tables,
    )


def head(of: Manifest) -> Head:
    return Head(
        run_id=of.run_id,
        manifest=f"manifests/{of.run_id}.json",
        manifest_sha256="d" * 64,
        timestamp=of.timestamp,
        committed_at=of.finished_at,
        dialect=of.source.dialect,
        system_identifier=of.source.system_identifier,
        database=of.source.database,
    )
