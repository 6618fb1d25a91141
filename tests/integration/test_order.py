"""The same rows give the same lines in the same order, whatever plan PostgreSQL would like best."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from floodmark.config import ColumnRule, TableRule

# Statistics and indexes that make a scan in another order than the heap's look cheap.
TEMPTING = """
    CREATE TABLE wide (id int, kind int, pad text);
    INSERT INTO wide SELECT (i * 7919) % 20011, (i * 7919) % 20011, repeat('p', 400) FROM generate_series(1, 20000) i;
    INSERT INTO wide SELECT 1, 1, string_agg(md5(i::text), '') FROM generate_series(1, 400) i;
    CREATE INDEX ON wide (id); CREATE INDEX ON wide (kind) INCLUDE (id)
"""
RULES: dict[str, TableRule] = {
    "an index holds every column that is extracted": TableRule(columns=ColumnRule(exclude=("kind", "pad"))),
    "an index fits the filter": TableRule(where="kind < 300"),
}


@pytest.mark.parametrize("what", RULES)
@pytest.mark.parametrize("chunk_bytes", [2**30, 2**20])
def test_lines_come_in_the_heaps_order(nightly: Nightly, what: str, chunk_bytes: int) -> None:
    """Else the audit would find lines that differ where no row does, and nothing would ever be `identical`."""
    database = nightly.database
    database.execute(TEMPTING)
    changes: dict[str, Any] = {"rules": {"public.wide": RULES[what]}, "chunk_bytes": chunk_bytes}
    nightly.run(**changes)
    before = nightly.landed("public.wide")
    database.execute("VACUUM (ANALYZE) wide")
    database.execute(f'ALTER DATABASE "{database.name}" SET random_page_cost = 0.01')
    database.execute(f'ALTER DATABASE "{database.name}" SET enable_seqscan = off')
    nightly.run(audit_share=100.0, **changes)
    assert nightly.outcome("public.wide") == ("unchanged", "unchanged")
    database.execute(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT 90')  # as good as a new one: all is read again
    nightly.run(**changes)
    assert nightly.outcome("public.wide") == ("unchanged", "identical")
    assert nightly.landed("public.wide") == before


def test_lines_come_in_the_heaps_order_whoever_else_scans_it(
    make_server: Callable[..., Cluster], make_nightly: Callable[[PgDatabase], Nightly]
) -> None:
    """A large table's scan joins one that is under way (synchronize_seqscans), or is shared among workers."""
    server = make_server(settings={"shared_buffers": "1MB"})
    nightly = make_nightly(server.database())
    database = nightly.database
    database.execute(TEMPTING)
    changes: dict[str, Any] = {"chunk_bytes": 2**30}
    nightly.run(**changes)
    before = nightly.landed("public.wide")
    for setting in ("parallel_setup_cost = 0", "parallel_tuple_cost = 0", "min_parallel_table_scan_size = 0",
                    "max_parallel_workers_per_gather = 4", "debug_parallel_query = on"):  # fmt: skip
        database.execute(f'ALTER DATABASE "{database.name}" SET {setting}')
    with database.connect() as other:
        other.execute("SET max_parallel_workers_per_gather = 0")
        other.execute("DECLARE scan CURSOR FOR SELECT pad FROM wide")
        other.execute("FETCH 9000 FROM scan")
        nightly.run(full=True, **changes)
    assert nightly.landed("public.wide") == before


def test_a_chunk_is_read_without_the_rest_of_the_table(nightly: Nightly) -> None:
    """With enable_tidscan off, every chunk would read the whole table: right, but for one reading a chunk."""
    database = nightly.database
    database.execute(TEMPTING)
    database.execute(f'ALTER DATABASE "{database.name}" SET enable_tidscan = off')
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'wide'"
    before = database.value(scans)
    nightly.run(chunk_bytes=2**20)
    nightly.run(chunk_bytes=2**20)
    time.sleep(1.5)  # a session tells its counts once a second
    assert len(nightly.entry("public.wide").objects) > 5
    assert database.value(scans) == before


SETTINGS = {
    "transform_null_equals = on": {"where": "pad = null"},
    "standard_conforming_strings = off": {"where": "pad <> 'a\\\\b'"},
    "quote_all_identifiers = on": {},
    "search_path = nothing": {},
    "lc_monetary = 'C.UTF-8'": {},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_of_the_database_changes_what_is_meant(nightly: Nightly, setting: str) -> None:
    """A setting is changed without a write; neither a filter nor a type's name then means anything else."""
    database = nightly.database
    if setting == "standard_conforming_strings = off" and database.version >= 19:
        pytest.skip("PostgreSQL 19 does not let it be off")
    database.execute("CREATE TYPE \"mood\" AS ENUM ('sad'); CREATE TABLE wide (id int, pad text, m mood, o regclass)")
    database.execute(
        r"INSERT INTO wide VALUES (1, NULL, 'sad', 'wide'), (2, E'a\\\\b', 'sad', NULL), (3, E'a\\b', 'sad', NULL)"
    )
    changes: dict[str, Any] = {"rules": {"public.wide": TableRule(**SETTINGS[setting])}}
    nightly.run(**changes)
    before = nightly.landed("public.wide")
    fingerprint = nightly.entry("public.wide").fingerprint
    database.execute(f'ALTER DATABASE "{database.name}" SET {setting}')
    nightly.run(full=True, **changes)
    assert nightly.landed("public.wide") == before
    assert nightly.entry("public.wide").fingerprint == fingerprint


def test_a_gin_index_leaves_no_row_out(nightly: Nightly) -> None:
    """gin_fuzzy_search_limit makes an index scan give a random part of what it finds."""
    database = nightly.database
    long = "(SELECT string_agg(md5(k::text), '') FROM generate_series(1, 200) k)"
    database.execute(
        "CREATE TABLE found (i int, a int[], v text); ALTER TABLE found ALTER v SET STORAGE EXTERNAL; "
        "INSERT INTO found SELECT i, ARRAY[1, i] FROM generate_series(1, 3000) i; "
        "INSERT INTO found SELECT i, ARRAY[2, i + 9] FROM generate_series(1, 100000) i; "
        f"UPDATE found SET v = {long} WHERE i = 1; CREATE INDEX ON found USING gin (a) WITH (fastupdate = off)"
    )
    database.execute("VACUUM (ANALYZE) found")
    database.execute(f'ALTER DATABASE "{database.name}" SET gin_fuzzy_search_limit = 100')
    nightly.run(rules={"found": TableRule(where="a @> '{1}'")}, chunk_bytes=2**30)
    assert nightly.entry("public.found").rows == 3000
