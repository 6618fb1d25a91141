"""Many states at once, as runs of many databases leave them, and exporters of them as real processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

from msgspec import Struct
from msgspec.structs import replace

from fix_command import Floodmark
from fix_ports import HOST, own_port
from fix_prometheus import eventually, get
from fix_state import entry, failed_over, manifest, point, stored
from floodmark.events import ignore_event
from floodmark.model import Column, Ended, TableEntry
from floodmark.state.ledger import Ledger
from floodmark.state.manifest import Manifest
from floodmark.storage import StorageOptions, open_storages
from floodmark.storage.retry import RetryingStorage
from floodmark.wording import iso_time

_COLUMNS = tuple(Column(f"column_{number}", "character varying(100)", True) for number in range(15))


class Database(Struct, frozen=True, kw_only=True):
    """A database with a state: the tables of its last run, and how many of them failed in it."""

    name: str
    tables: int = 2
    failed: int = 0
    chunks: int = 1
    nights: int = 1
    hours_ago: float = 1.0


def ledgers(urls: Sequence[str]) -> list[Ledger]:
    """The ledger at each place, which lets a run of long ago commit."""
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    stores = open_storages(urls, StorageOptions())
    return [Ledger(RetryingStorage(store, ignore_event), now=lambda: long_ago) for store in stores]


def make_states(places: dict[str, Database]) -> None:
    """Let runs of each database commit at its place, and record their ends."""
    for ledger, database in zip(ledgers(list(places)), places.values(), strict=True):
        for night in reversed(range(database.nights)):
            _commit(ledger, database, night)


def _commit(ledger: Ledger, database: Database, night: int) -> None:
    ended = datetime.now(UTC) - timedelta(hours=database.hours_ago, days=night)
    run_id = f"{ended:%Y%m%dT%H%M%SZ}-{night:06x}"
    base = ledger.current()
    one = night_of(database, run_id, ended)
    ledger.claim(run_id, ended - timedelta(minutes=5))
    ledger.commit(replace(one, parent=None if base is None else base.head.manifest), base)
    ledger.release(run_id, _end(one, database))


def night_of(database: Database, run_id: str, ended: datetime) -> Manifest:
    """The manifest of a run that ended at this time."""
    at = replace(point(1), taken_at=iso_time(ended - timedelta(minutes=4)))
    tables = tuple(_table(database, number, at.taken_at, run_id) for number in range(database.tables))
    whole = manifest(run_id, at, *tables)
    return replace(
        whole,
        started_at=iso_time(ended - timedelta(minutes=5)),
        finished_at=iso_time(ended),
        timestamp=f"{ended:%Y%m%d%H%M%SZ}",
        source=replace(whole.source, database=database.name),
    )


def _table(database: Database, number: int, taken_at: str, run_id: str) -> TableEntry:
    name = f"a_table_of_the_service_{number:04d}"
    objects = (stored(f"public/{name}/{run_id}/{chunk}.jsonl.gz") for chunk in range(database.chunks))
    good = replace(entry(name, replace(point(1), taken_at=taken_at), *objects), columns=_COLUMNS)
    return failed_over(good) if number < database.failed else good


def _end(one: Manifest, database: Database) -> Ended:
    return Ended(
        run_id=one.run_id,
        database=database.name,
        started_at=one.started_at,
        ended_at=one.finished_at,
        outcome="partial" if database.failed else "success",
        exit_code=3 if database.failed else 0,
        retries=0,
        audited_chunks=0,
        audit_mismatches=0,
        uploaded_bytes=0,
    )


class Serving:
    """An exporter at work: its address, its process, and, after its end, its log."""

    def __init__(self, process: Popen[bytes], port: int) -> None:
        self.process, self.url, self.log = process, f"http://{HOST}:{port}", ""

    def metrics(self) -> str:
        return get(f"{self.url}/metrics").decode()

    def peak_mib(self) -> float:
        """The most memory that the process had so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextmanager
def serving(job: Floodmark, *arguments: str) -> Iterator[Serving]:
    """An exporter process, which must end cleanly and soon when it is told to."""
    port = own_port()
    process = job.start("exporter", "--address", HOST, "--port", str(port), *arguments)
    made = Serving(process, port)
    try:
        eventually(lambda: get(f"{made.url}/health"), "the exporter")
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        done = job.end(process)
        made.log = done.err
        assert done.code == 0 and time.monotonic() - begun < 5, done.said
