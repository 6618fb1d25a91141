"""The case `full`: one table, extracted by Floodmark and its peers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import data, outputs
from bench.contest import Contestant, Expected, rounds
from bench.measure import Failed, Sample, Series, all_cpu, paired, server_cpu, wall
from bench.outcome import Finding, Outcome
from bench.peers import PEERS, Table, contestant, set_up
from bench.session import Session

OURS = "floodmark run"
BY_SERVER = "floodmark run, server's encoder"
BINARY = "psql COPY BINARY to nowhere"
SHELL = "psql row_to_json | gzip -1"
# The budgets are those of the product. The key is the start of a series' name.
WALL_BUDGETS = {"pg_dump": 0.75, "Sling": 0.3, "dlt": 0.1}
SERVER_BUDGETS = {BINARY: 1.1}


def outcomes(session: Session) -> list[Outcome]:
    """Measure all. A peer that can't be installed is skipped, and the report tells so."""
    rows, size = session.options.full_rows, session.full_bytes
    with session.bench.connect(data.FULL) as connection:
        columns = data.columns(connection)
    address = f"127.0.0.1:{session.bench.server.port}/{data.FULL}"
    table = Table(address, data.FULL, data.EVENTS, "id", columns, rows, session.jobs)
    installed, skipped = _installed(session, table)
    series = rounds([*_own(session, table), *installed], session.options.runs, session.say)
    about = f"{rows:,} rows of {len(columns)} columns, {size / 1e6:.0f} MB in the database."
    return [Outcome("full", "full extraction", (*series, *skipped), tuple(findings(series)), (about, _versions()))]


def findings(series: Sequence[Series]) -> list[Finding]:
    """Compare Floodmark with each other program that has a result."""
    ours = series[0]
    found = []
    for peer in series[1:]:
        if peer.samples and peer.name != BINARY:
            found.append(Finding(f"against {peer.name}", paired(ours, peer, wall), "×", _budget(WALL_BUDGETS, peer)))
    for peer in series[1:]:
        if peer.samples:
            what = f"against {peer.name}, processor time of the server"
            found.append(Finding(what, paired(ours, peer, server_cpu), "×", _budget(SERVER_BUDGETS, peer)))
    for peer in series[1:]:
        if peer.samples and peer.name != BINARY:
            what = f"against {peer.name}, processor time of both"
            found.append(Finding(what, paired(ours, peer, all_cpu), "×"))
    return found


def _budget(budgets: dict[str, float], peer: Series) -> float | None:
    return next((budget for start, budget in budgets.items() if peer.name.startswith(start)), None)


def _own(session: Session, table: Table) -> list[Contestant]:
    """Return Floodmark, with the encoder of an installation and with the server's, and PostgreSQL's programs."""
    bench, jobs = session.bench, session.jobs

    def floodmark(encoder: str | None = None) -> Sample:
        return bench.floodmark(table.database, bench.new_folder("full"), _whole(table), encoder=encoder)

    def shell() -> Sample:
        return bench.export(table.database, line, rows=outputs.json_lines, expected=table.rows)

    def line(folder: Path) -> list[str]:
        copy = f"COPY (SELECT row_to_json(t) FROM {table.name} t) TO STDOUT"
        text = f"set -e; '{bench.program('psql')}' -X -q -c '{copy}' | gzip -1 > '{folder}/rows.jsonl.gz'"
        return ["/bin/sh", "-c", text]

    def binary(folder: Path) -> list[str]:
        copy = f"COPY {table.name} TO STDOUT (FORMAT binary)"
        return [bench.program("psql"), "-X", "-q", "-o", "/dev/null", "-c", copy]

    return [
        Contestant(OURS, floodmark),
        Contestant(BY_SERVER, lambda: floodmark("server")),
        Contestant(BINARY, lambda: bench.export(table.database, binary), peer=True),
        Contestant(f"pg_dump -Fd -j{jobs} -Z1", lambda: bench.pg_dump(table.database, jobs, table.rows), peer=True),
        Contestant(SHELL, shell, peer=True),
    ]


def _whole(table: Table) -> Expected:
    return Expected(extracted=1, rows=table.rows)


def _installed(session: Session, table: Table) -> tuple[list[Contestant], list[Series]]:
    """Return the peers that can be installed, and an empty series for each other one."""
    contestants, skipped = [], []
    for peer in PEERS:
        try:
            contestants.append(contestant(session.bench, peer, set_up(peer), table))
        except Failed as error:
            session.say(f"  {peer.label} is skipped: {error}")
            skipped.append(Series(peer.label, (), f"skipped: {error}"))
    return contestants, skipped


def _versions() -> str:
    return "Peers: " + ", ".join(f"{peer.package} {peer.version}" for peer in PEERS) + "."
