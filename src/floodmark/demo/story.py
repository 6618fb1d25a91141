"""`floodmark demo`: three days of an invented service's database, on a real server, in under a minute.

It starts a private PostgreSQL or MariaDB server, fills it, and runs the nightly job three times: on the first day, on
a day without changes, and on a day with a few changes. The server is removed and the files stay.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Literal, TextIO

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from floodmark.config import DestinationSettings, Secret, Selection, Settings, SourceSettings
from floodmark.demo.base import Service
from floodmark.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from floodmark.model import TableEntry
from floodmark.pipeline.job import run
from floodmark.pipeline.publish import RunResult
from floodmark.wording import plural

Product = Literal["postgresql", "mariadb"]

PEOPLE = 6000  # gives 240,000 rows in the largest table

MARKER = ".floodmark-demo"
_PLAIN_WIDTH = 110  # columns, if no terminal reports its width
_NARROW = 100
_CHUNK_BYTES = 4 * 1024**2  # small, so that a demo's table has several chunks


class Demo(Struct, frozen=True):
    """A demo in progress: the filled server, the settings of every run, and the output stream."""

    service: Service
    settings: Settings
    console: Console


def main(directory: Path, out: TextIO, people: int = PEOPLE, source: Product = "postgresql") -> int:
    """Run the demo and leave its files in `directory`. Returns the exit code.

    Raises ConfigError if the server is not installed, or the directory holds something else.
    """
    _require_own_folder(directory)
    console = Console(file=out, width=None if out.isatty() else _PLAIN_WIDTH, highlight=False, markup=False)
    with _start_service(source) as service:
        landing = _prepare_folder(directory)
        console.print(f"Filling a {service.product} server with an invented case-management service …")
        demo = Demo(service, _demo_settings(service, landing), console)
        service.fill(people)
        results = [_day_one(demo), _day_two(demo), _day_three(demo)]
    console.print(f"The first run wrote {_size_text(results[0].uploaded_bytes)}; this one wrote only what had changed.")
    _print_farewell(console, landing, results[-1])
    return EXIT_PARTIAL if any(result.failed for result in results) else EXIT_OK


def _start_service(source: Product) -> Service:
    if source == "mariadb":
        from floodmark.demo.service_mariadb import MariaDBService  # noqa: PLC0415 - by need, as each server is

        return MariaDBService()
    from floodmark.demo.service import PostgresService  # noqa: PLC0415 - by need, as above

    return PostgresService()


def _require_own_folder(directory: Path) -> None:
    """Raise ConfigError unless the directory is new, empty, or an earlier demo's."""
    marker = directory / MARKER
    if directory.exists() and not marker.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(
            "can't use this directory for the demo",
            on=str(directory),
            why="it contains something other than an earlier demo",
            hint="Name an empty or new directory.",
        )


def _prepare_folder(directory: Path) -> Path:
    """Return the empty folder to land in. Only the files of an earlier demo are ever removed."""
    marker, landing = directory / MARKER, directory / "landing"
    directory.mkdir(parents=True, exist_ok=True)
    marker.write_text("Made by `floodmark demo`, which replaces the folder `landing` next to this file.\n")
    if landing.exists():
        shutil.rmtree(landing)
    landing.mkdir()
    return landing


def _demo_settings(service: Service, landing: Path) -> Settings:
    destination = str(landing.resolve())
    return Settings(
        source=SourceSettings(url=Secret(service.url)),
        destination=DestinationSettings(url=destination),
        state_url=f"{destination}/_floodmark",
        selection=Selection(rules=dict(service.rules), mask_key=Secret("the key of a demo is no secret")),
        chunk_bytes=_CHUNK_BYTES,
    )


def _day_one(demo: Demo) -> RunResult:
    demo.console.print(
        "\nDay 1: the first run. There is nothing to compare with, so every table is extracted, and all show the "
        "same moment. A large table becomes several objects, each with a part of the table. The configuration "
        "leaves out person.home_address and hashes person.national_insurance_number."
    )
    return _run_night(demo)


def _day_two(demo: Demo) -> RunResult:
    demo.console.print(f"\nDay 2: nobody changed anything. {demo.service.quiet_day}")
    return _run_night(demo)


def _day_three(demo: Demo) -> RunResult:
    demo.console.print("\nDay 3: a quiet day.")
    for deed in demo.service.changes:
        demo.console.print(f"  - {deed.words}")
    demo.console.print(
        "Only the changed parts are read and written again. The manifest names them and the stored objects of all "
        "other parts. (Here a part is 4 MiB of a table, so that there are several. The default is 64 MiB.)"
    )
    demo.service.live_a_day()
    return _run_night(demo)


def _run_night(demo: Demo) -> RunResult:
    """Do one run and return its result."""
    result = run(demo.settings)
    demo.console.print(_result_table(result, narrow=demo.console.width < _NARROW))
    entries = result.manifest.tables
    extracted = sum(entry.status == "extracted" for entry in entries)
    unchanged = sum(entry.status == "unchanged" for entry in entries)
    demo.console.print(
        f"{plural(len(entries), 'table')}: {extracted} extracted, {unchanged} unchanged, {result.failed} failed; "
        f"{_size_text(result.uploaded_bytes)} written in {result.duration_seconds:.1f} s"
    )
    return result


def _result_table(result: RunResult, *, narrow: bool) -> Table:
    """Return a table of what the run did. A narrow terminal has no room for the number of objects."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    if not narrow:
        table.add_column("written", justify="right", no_wrap=True)
    table.add_column("why")
    for entry in result.manifest.tables:
        style = {"extracted": "green", "failed": "red"}.get(entry.status, "dim")
        rows = "" if entry.rows is None else f"{entry.rows:,}"
        written = () if narrow else (_written_text(entry),)
        table.add_row(entry.table.label, rows, entry.status, *written, _reason_text(entry), style=style)
    return table


def _reason_text(entry: TableEntry) -> str:
    code, detail = entry.reason.code, entry.reason.detail
    return detail if code == entry.status else f"{code}: {detail}"


def _written_text(entry: TableEntry) -> str:
    """Return the number of the table's new objects, in words."""
    new = [item for item in entry.objects if item.origin == "extracted"] if entry.status == "extracted" else []
    return f"{len(new)} of {plural(len(entry.objects), 'object')}" if new else ""


def _print_farewell(console: Console, landing: Path, last: RunResult) -> None:
    files = [path for path in landing.rglob("*") if path.is_file() and not path.name.startswith(".")]
    person = next(item.key for entry in last.manifest.tables if entry.name == "person" for item in entry.objects)
    state = _quoted_path(landing / "_floodmark")
    console.print(f"\nThe server has stopped. {plural(len(files), 'file')} are in {_short_path(landing)}. Have a look:")
    for command, what in (
        (f"gunzip -c {_quoted_path(landing / person)} | head -1", "a person as stored: a hash, and no address"),
        (f"{_program_command()} status --verbose --state {state}", "every table and its age"),
        (f"{_program_command()} history --state {state}", "the three runs"),
    ):
        console.print(f"  {command}   # {what}", soft_wrap=True)
    console.print("The last run's manifest names every object of a whole, consistent snapshot:")
    console.print(f"  {_short_path(landing / '_floodmark' / (last.manifest_key or ''))}", soft_wrap=True)


def _program_command() -> str:
    """Return the command that calls floodmark from here."""
    script = Path(sys.executable).with_name("floodmark")
    found = shutil.which("floodmark")
    away = script.exists() and (found is None or Path(found) != script)
    return _quoted_path(script) if away else "floodmark"


def _quoted_path(path: Path) -> str:
    return shlex.quote(_short_path(path))


def _short_path(path: Path) -> str:
    """Return the path as one would type it from here."""
    relative = os.path.relpath(path.absolute())
    return str(path.absolute()) if relative.startswith("..") else relative


def _size_text(count: int) -> str:
    """Format a size as the other commands do: units of a thousand."""
    if count == 0:
        return "nothing"
    return f"{count / 1000**2:.1f} MB" if count >= 1000**2 else f"{count / 1000:.1f} kB"
