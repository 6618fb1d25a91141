"""The same rows give the same lines in the same order, whatever plan PostgreSQL would like best."""

from __future__ import annotations

from typing import Any

import pytest

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
    nightly.run(audit_chunks=99, **changes)
    assert nightly.outcome("public.wide") == ("unchanged", "unchanged")
    database.execute("ALTER TABLE wide RENAME pad TO x; ALTER TABLE wide RENAME x TO pad")
    nightly.run(**changes)
    assert nightly.outcome("public.wide") == ("unchanged", "identical")
    assert nightly.landed("public.wide") == before
