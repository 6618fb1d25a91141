"""`python -m bench.journal`: the cost of the change journal to writers, by pgbench on all of its four tables.

Each round runs pgbench without and with the journal, in turn, on the same server. The result is the median of the
rounds' ratios: of the transactions a second, and of the server's processor time per transaction. Other programs on the
machine disturb the second figure less.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

from bench.measure import server_clock
from bench.outcome import Finding, Outcome, Skipped
from bench.servers import programs
from bench.session import Session
from floodmark.config import Secret
from floodmark.demo.server import SUPERUSER, PostgresServer
from floodmark.events import ignore_event
from floodmark.journal import change, migrate
from floodmark.journal.connection import JournalConnection
from floodmark.source.postgres.address import ServerAddress, address
from floodmark.wording import plural

_SERVER = {"shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "1d"}
_TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history")
_TPS, _COUNT = re.compile(r"^tps = ([\d.]+)", re.MULTILINE), re.compile(r"actually processed: (\d+)")


class Turn(Struct, frozen=True):
    """The transactions a second of one run of pgbench, and the server's processor microseconds for each."""

    tps: float
    microseconds: float


class Contest:
    """A server with pgbench's tables, the journal installed, and not yet enabled."""

    def __init__(self, server: PostgresServer, options: argparse.Namespace, pgbench: str) -> None:
        self._server, self._options, self._pgbench = server, options, pgbench
        self._where: ServerAddress = address(Secret(server.url("postgres")))
        self._postmaster = int((server.data / "postmaster.pid").read_text().split("\n")[0])
        self._run("-i", "-q", "-s", str(options.scale))
        with migrate.engine_of(self._where).connect() as connection:
            migrate.upgrade(connection)
            connection.commit()

    def turn(self, *, journal: bool) -> Turn:
        with JournalConnection(self._where) as connection:
            (change.enable if journal else change.disable)(connection, _TABLES, ignore_event)
        self._run("-n", "-c", "1", "-t", "200")  # warms the caches
        begun = server_clock(self._postmaster)
        options = self._options
        text = self._run(
            *("-n", "-c", str(options.clients), "-j", "1", "-T", str(options.seconds), "-M", options.protocol),
            *self._script(),
        )
        spent = server_clock(self._postmaster) - begun
        tps, count = _TPS.search(text), _COUNT.search(text)
        assert tps is not None and count is not None, text
        return Turn(float(tps[1]), spent / int(count[1]) * 1e6)

    def _script(self) -> tuple[str, ...]:
        """Return the arguments of a transaction that inserts many rows at once, if the options ask for it."""
        if not self._options.batch:
            return ()
        script = self._server.root / "batch.sql"
        script.write_text(
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) "
            f"SELECT 1, 1, i, 1, now() FROM generate_series(1, {self._options.batch}) i;\n"
        )
        return ("-f", str(script))

    def _run(self, *arguments: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        peer = {"PGHOST": "127.0.0.1", "PGPORT": str(self._server.port), "PGUSER": SUPERUSER, "PGDATABASE": "postgres"}
        command = [self._pgbench, *arguments]
        return subprocess.run(command, env={**kept, **peer}, check=True, capture_output=True, text=True).stdout


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        pairs = _pairs(options, programs(), _say)
    except Skipped as reason:
        sys.exit(str(reason))
    for finding in _findings(pairs):
        print(f"{finding.what}: {finding.value:.4g} {finding.unit}")
    return 0


def outcomes(session: Session) -> list[Outcome]:
    """Run pgbench with and without the journal. The findings are medians of the rounds."""
    options = _parser().parse_args(["--runs", str(session.options.runs)])
    pairs = _pairs(options, session.programs, session.say)
    note = f"{options.clients} clients of pgbench, {plural(options.runs, 'pair')} of {options.seconds} s, fsync on."
    return [Outcome("journal", "the change journal's cost to writers", (), tuple(_findings(pairs)), (note,))]


def _pairs(options: argparse.Namespace, where: Path, say: Callable[[str], None]) -> list[tuple[Turn, Turn]]:
    """Return the turns without and with the journal, in pairs."""
    pgbench = shutil.which("pgbench")
    if pgbench is None:
        raise Skipped("it needs pgbench, from Debian's postgresql-contrib or postgresql-client")
    with PostgresServer.create(where, settings=_SERVER, fsync=options.fsync) as server:
        contest = Contest(server, options, pgbench)
        pairs = []
        for number in range(1, options.runs + 1):
            without, with_it = contest.turn(journal=False), contest.turn(journal=True)
            pairs.append((without, with_it))
            say(f"  round {number}: {_text(without)} without, {_text(with_it)} with the journal")
    return pairs


def _findings(pairs: Sequence[tuple[Turn, Turn]]) -> list[Finding]:
    tps = median(with_it.tps / without.tps for without, with_it in pairs)
    cpu = median(with_it.microseconds - without.microseconds for without, with_it in pairs)
    base = median(without.microseconds for without, _ in pairs)
    return [
        Finding("transactions a second with the journal, of those without", 100 * tps, "%"),
        Finding("processor time of the server for the journal, per transaction", cpu, "µs"),
        Finding("processor time of the server without it, per transaction", base, "µs"),
    ]


def _text(turn: Turn) -> str:
    return f"{turn.tps:,.0f}/s, {turn.microseconds:.0f} µs"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.journal", description="Measure the journal by pgbench.")
    parser.add_argument("--runs", type=int, default=5, help="number of pairs (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=20, help="length of a run (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="pgbench's clients (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=20, help="pgbench's scale (default: %(default)s)")
    parser.add_argument(
        "--protocol", choices=("simple", "extended", "prepared"), default="simple", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="insert N rows in one statement, instead of pgbench's transaction"
    )
    parser.add_argument("--no-fsync", dest="fsync", action="store_false", help="commit without waiting for the disk")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
