"""The peers that come from a package registry: one venv for each, in .venv-bench, from bench/peers-<name>.txt."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from bench import data, outputs
from bench.contest import Bench, Contestant
from bench.measure import Failed, Sample
from floodmark.demo.server import SUPERUSER

HERE = Path(__file__).parent
VENVS = HERE.parent / ".venv-bench"
PROGRAMS = HERE / "programs"
# Seconds for pip to set up one venv.
_PATIENCE = 900
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)


class Table(Struct, frozen=True):
    """The table that all peers export. `address` is host, port and database; `columns` are names with types."""

    address: str
    database: str
    name: str
    key: str
    columns: tuple[tuple[str, str], ...]
    rows: int
    workers: int

    def url(self, scheme: str = "postgresql") -> str:
        return f"{scheme}://{SUPERUSER}@{self.address}"


class Peer(Struct, frozen=True):
    """A peer: its package, whose version the report shows, and its command, which gets its venv and an empty folder."""

    name: str
    label: str
    package: str
    command: Callable[[Path, Table, Path], Sequence[str]]
    rows: Callable[[Path], int]
    environment: Mapping[str, str] = {}

    @property
    def requirements(self) -> Path:
        return HERE / f"peers-{self.name}.txt"

    @property
    def version(self) -> str:
        versions: dict[str, str] = dict(_PINNED.findall(self.requirements.read_text()))
        return versions[self.package]


def set_up(peer: Peer) -> Path:
    """Return the peer's venv, made on first use. Raise Failed if it can't be made here."""
    venv, stamp = VENVS / peer.name, VENVS / peer.name / "requirements.sha256"
    wanted = hashlib.sha256(peer.requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(venv)])
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        _run([*pip, "--requirement", str(peer.requirements)])
        stamp.write_text(wanted)
    return venv


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"can't be installed here: {error}") from None
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: unknown"]
        raise Failed(f"can't be installed here: {reasons[-1]}")


def contestant(bench: Bench, peer: Peer, venv: Path, table: Table) -> Contestant:
    """Return a contestant that exports the whole table."""

    def turn() -> Sample:
        def command(folder: Path) -> Sequence[str]:
            return peer.command(venv, table, folder)

        return bench.export(table.database, command, peer.environment, rows=peer.rows, expected=table.rows)

    return Contestant(peer.label, turn, peer=True)


def _dlt(venv: Path, table: Table, folder: Path) -> list[str]:
    url = table.url("postgresql+psycopg2")
    return [*_python(venv, "dlt_jsonl.py"), url, table.name, str(folder), str(table.workers)]


def _dlt_rows(folder: Path) -> int:
    return outputs.json_lines(folder / "landing" / "data" / data.EVENTS)


def _connectorx(venv: Path, table: Table, folder: Path) -> list[str]:
    program = _python(venv, "connectorx_parquet.py")
    return [*program, table.url(), table.name, table.key, str(table.workers), str(folder / "rows.parquet")]


def _polars(venv: Path, table: Table, folder: Path) -> list[str]:
    """Return the command. Polars can't write the binary form of a uuid as JSON, so the server makes it a text."""
    columns = ", ".join(f"{name}::text" if kind == "uuid" else name for name, kind in table.columns)
    query = f"SELECT {columns} FROM {table.name}"
    return [*_python(venv, "polars_ndjson.py"), table.url(), query, str(folder / "rows.jsonl.gz")]


def _sling(venv: Path, table: Table, folder: Path) -> list[str]:
    (program,) = venv.glob("lib/python*/site-packages/sling_linux_amd64/bin/sling-linux-amd64")
    options = "{format: jsonlines, compression: gzip, file_max_rows: 100000}"
    source = ["--src-conn", f"{table.url()}?sslmode=disable", "--src-stream", f"public.{table.name}"]
    return [str(program), "run", *source, "--tgt-object", f"{folder.as_uri()}/rows/", "--tgt-options", options]


def _python(venv: Path, program: str) -> list[str]:
    return [str(venv / "bin" / "python"), str(PROGRAMS / program)]


PEERS = (
    Peer("polars", "ADBC and Polars to JSON Lines", "polars", _polars, outputs.json_lines),
    Peer("connectorx", "ConnectorX to Parquet", "connectorx", _connectorx, outputs.parquet_rows),
    Peer(
        "sling", "Sling to JSON Lines", "sling-linux-amd64", _sling, outputs.json_lines,
        {"SLING_DISABLE_TELEMETRY": "TRUE"},
    ),
    Peer("dlt", "dlt to JSON Lines", "dlt", _dlt, _dlt_rows),
)  # fmt: skip
