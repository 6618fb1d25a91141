"""MariaDB: what a digest costs, against extracting the same rows. `python -m bench.mysql [ROWS]`.

Both read the same range on one connection. Processor seconds are those of the server's process (/proc) and of this one.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from floodmark.config import Limits, Secret, Selection
from floodmark.demo.mariadb import MariaDBServer
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


def measured(name: str, pid: int, work: Callable[[], object], times: int = 3) -> None:
    wall, server, client = [], [], []
    for _ in range(times):
        begun = time.monotonic(), server_seconds(pid), time.process_time()
        work()
        wall.append(time.monotonic() - begun[0])
        server.append(server_seconds(pid) - begun[1])
        client.append(time.process_time() - begun[2])
    medians = (statistics.median(one) for one in (wall, server, client))
    print(f"{name:12} wall {next(medians):6.2f} s   server {next(medians):6.2f} s   client {next(medians):6.2f} s")


def main(rows: int) -> None:
    with MariaDBServer.create(settings={"innodb-buffer-pool-size": "1G"}) as server:
        server.run("CREATE DATABASE d")
        server.run(TABLE, ROWS.format(rows=rows), database="d")
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
            print(f"{rows:,} rows, {sum(sizes) / 1e6:.0f} MB of lines; an extraction ends with a digest of its own")
            measured("digest", pid, digest)
            measured("extraction", pid, extract)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
