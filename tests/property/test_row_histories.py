"""Random histories of rows over several runs: the row changes between any two runs, applied to the older rows, give
the newer ones. `make soak` plays on."""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

from fix_postgres import PgDatabase
from fix_row_changes import TABLES, RowHistory
from fix_runs import Nightly
from floodmark.reader import row_matching
from floodmark.reader.reader import open as open_landed
from floodmark.reader.row_changes import RowChange


def play(nightly: Nightly, seed: int, runs: int) -> Counter[str]:
    print(f"SEED={seed}", flush=True)
    history = RowHistory(nightly, seed)
    for _ in range(runs):
        for _ in range(history.chance.randrange(1, 7)):
            history.act()
        history.run()
    ids = list(history.lines)
    pairs = [(old, new) for old in range(len(ids)) for new in range(old + 1, len(ids))]
    adjacent = [pair for pair in pairs if pair[1] == pair[0] + 1]
    for old, new in {*adjacent, *history.chance.sample(pairs, len(ids))}:
        history.require_right(ids[old], ids[new])
    return history.told


@pytest.mark.parametrize("most_rows", [200_000, 100])
def test_changes_applied_to_the_old_rows_give_the_new_rows(
    most_rows: int, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_matching, "MOST_ROWS", most_rows)
    told = play(nightly, random.SystemRandom().randrange(2**31), runs=6)
    assert sum(told[f"keyed: {op}"] for op in ("insert", "update", "delete")), told


def test_only_objects_that_differ_are_read(nightly: Nightly) -> None:
    nightly.database.execute(
        f"{TABLES}; INSERT INTO keyed SELECT i, i, NULL, repeat('x', 500) FROM generate_series(1, 900) i"
    )
    first = nightly.run().manifest.run_id
    nightly.database.execute("UPDATE keyed SET n = 0 WHERE id = 450")
    nightly.run()
    entry = nightly.entry("public.keyed")
    for one in entry.objects:
        if one.origin == "reused":
            (nightly.folder / one.key).unlink()
    assert nightly.extracted_chunks("public.keyed") < len(entry.objects) > 3
    reader = open_landed(nightly.folder)
    (found,) = reader.row_changes(first)
    assert isinstance(found, RowChange)
    assert (found.op, found.key, found.columns) == ("update", b'{"id":450}', ("n",))


@pytest.mark.soak
def test_soak_of_row_changes(pg: PgDatabase, tmp_path_factory: pytest.TempPathFactory) -> None:
    total = Counter[str]()
    end = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    given = os.environ.get("SEED")
    while True:
        seed = int(given) if given else random.SystemRandom().randrange(2**31)
        database = pg.server.database()
        total += play(Nightly(database, tmp_path_factory.mktemp("landing")), seed, runs=25)
        database.drop()
        if given or time.monotonic() > end:
            break
    print(total)
    if not given:
        ops = ("keyed: insert", "keyed: update", "keyed: delete", "lines: insert", "lines: delete", "schema_changed")
        assert [op for op in ops if not total[op]] == []
