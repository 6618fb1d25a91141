"""The proof by WAL summaries on real servers: what it spares, what it notices, and how long a run waits for it.

`second_opinion` counts the rows of each chunk that the summaries prove.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import UNSET

from fix_command import Floodmark
from fix_postgres import Cluster, PgDatabase
from fix_runs import Nightly
from fix_summaries import CHUNKS, PERSON, SummarizedJob, summarize
from floodmark.events import Event, StepStarted, WrittenBlocksRead
from floodmark.pipeline import observe

MakeNightly = Callable[[PgDatabase], Nightly]
QUIET = ("unchanged", CHUNKS)
UPDATE = "UPDATE person SET name = 'new' WHERE id = 7"
ELSEWHERE = "CREATE TABLE IF NOT EXISTS other (i int); INSERT INTO other VALUES (1)"


def test_an_unchanged_day_reads_no_row(summarized_any: SummarizedJob) -> None:
    assert summarized_any.day() == QUIET
    assert summarized_any.detail() == "all 4 chunks proven unchanged: no block written"
    assert summarized_any.run() == QUIET  # without a new checkpoint: nothing ended since the last one
    assert summarized_any.day(ELSEWHERE) == QUIET
    assert summarized_any.told().unwritten == CHUNKS


def test_one_changed_block_leaves_the_proof_of_the_others(summarized: SummarizedJob) -> None:
    assert summarized.day(UPDATE) == ("rows_changed", CHUNKS - 1)
    assert summarized.run() == QUIET
    summarized.database.execute("UPDATE person SET name = 'newer' WHERE id = 7")
    assert summarized.run() == ("rows_changed", 0)
    assert summarized.day() == ("unchanged", CHUNKS - 1)  # the base lies before the write
    assert summarized.detail() == "all 4 chunks proven unchanged: no block written in 3, rows counted in 1"
    assert summarized.day() == QUIET


CHANGES = {
    "insert": "INSERT INTO person VALUES (2000, 'new')",
    "update": UPDATE,
    "delete": "DELETE FROM person WHERE id = 500",
    "delete and insert": "DELETE FROM person WHERE id = 7; INSERT INTO person VALUES (7, 'another')",
    "copy": "INSERT INTO person SELECT i + 3000, 'copied' FROM generate_series(1, 500) i",
    "upsert": "INSERT INTO person VALUES (7, 'x') ON CONFLICT (id) DO UPDATE SET name = 'upserted'",
    "merge": "MERGE INTO person p USING (VALUES (7)) v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET name = 'merged'",
    "savepoint": "BEGIN; SAVEPOINT a; UPDATE person SET name = 'sub' WHERE id = 9; RELEASE a; COMMIT",
    "truncate": "TRUNCATE person; INSERT INTO person VALUES (1, 'only')",
    "cluster": "CLUSTER person USING person_pkey",
    "vacuum full": "VACUUM FULL person",
    "rewrite": "ALTER TABLE person ALTER id TYPE int",
    "unlogged and logged": "ALTER TABLE person SET UNLOGGED; UPDATE person SET name = 'u' WHERE id = 7;"
    " ALTER TABLE person SET LOGGED",
    "swapped": "CREATE TABLE other AS SELECT id, 'other ' || id AS name FROM person; ALTER TABLE person RENAME TO x;"
    " ALTER TABLE other RENAME TO person",
}
NOTICED = {"rows_changed", "rows_removed", "rewritten", "schema_changed", "lineage_changed", "identical"}


@pytest.mark.parametrize("changes", [("insert", "update", "delete"), tuple(CHANGES)[3:8], tuple(CHANGES)[8:]])
def test_each_kind_of_change_is_noticed(summarized: SummarizedJob, changes: tuple[str, ...]) -> None:
    assert summarized.day() == QUIET
    for change in changes:
        for statement in CHANGES[change].split("; ") if "vacuum" in change else [CHANGES[change]]:
            summarized.database.execute(statement)
        assert summarized.day()[0] in NOTICED, change
    assert summarized.day()[0] == "unchanged"


def test_a_write_after_the_last_checkpoint_is_noticed(summarized: SummarizedJob) -> None:
    assert summarized.day() == QUIET
    summarized.database.execute(UPDATE)
    assert summarized.run() == ("rows_changed", 0)
    assert "do not reach this snapshot yet" in (summarized.told().why or "")
    assert summarized.run() == ("unchanged", 0)
    assert "the rows were counted: the server's WAL summaries do not reach" in summarized.detail()


# Waiting


def limited(job: SummarizedJob, *grants: str) -> str:
    role = job.database.role(f"reader_{job.database.name}")
    for grant in ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", *grants):
        job.database.execute(grant.format(role.name))
    return role.url


def test_an_ordinary_role_is_enough(summarized: SummarizedJob) -> None:
    url = limited(summarized)
    assert summarized.day(url=url) == QUIET
    assert summarized.day(UPDATE, url=url) == ("rows_changed", CHUNKS - 1)


def test_a_role_that_may_not_read_the_summaries_counts(summarized: SummarizedJob) -> None:
    url = limited(summarized)
    revoke = "REVOKE EXECUTE ON FUNCTION pg_available_wal_summaries() FROM PUBLIC"
    summarized.database.execute(revoke)
    assert summarized.day(url=url) == ("unchanged", 0)
    assert not [event for event in summarized.job.events if isinstance(event, WrittenBlocksRead)]
    summarized.database.execute(revoke.replace("REVOKE", "GRANT").replace("FROM", "TO"))
    assert summarized.day(url=url)[0] == "unchanged"
    assert summarized.day(url=url) == QUIET


def steps(job: SummarizedJob) -> list[str]:
    return [event.step for event in job.job.events if isinstance(event, StepStarted)]


@pytest.mark.parametrize("granted", [True, False])
def test_a_checkpoint_is_made_if_the_role_may(
    summarized: SummarizedJob, monkeypatch: pytest.MonkeyPatch, granted: bool
) -> None:
    monkeypatch.setattr(observe, "BYTES_FOR_A_CHECKPOINT", 0)
    monkeypatch.setattr(observe, "SHORTEST_WAIT", 10)
    url = limited(summarized, *(("GRANT pg_checkpoint TO {}",) if granted else ()))
    assert summarized.day(url=url) == QUIET
    summarized.database.execute(ELSEWHERE)
    begun = time.monotonic()
    assert summarized.run(url=url) == ("unchanged", CHUNKS if granted else 0)
    assert ("waiting for a checkpoint" in steps(summarized)) == granted
    assert time.monotonic() - begun < 10
    summarized.database.execute(UPDATE)
    assert summarized.run(url=url)[0] == "rows_changed"


def test_no_checkpoint_for_a_small_gain_or_without_a_wait(
    summarized: SummarizedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert summarized.day() == QUIET
    summarized.database.execute(ELSEWHERE)
    assert summarized.run() == ("unchanged", 0)
    monkeypatch.setattr(observe, "BYTES_FOR_A_CHECKPOINT", 0)
    monkeypatch.setattr(observe, "SHORTEST_WAIT", 10)
    assert summarized.run(wal_summary_wait=0) == ("unchanged", 0)
    assert "waiting for a checkpoint" not in steps(summarized)


def test_a_run_waits_for_a_checkpoint_that_is_due(summarized: SummarizedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if it comes sooner than a scan takes, and than the limit."""
    url = limited(summarized)
    assert summarized.day(url=url) == QUIET
    summarized.database.execute(ELSEWHERE)
    monkeypatch.setattr(observe, "SCANNED_PER_SECOND", 1)  # the scan of 0.3 MB takes days
    begun = time.monotonic()
    assert summarized.run(url=url) == ("unchanged", 0)  # the next one is due in up to five minutes
    assert time.monotonic() - begun < 5
    timer = threading.Timer(0.5, summarize, [summarized.server])
    timer.start()
    assert summarized.run(url=url, wal_summary_wait=600) == QUIET
    assert "waiting for a checkpoint" in steps(summarized)
    timer.join()


def test_a_wait_ends_at_its_limit(summarized: SummarizedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    url = limited(summarized)
    assert summarized.day(url=url) == QUIET
    summarized.database.execute(ELSEWHERE)
    monkeypatch.setattr(observe, "SCANNED_PER_SECOND", 1)
    monkeypatch.setattr("floodmark.source.postgres.wal.WalLog.seconds_until_complete", lambda log: 0.5)
    begun = time.monotonic()
    assert summarized.run(url=url, wal_summary_wait=1) == ("unchanged", 0)  # no checkpoint comes
    assert 1 <= time.monotonic() - begun < 10


def test_a_long_list_is_given_up_for_a_count(summarized: SummarizedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Summaries list the blocks of all databases, so the list can be long although the run's tables are small."""
    assert summarized.day() == QUIET
    monkeypatch.setattr("floodmark.source.postgres.wal._WRITTEN", "SELECT 1, false, 1 FROM pg_sleep(20)")
    begun = time.monotonic()
    assert summarized.day(ELSEWHERE) == ("unchanged", 0)
    assert time.monotonic() - begun < 10
    assert summarized.told().why == "the server's WAL summaries list so much that a count is faster"


# Partitions, inheritance, and what is left out

VISIT = """
    CREATE TABLE visit (id int, n int, v text) PARTITION BY RANGE (id);
    CREATE TABLE visit_a PARTITION OF visit FOR VALUES FROM (0) TO (300);
    CREATE TABLE visit_b PARTITION OF visit FOR VALUES FROM (300) TO (600);
    INSERT INTO visit SELECT i, i % 2, 'visit ' || i FROM generate_series(1, 599) i;
    CREATE TABLE parent (id int, v text); CREATE TABLE child (more int) INHERITS (parent);
    INSERT INTO parent VALUES (1, 'of the parent'); INSERT INTO child VALUES (2, 'of the child', 0)
"""


def test_each_partition_and_each_heir_is_proven_for_itself(summarized: SummarizedJob) -> None:
    job = summarized
    for _ in range(3):  # a reader writes hint bits, as full pages
        job.day(VISIT if "public.visit" not in job.job.outcomes() else "SELECT 1")
    assert [job.unwritten(f"public.{name}") for name in ("visit", "parent", "child")] == [2, 1, 1]
    job.day("UPDATE visit SET v = 'new' WHERE id = 5", "UPDATE parent SET v = 'new' WHERE id = 2")
    assert [job.unwritten(f"public.{name}") for name in ("visit", "parent", "child")] == [1, 1, 0]
    assert job.job.outcomes()["public.visit"][1] == "rows_changed"
    assert job.job.outcomes()["public.child"][1] == "rows_changed"
    job.day("UPDATE visit SET id = id + 300 WHERE id = 7")
    assert job.job.outcomes()["public.visit"][1] in ("rows_changed", "rows_removed")


def test_toasted_values_are_covered_by_their_rows(summarized: SummarizedJob) -> None:
    job = summarized
    fill = "SELECT i, (SELECT string_agg(md5(random()::text || j), '') FROM generate_series(1, 300) j)"
    job.day(f"CREATE TABLE doc AS {fill} AS body FROM generate_series(1, 40) i")
    job.day()
    job.day()
    assert job.unwritten("public.doc") == 1
    job.day("UPDATE doc SET body = reverse(body) WHERE i = 3")
    assert job.job.outcomes()["public.doc"] == ("extracted", "rows_changed")
    job.day()
    job.day("VACUUM doc")
    assert job.job.outcomes()["public.doc"] == ("unchanged", "unchanged")


def test_a_table_that_runs_leave_out_keeps_its_base(summarized: SummarizedJob) -> None:
    summarized.day(ELSEWHERE)
    for statement in (UPDATE, "DELETE FROM person WHERE id = 500"):
        summarized.database.execute(statement)
        summarized.summarize()
        summarized.job.run(only=("public.other",))
    assert summarized.day()[0] in ("rows_changed", "rows_removed")


def test_plan_tells_how(summarized: SummarizedJob) -> None:
    summarized.summarize()
    found = summarized.job.plan()["public.person"]
    assert found.reason.detail == "all 4 chunks proven unchanged: no block written"


def test_without_summaries_a_run_asks_for_none(nightly: Nightly) -> None:
    nightly.database.execute(PERSON)
    nightly.run()
    nightly.run()
    assert nightly.entry("public.person").reason.detail == "all 4 chunks proven unchanged"
    assert not [event for event in nightly.events if isinstance(event, WrittenBlocksRead)]
    assert nightly.last is not None and nightly.last.source.snapshot.wal is UNSET


def test_the_commands_tell(summarized: SummarizedJob, tmp_path: Path) -> None:
    environ = {"FLOODMARK_SOURCE": summarized.database.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    command = Floodmark(tmp_path, environ)
    (tmp_path / "floodmark.yaml").write_text("audit: {chunks_per_run: 0}\n")
    command("run", "--output", "json")
    summarized.summarize()
    manifest = command("run", "--output", "json").json
    assert manifest["tables"][0]["reason"] == {"code": "unchanged", "detail": "proven unchanged: no block written"}
    assert manifest["source"]["snapshot"]["wal"].keys() == {"timeline", "lsn", "next_xid"}
    logged = command("run", "--log-format", "json").err
    assert '"wal_summaries"' in logged


# Standbys


def test_a_standby_is_counted_and_so_is_a_promoted_one(
    make_server: Callable[..., Cluster], standby: Callable[[Cluster], Cluster], make_nightly: MakeNightly
) -> None:
    server = make_server(18, settings={"summarize_wal": "on", "autovacuum": "off"})
    database = server.database()
    database.execute(PERSON)
    twin = standby(server)
    on_twin = database.on(twin)
    job = make_nightly(on_twin)

    def run() -> tuple[str, str]:
        job.run()
        return job.outcome("public.person")

    assert [run()[1], run()[1]] == ["first_run", "unchanged"]
    assert not [event for event in job.events if isinstance(event, WrittenBlocksRead)]
    twin.promote()
    on_twin.close()
    assert run() == ("unchanged", "identical")
    twin.admin().execute("CHECKPOINT")
    on_twin.execute(UPDATE)
    summarize(twin)
    assert run()[1] == "rows_changed"
    job.require_truth()


def at(job: SummarizedJob, kind: type[Event]) -> Callable[[Event], None]:
    """End a summary whenever such an event comes."""

    def act(event: Event) -> None:
        if isinstance(event, kind):
            job.summarize()

    return act


def test_checkpoints_between_the_steps(summarized: SummarizedJob) -> None:
    job, kind = summarized, StepStarted
    for statement, code in ((UPDATE, "rows_changed"), ("DELETE FROM person WHERE id = 9", "rows_removed")):
        job.database.execute(statement)
        job.job.run_observed(at(job, kind))
        job.job.require_truth()
        assert job.job.entry("public.person").reason.code == code
    job.job.run_observed(at(job, kind))
    assert job.job.outcome("public.person") == ("unchanged", "unchanged")


def test_doctor_tells_what_the_server_offers(summarized: SummarizedJob, nightly: Nightly, tmp_path: Path) -> None:
    found = []
    nightly.database.execute("CREATE TABLE t (i int)")
    for database in (summarized.database, nightly.database):
        environ = {"FLOODMARK_SOURCE": database.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
        checks = Floodmark(tmp_path, environ)("doctor", "--output", "json").json["checks"]
        found += [one["found"] for one in checks if one["check"] == "wal summaries"]
    assert "can make a checkpoint" in found[0] and "ALTER SYSTEM SET summarize_wal = on" in found[1]
