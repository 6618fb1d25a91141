"""Do one step on an invented database, and print what it counted: scale.py FOLDER STEP [NAME=NUMBER…].

The case `scale` starts it once for each step, so that each step has a process and a peak of its own. The state is a
real folder. The objects are a few bytes each, whatever size their chunks are said to have.

`day` is the day of the database, `percent` scales the number of its tables, `grows` is 0 for chunks that do not grow
with the table, as those of release 0.1.0. After `kill` chunks the process ends, as if it was killed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.invented import InventedSource, InventedTables, TinyObjects

import floodmark.backends
import floodmark.pipeline.job
from floodmark.backends import open_ledger
from floodmark.config import DestinationSettings, Settings
from floodmark.config.settings import DeliverySettings, SourceSettings
from floodmark.events import ChunkDone, Event, ignore_event
from floodmark.storage import StorageOptions, open_storage
from floodmark.storage.base import Body, Condition, Storage

Counts = Counter[str]
counted = Counts()
_lock = threading.Lock()


def count(what: str, number: int = 1) -> None:
    with _lock:
        counted[what] += number


class CountedState:
    """A store of state that counts its writes by the first part of their keys."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def put(self, key: str, body: Body, condition: Condition = None) -> str:
        kind = key.partition("/")[0].removesuffix(".json")
        count(f"{kind} writes")
        count(f"{kind} bytes", body.size)
        return self._inner.put(key, body, condition)


class Step(msgspec.Struct, frozen=True):
    """What a step works on."""

    settings: Settings
    kill: int

    @property
    def state(self) -> str:
        return str(self.settings.state_url)

    @property
    def objects(self) -> Storage:
        return floodmark.backends.open_storage(self.settings.destination.url, StorageOptions())


def main(folder: Path, name: str, day: int = 1, percent: int = 100, grows: int = 1, kill: int = 0) -> None:
    """Do a step with an invented database in the place of a real one."""
    objects = TinyObjects(folder / "objects", lambda what, size: count(what))

    def opened(url: str, options: StorageOptions) -> object:
        return objects if url == objects.url else CountedState(open_storage(url, options))

    floodmark.backends.open_storage = opened  # type: ignore[assignment]
    source = InventedSource(InventedTables(percent / 100, day))
    floodmark.pipeline.job.open_source = lambda settings: source  # type: ignore[attr-defined]
    settings = Settings(
        source=SourceSettings(),
        destination=DestinationSettings(url=objects.url),
        state_url=str(folder / "state"),
        deliver=() if grows else (DeliverySettings("s3://elsewhere", compression="none"),),
    )
    STEPS[name](Step(settings, kill))
    tell()


def tell() -> None:
    sys.stdout.write(msgspec.json.encode(dict(counted)).decode())
    sys.stdout.flush()


def run(step: Step) -> None:
    def observe(event: Event) -> None:
        if isinstance(event, ChunkDone):
            count("chunks read")
            if step.kill and counted["chunks read"] >= step.kill:
                tell()
                os._exit(0)

    result = floodmark.pipeline.job.run(step.settings, observe)
    entries = result.manifest.tables
    counted["tables"], counted["chunks"] = len(entries), sum(len(one.objects) for one in entries)
    counted["changed tables"] = sum(one.status == "extracted" for one in entries)


def command(*words: str) -> Callable[[Step], None]:
    """Return a step that runs a command of the command line."""

    def one(step: Step) -> None:
        from floodmark.cli.main import main as floodmark_command  # noqa: PLC0415 - by need: memory is measured

        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            code = floodmark_command([*words, "--state", step.state])
        if code:
            sys.exit(code)

    return one


def read(step: Step) -> None:
    """Walk through the largest table."""
    from floodmark.reader.reader import Reader  # noqa: PLC0415 - by need: memory is measured

    tables = Reader(open_storage(step.state, StorageOptions()), step.objects).latest().tables
    largest = max(tables, key=lambda one: len(one.objects))
    count("rows", sum(1 for _ in largest.lines()))


def changes(step: Step) -> None:
    """Find what changed since the run before."""
    from floodmark.reader.reader import Reader  # noqa: PLC0415 - by need: memory is measured

    newest, before = Reader(open_storage(step.state, StorageOptions()), step.objects).history(2)
    found = newest.changes(before).changed
    counted["changed tables"], counted["new chunks"] = len(found), sum(len(one.new) for one in found)


def exporter(step: Step) -> None:
    """Read the state twice, and answer a scrape."""
    from floodmark.metrics.exporter import Exporter  # noqa: PLC0415 - by need: memory is measured

    ledger = open_ledger(step.settings, ignore_event)
    assert ledger is not None
    made = Exporter([ledger], 60, lambda url, error: None)
    made.refresh()
    made.refresh()
    count("scrape bytes", sum(map(len, made.text())))


def verify(step: Step) -> None:
    """Look at each object."""
    from floodmark.stop import Stop  # noqa: PLC0415 - by need: memory is measured
    from floodmark.verify.job import VerifyRequest  # noqa: PLC0415 - as above
    from floodmark.verify.job import verify as verified  # noqa: PLC0415 - as above

    report = verified(step.settings, VerifyRequest(), ignore_event, Stop())
    assert report is not None
    count("tables", len(report.tables))


def prune(step: Step) -> None:
    """Delete all snapshots but one, as far as the grace time allows."""
    from floodmark.prune.job import KeepLast  # noqa: PLC0415 - by need: memory is measured
    from floodmark.prune.job import prune as pruned  # noqa: PLC0415 - as above

    result = pruned(step.settings, KeepLast(1), ignore_event)
    assert result is not None
    count("deleted objects", len(result.objects))


STEPS: dict[str, Callable[[Step], None]] = {
    "run": run,
    "status": command("status"),
    "history": command("history"),
    "read": read,
    "changes": changes,
    "exporter": exporter,
    "verify": verify,
    "prune": prune,
}


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        **{name: int(value) for name, _, value in (o.partition("=") for o in sys.argv[3:])},
    )
