"""Whole runs from MariaDB: what lands, what is proven, and what is said when something is in the way."""

from __future__ import annotations

import gc
import json
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from fix_mariadb import MariaCluster, MyDatabase
from fix_mysql import ALL_RIGHTS, Session, age, reader, snapshot_of
from fix_ports import closed_port
from fix_runs import Nightly
from floodmark.config import ColumnRule, Limits, Secret, Selection, TableRule
from floodmark.errors import ConfigError, SourceError, SourceUnavailable
from floodmark.events import ChunkAudited, ChunkDone, Event, TableFinished, Warned
from floodmark.pipeline import snapshot
from floodmark.reader.reader import open as open_reader
from floodmark.source.mysql.connect import engine_of
from floodmark.state.last_read import last_read
from floodmark.stop import NEVER
from floodmark.verify.job import VerifyRequest, verify

CANARY = "canary-77aa"


class Job(Nightly):
    """A nightly job from a MariaDB database, as a user with given rights."""

    def __init__(self, my: MyDatabase, folder: Path, *rights: str) -> None:
        super().__init__(my, folder)  # type: ignore[arg-type]
        self.my = my
        self.url = reader(my, *rights)

    def settings(self, **changes: Any) -> Any:
        return super().settings(**{"url": self.url, **changes})

    def lines(self, name: str) -> list[bytes]:
        return self.landed(f"{self.my.name}.{name}")

    def how(self, name: str) -> tuple[str, str]:
        return self.outcome(f"{self.my.name}.{name}")

    def values(self, name: str) -> list[Any]:
        return [list(json.loads(line).values()) for line in self.lines(name)]

    def warnings(self) -> str:
        return " ".join(event.message for event in self.events if isinstance(event, Warned))


@pytest.fixture
def job(my: MyDatabase, tmp_path: Path) -> Job:
    return Job(my, tmp_path / "landing", *ALL_RIGHTS)


def test_a_lost_connection_leaves_no_traceback_behind(my: MyDatabase) -> None:
    """The driver's cursor would read the rows that are left when it is freed."""
    my.execute("CREATE TABLE t AS SELECT seq, repeat('x', 1000) AS v FROM seq_1_to_20000")
    unraised: list[object] = []
    engine = engine_of(make_url(reader(my)), Limits())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", unraised.append)
        connection = engine.connect()
        result = connection.exec_driver_sql("SELECT * FROM t")
        assert result.fetchone() is not None
        connection.connection.driver_connection._force_close()  # type: ignore[union-attr]
        result.close()
        connection.invalidate()
        connection.close()
        del result, connection
        gc.collect()
    assert unraised == []


def fill(my: MyDatabase, rows: int = 20_000) -> None:
    my.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))")
    my.execute(f"INSERT INTO t SELECT seq, CONCAT('value ', seq) FROM seq_1_to_{rows}")


def test_a_changed_row_rewrites_one_chunk_and_the_rest_is_proven(job: Job) -> None:
    fill(job.my)
    job.run()
    label = f"{job.my.name}.t"
    chunks = len(job.entry(label).objects)
    assert chunks > 8 and job.how("t") == ("extracted", "first_run")
    job.run()
    assert job.how("t") == ("unchanged", "unchanged")
    job.my.execute("UPDATE t SET v = 'changed' WHERE id = 7000")
    job.run()
    assert job.how("t") == ("extracted", "rows_changed")
    assert job.extracted_chunks(label) == 1 and len(job.entry(label).objects) == chunks
    assert job.values("t") == [[i, "changed" if i == 7000 else f"value {i}"] for i in range(1, 20_001)]
    manifest = (job.folder / "_floodmark").rglob("*.json")
    assert all(b"value 7" not in path.read_bytes() for path in manifest), "a manifest holds no value"


def test_a_key_that_changes_moves_its_row(job: Job) -> None:
    fill(job.my)
    job.run()
    job.my.execute("UPDATE t SET id = 100001 WHERE id = 5", "UPDATE t SET id = 5 WHERE id = 19999")
    job.run()
    keys = sorted({*range(1, 20_001), 100_001} - {19_999})
    assert [key for key, _ in job.values("t")] == keys


def test_tables_without_a_key_and_without_transactions(job: Job) -> None:
    job.my.execute(
        "CREATE TABLE nokey (a int)",
        "INSERT INTO nokey VALUES (2), (1), (2)",
        "CREATE TABLE aria (a int PRIMARY KEY) ENGINE = Aria",
        "INSERT INTO aria VALUES (1)",
        "CREATE TABLE my (a int PRIMARY KEY) ENGINE = MyISAM",
    )
    manifest = job.run().manifest
    assert job.values("nokey") == [[2], [1], [2]] and job.values("aria") == [[1]] and job.values("my") == []
    assert f"{job.my.name}.aria, {job.my.name}.my" in job.warnings()
    assert not manifest.consistent
    job.run()
    assert {job.how(name) for name in ("nokey", "aria", "my")} == {("unchanged", "identical")}
    manifest = job.run(include=("nokey",)).manifest
    assert manifest.consistent and "aria" not in job.warnings()


def test_a_view_that_is_named_lands(job: Job) -> None:
    job.my.execute(
        "CREATE TABLE t (a int PRIMARY KEY)", "CREATE VIEW w AS SELECT a + 1 AS b FROM t", "INSERT INTO t VALUES (1)"
    )
    job.run(include=("w",))
    assert job.lines("w") == [b'{"b":2}\n']
    job.run(include=("w",))
    assert job.how("w") == ("unchanged", "identical")


def test_a_view_of_a_missing_table_fails_alone(job: Job) -> None:
    job.my.execute("CREATE TABLE t (a int PRIMARY KEY)", "CREATE TABLE u (a int PRIMARY KEY)")
    job.my.execute("CREATE VIEW w AS SELECT a FROM t", "DROP TABLE t")
    job.run(include=("w", "u"))
    assert job.how("w")[0] == "failed" and job.how("u")[0] == "extracted"


def test_a_filter_counts_in_each_run(job: Job) -> None:
    fill(job.my, 2000)
    rules = {"t": TableRule(where="v LIKE '%7' AND id < 1000 # a comment")}
    job.run(rules=rules)
    assert len(job.lines("t")) == 100
    job.my.execute("INSERT INTO t VALUES (5000, 'value 7')", "UPDATE t SET v = 'x' WHERE id = 1")
    job.run(rules=rules)
    assert job.how("t") == ("unchanged", "unchanged"), "the change is not in what lands"
    job.my.execute("UPDATE t SET v = '77' WHERE id = 1")
    job.run(rules=rules)
    assert len(job.lines("t")) == 101


def test_a_filter_with_a_clock_is_read_and_compared_in_each_run(job: Job) -> None:
    """Lines and digest come from two statements, and the time passes between them."""
    fill(job.my)
    rules = {"t": TableRule(where="id % 2 = microsecond(now(6)) div 10000 % 2")}
    for _ in range(3):
        job.run(rules=rules)
    assert job.how("t")[1] in {"no_proof", "identical"}


def test_a_generated_column_with_a_clock_is_never_proven(job: Job) -> None:
    job.my.execute("CREATE TABLE t (id int PRIMARY KEY, d date, old int AS (timestampdiff(year, d, curdate())))")
    job.my.execute("CREATE TABLE u (id int PRIMARY KEY, d date, y int AS (year(d)), s varchar(9) AS (lower('X')))")
    job.my.execute("INSERT INTO t (id, d) VALUES (1, '2000-01-01')", "INSERT INTO u (id, d) VALUES (1, '2000-01-01')")
    job.run()
    job.run()
    assert job.how("t") == ("unchanged", "identical")
    assert job.how("u") == ("unchanged", "unchanged")


@pytest.mark.parametrize(
    "where",
    [
        f"missing = '{CANARY}'",
        f"id = = '{CANARY}'",
        f"nosuchfunction('{CANARY}')",
        f"id IN (SELECT id FROM t WHERE v = '{CANARY}')",
        f"(@x := '{CANARY}') IS NOT NULL",
        f"id > 1; DROP TABLE t -- '{CANARY}'",
        f"COUNT(*) > '{CANARY}'",
    ],
)
def test_a_bad_filter_is_a_config_error_without_its_text(job: Job, where: str) -> None:
    fill(job.my, 10)
    with pytest.raises(ConfigError, match="where") as caught:
        job.run(rules={"t": TableRule(where=where)})
    assert CANARY not in everything(caught.value)
    assert job.my.value("SELECT count(*) FROM t") == 10


def test_a_filter_that_means_something_else_on_the_server_is_refused(make_mariadb: Callable[..., MariaCluster]) -> None:
    with closing(make_mariadb(settings={"sql-mode": "ANSI_QUOTES,PIPES_AS_CONCAT"}).database()) as my:
        fill(my, 10)
        for where in ("\"v\" = 'x'", "v || 'x' = 'y'"):
            with snapshot_of(my.url) as taken, pytest.raises(ConfigError, match="sql_mode"):
                taken.tables(Selection(rules={"t": TableRule(where=where)}), "")


def test_an_error_of_a_value_is_the_table_s_and_shows_no_value(job: Job) -> None:
    job.my.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))", f"INSERT INTO t VALUES (1, '{CANARY}')")
    job.my.execute("CREATE TABLE u (id int PRIMARY KEY)")
    job.run(rules={"t": TableRule(where="EXP(LENGTH(v) * 1000) > 1")})
    assert job.how("t")[0] == "failed" and job.how("u")[0] == "extracted"
    assert CANARY not in repr(job.events) and "error 1690" in job.entry(f"{job.my.name}.t").reason.detail


def test_a_role_that_may_not_read_one_table(my: MyDatabase, tmp_path: Path) -> None:
    my.execute("CREATE TABLE t (a int PRIMARY KEY)", "CREATE TABLE u (a int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    job = Job.__new__(Job)
    Nightly.__init__(job, my, tmp_path / "landing")  # type: ignore[arg-type]
    job.my, job.url = my, my.role("reader", f"SELECT ON `{my.name}`.t", f"INSERT ON `{my.name}`.u")
    job.run()
    assert job.values("t") == [[1]]
    assert job.how("u") == ("failed", "denied")


# Bad input


def test_refused_connections_say_why_and_show_no_secret(my: MyDatabase) -> None:
    my.execute("CREATE TABLE t (a int PRIMARY KEY)")
    good = reader(my)
    my.role("nobody")
    cases = {
        good.replace("correct%20horse", CANARY): "password",
        good.replace("reader", "who"): "password",
        f"{good}_gone": "database",
        my.server.url(my.name, "nobody", "correct horse"): "may not read this database",
        good.replace(f":{my.server.port}", f":{closed_port()}"): "no server answers",
        good.replace("127.0.0.1", "localhost.invalid") + "?ssl_disabled=true": "resolved",
    }
    for url, word in cases.items():
        with pytest.raises(SourceError, match=word) as caught:
            snapshot_of(url).__enter__()
        assert CANARY not in everything(caught.value) and "horse" not in everything(caught.value)


@pytest.mark.parametrize(
    ("suffix", "word"),
    [
        (f"?nosuch={CANARY}", "nosuch"),
        (f"?ssl_ca=/nowhere/{CANARY}", "TLS"),
        (f"?ssl_disabled={CANARY}", "true or false"),
        (f"?connect_timeout={CANARY}", "seconds"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_a_config_error(my: MyDatabase, suffix: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        snapshot_of(my.url + suffix).__enter__()
    assert CANARY not in everything(caught.value)


def test_a_url_without_a_database_or_with_another_driver_is_a_config_error(my: MyDatabase) -> None:
    for url in (my.server.url(), my.url.replace("mysql://", "mysql+asyncmy://")):
        with pytest.raises(ConfigError):
            snapshot_of(url).__enter__()


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"])
def test_each_scheme_means_the_same_database(my: MyDatabase, scheme: str) -> None:
    my.execute("CREATE TABLE t (a int PRIMARY KEY)")
    with snapshot_of(my.url) as one, snapshot_of(my.url.replace("mysql", scheme, 1)) as other:
        assert one.identity == other.identity and one.identity.dialect == "mariadb"


def test_the_password_can_come_from_the_environment(my: MyDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    url = reader(my).replace(":correct%20horse", "")
    with pytest.raises(SourceError, match="password"):
        snapshot_of(url).__enter__()
    monkeypatch.setenv("MYSQL_PWD", "correct horse")
    with snapshot_of(url) as taken:
        assert taken.is_alive()


# What happens meanwhile


def meanwhile(job: Job, act: Callable[[], None], **changes: Any) -> None:
    """Run, and do something once, right after the first object was put."""
    done: list[int] = []

    def observe(event: Event) -> None:
        if isinstance(event, ChunkDone | TableFinished) and not done:
            done.append(1)
            act()

    job.run_observed(observe, **changes)
    assert done


def test_killed_connections_lose_nothing(job: Job) -> None:
    fill(job.my)

    def kill() -> None:
        mine = "SELECT id FROM information_schema.processlist WHERE user = 'reader' LIMIT 2"
        for (number,) in job.my.query(mine):
            job.my.execute(f"KILL {number}")

    meanwhile(job, kill)
    assert len(job.lines("t")) == 20_000


def test_all_connections_killed_is_a_new_snapshot(job: Job) -> None:
    fill(job.my)

    def kill() -> None:
        job.my.execute("UPDATE t SET v = 'later'", "KILL USER reader")

    meanwhile(job, kill)
    assert {value for _, value in job.values("t")} == {"later"}


def test_a_restart_of_the_server_is_a_new_snapshot(make_mariadb: Callable[..., MariaCluster], tmp_path: Path) -> None:
    server = make_mariadb()
    with closing(server.database()) as my:
        fill(my)
        job = Job(my, tmp_path / "landing", *ALL_RIGHTS)

        def restart() -> None:
            my.execute("UPDATE t SET v = 'later'")
            server.restart()

        meanwhile(job, restart)
        assert {value for _, value in job.values("t")} == {"later"}


def test_a_server_that_stays_away_is_an_error_that_can_be_tried_again(
    make_mariadb: Callable[..., MariaCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SECONDS_TO_COME_BACK", 1)
    server = make_mariadb()
    with closing(server.database()) as my:
        fill(my)
        job = Job(my, tmp_path / "landing", *ALL_RIGHTS)
        with pytest.raises(SourceUnavailable):
            meanwhile(job, server.crash)
        server.start()
        job.run()
        assert len(job.lines("t")) == 20_000


def test_a_migration_during_a_run_lands_the_table_as_it_is_after_it(job: Job) -> None:
    fill(job.my)
    age()
    migration = Session(job.my)
    meanwhile(job, lambda: migration.execute("ALTER TABLE t DROP COLUMN v, ADD COLUMN w int DEFAULT 3"))
    assert job.values("t") == [[i, 3] for i in range(1, 20_001)]


def test_a_swap_of_tables_during_a_run_mixes_nothing(job: Job) -> None:
    fill(job.my)
    job.my.execute("CREATE TABLE u LIKE t", "INSERT INTO u SELECT id, 'of u' FROM t")
    age()
    meanwhile(job, lambda: job.my.execute("RENAME TABLE t TO x, u TO t, x TO u"))
    assert {value for _, value in job.values("t")} == {"of u"}
    assert [value for _, value in job.values("u")] == [f"value {i}" for i in range(1, 20_001)]


# Consumers


def test_verify_and_plan_and_the_reader_work(job: Job) -> None:
    job.my.execute(
        "SET SESSION sql_mode = ''",
        "CREATE TABLE t (id bigint unsigned PRIMARY KEY, d date, m datetime(6), n decimal(20,5), b varbinary(3))",
        "INSERT INTO t VALUES (18446744073709551615, '0000-00-00', '2024-01-01 00:00:00.5', 1.5, x'00FF')",
    )
    job.run()
    assert {one.reason.code for one in job.plan().values()} == {"unchanged"}
    report = verify(job.settings(), VerifyRequest(deep=True, against_source=True), job.events.append, NEVER)
    assert report is not None and not report.faulty_tables
    assert [(one.source.same, one.source.changed) for one in report.tables if one.source is not None] == [(1, 0)]
    table = open_reader(str(job.folder)).latest()[f"{job.my.name}.t"].arrow().read_all()
    (row,) = table.to_pylist()
    assert row["d"] is None and str(row["n"]) == "1.50000" and row["b"] == b"\x00\xff"
    assert row["m"].microsecond == 500_000 and int(row["id"]) == 2**64 - 1


def test_detect_always_asks_for_no_digest(job: Job) -> None:
    job.my.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    for _ in range(2):
        job.run(rules={"t": TableRule(detect="always")})
    assert job.how("t") == ("unchanged", "identical")


def test_masks_land_and_the_digest_follows_the_key(job: Job) -> None:
    job.my.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(9))", "INSERT INTO t VALUES (1, 'x')")
    rules = {"t": TableRule(columns=ColumnRule(mask={"v": "hash"}))}
    job.run(rules=rules, mask_key=Secret("one"))
    job.run(rules=rules, mask_key=Secret("one"))
    assert job.how("t") == ("unchanged", "unchanged")
    job.run(rules=rules, mask_key=Secret("two"))
    assert job.how("t") == ("extracted", "config_changed")


def everything(error: BaseException) -> str:
    """All that a log or a terminal could show of an error."""
    return "".join(traceback.format_exception(error)) + repr(error.args)


def test_chunks_that_are_proven_by_digest_are_audited_in_turn(job: Job) -> None:
    """A quarter a day: four or five days read each chunk again, also if the ranges get other numbers meanwhile."""
    fill(job.my)
    first = job.run().manifest.timestamp
    label = f"{job.my.name}.t"
    counts = []
    for day in range(6):
        if day == 2:
            job.my.execute("DELETE FROM t WHERE id < 2000")
        job.run(audit_share=25.0)
        counts.append(sum(isinstance(event, ChunkAudited) for event in job.events))
    entry = job.entry(label)
    assert entry.watermark is not None and all(count > 0 for count in counts)
    reads = [last_read(m, None if m.object is None else entry.objects[m.object]) for m in entry.watermark.chunks]
    assert min(reads) > first and len(reads) == len(entry.objects)
