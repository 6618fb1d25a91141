"""MariaDB: what a digest costs, against extracting the same rows. `python -m bench.mysql [ROWS]`.

Both read the same range on one connection. Processor seconds are those of the server's process (/proc) and of this one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench.measure import Sample, Series, paired_cpu_ratio, paired_ratio
from bench.outcome import Finding, Outcome, Skipped
from bench.report import finding_table, series_table
from bench.session import Session
from floodmark.config import Limits, Secret, Selection
from floodmark.demo.mariadb import MariaDBServer
from floodmark.errors import ConfigError
from floodmark.model import Chunk
from floodmark.observed import Question
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import open_sql_source

TABLE = """
    CREATE TABLE t (
        id bigint PRIMARY KEY, customer int NOT NULL, amount decimal(12,2), rate double,
        state enum('new','paid','sent'), email varchar(100), note varchar(200), created datetime(6),
        updated timestamp NULL, code char(8), flag tinyint(1), token binary(16)
    ) CHARACTER SET utf8mb4
"""
ROWS = """
    INSERT INTO t SELECT seq, seq % 5000, seq / 7, SQRT(seq), 1 + seq % 3, CONCAT('user', seq % 9999, '@example.com'),
        IF(seq % 4, REPEAT('note ', 1 + seq % 20), NULL), '2024-01-01' + INTERVAL seq SECOND,
        '2024-06-01' + INTERVAL seq SECOND, LPAD(HEX(seq), 8, '0'), seq % 2, UNHEX(MD5(seq))
    FROM seq_1_to_{rows}
"""
TICKS = os.sysconf("SC_CLK_TCK")


def server_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measured(name: str, pid: int, work: Callable[[], object], times: int) -> Series:
    samples = []
    for _ in range(times):
        begun = time.monotonic(), time.process_time(), server_seconds(pid)
        work()
        spent = (time.monotonic() - begun[0], time.process_time() - begun[1], server_seconds(pid) - begun[2])
        samples.append(Sample(*spent, peak_bytes=0))
    return Series(name, tuple(samples))


def outcomes(session: Session) -> list[Outcome]:
    """Measure both on 1,000,000 rows, or as few as the table of the full extraction has."""
    return [outcome(session.options.full_rows, session.options.runs)]


def outcome(rows: int, times: int) -> Outcome:
    try:
        server = MariaDBServer.create(settings={"innodb-buffer-pool-size": "1G"})
    except ConfigError as error:
        raise Skipped(str(error)) from None
    with server:
        server.run("CREATE DATABASE d")
        server.run(TABLE, ROWS.format(rows=rows), database="d")
        digest, extraction, size = _measured(server, rows, times)
    findings = (
        Finding("digest against extraction", paired_ratio(digest, extraction), "×"),
        Finding("digest against extraction, processor time of both", paired_cpu_ratio(digest, extraction), "×"),
    )
    note = f"{rows:,} rows of 12 columns, {size / 1e6:.0f} MB of lines. An extraction ends with a digest of its own."
    return Outcome("mysql", "MariaDB: digest and extraction", (digest, extraction), findings, (note,))


def _measured(server: MariaDBServer, rows: int, times: int) -> tuple[Series, Series, int]:
    """Return both series, and the bytes of the lines."""
    pid = int((server.root / "pid").read_text())
    options = SqlOptions(Secret(server.url("d")), Limits(connections=1), chunk_bytes=1 << 40)
    with closing(open_sql_source(options).snapshot()) as snapshot:
        (info,) = snapshot.tables(Selection(), "")
        (part,) = info.parts
        chunk = Chunk(part.id)
        sizes: list[int] = []

        def extract() -> None:
            sizes.clear()
            snapshot.extract(info, part, chunk, True, lambda block: sizes.append(len(block)))

        def digest() -> None:
            (seen,) = snapshot.observe([Question(info.table, part, chunk, True, 0)])
            assert seen.digest is not None and seen.rows == rows

        extract()
        both = measured("floodmark: digest", pid, digest, times), measured("floodmark: extraction", pid, extract, times)
        return *both, sum(sizes)


def main(rows: int) -> None:
    found = outcome(rows, 3)
    print("\n".join((*found.notes, *series_table(found.series), *finding_table(found.findings))))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
