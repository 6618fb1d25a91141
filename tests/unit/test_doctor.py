"""What the doctor makes of what was seen: judgements that no server can be brought to provoke, and `init`."""

from __future__ import annotations

import os
import pty
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from fix_canaries import CANARY, require_none
from fix_child import Child
from fix_command import Floodmark
from floodmark.cli.commands.doctor import _lines
from floodmark.config import Flags, load
from floodmark.config.template import TemplateChoices, template_text, yaml_scalar
from floodmark.doctor import examine
from floodmark.doctor.activity import FreeConnections, judged_room, judged_time_limits, judged_xid_age
from floodmark.doctor.finding import Finding
from floodmark.doctor.json_numbers import judged_json
from floodmark.doctor.landing import check_database_name, check_landing, check_sizes, is_wide, landing_zones
from floodmark.doctor.s3 import judged_rules, judged_skew
from floodmark.doctor.space import ReadingSizes, judged_folder, judged_spool, reading_sizes
from floodmark.doctor.state import judged_age, judged_last, judged_left, judged_runs
from floodmark.doctor.wal_summaries import WalOffer, judged_offer
from floodmark.model import Column, Ended, Fingerprint, TableName
from floodmark.objects.spool import SPOOL_MEMORY
from floodmark.observed import Part, TableInfo
from floodmark.state.manifest import Working

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BASE = {"FLOODMARK_SOURCE": "postgresql://db/cases", "FLOODMARK_DESTINATION": "s3://moj-reg-x/landing"}


@pytest.mark.parametrize(
    ("type_name", "wide"),
    [
        ("numeric", True),
        ("numeric[]", True),
        ("numeric(19,0)", True),
        ("numeric(20,2)", False),
        ("numeric(21,2)", True),
        ("numeric(17,-2)", True),
        ("numeric(18,0)", False),
        ("bigint", False),
        ("text", False),
    ],
)
def test_which_types_hold_an_integer_beyond_64_bits(type_name: str, wide: bool) -> None:
    assert is_wide(type_name) is wide


def test_old_transaction_ids_few_connections_and_short_idles() -> None:
    assert judged_xid_age("a", 999_999_999).result == "ok"
    assert "VACUUM (FREEZE)" in (judged_xid_age("a", 1_000_000_000).fix or "")
    assert judged_room(FreeConnections(4, None, None), 4, '"r"').result == "ok"
    few = judged_room(FreeConnections(90, 50, 3), 4, '"r"')
    assert few.result == "warning" and few.found == "4 are free (the database's limit), a run needs 5"
    assert "raise max_connections" in (judged_room(FreeConnections(1, None, None), 4, '"r"').fix or "")
    limits = judged_time_limits({"statement_timeout": 5000, "idle_session_timeout": 0}, 3600)
    assert limits.result == "ok" and limits.found.startswith("statement_timeout set here have no effect")


def test_clocks_ages_and_runs_that_died() -> None:
    assert [judged_skew("c", skew).result for skew in (59, -61, 901)] == ["ok", "warning", "problem"]
    assert [judged_age(hours * 3600).result for hours in (25, 27)] == ["ok", "warning"]
    assert [judged_age(seconds).found for seconds in (-2.5, 0.4, 65)] == ["0 s ago", "0 s ago", "1 min 5 s ago"]
    assert judged_age(27 * 3600).found.startswith("1 d 3 h ago:")
    run = Working(run_id="a-1", timestamp="t", progress="progress/a-1.json", started_at="2026-11-24T06:59:00Z")
    assert judged_runs([run], NOW, 5 * 3600).result == "warning"
    assert judged_runs([run], NOW, 6 * 3600).found == "at work, or killed since they began: a-1"


def test_a_failed_run_s_parts_are_called_kept_only_if_it_finished_any() -> None:
    moment = "2026-11-24T01:00:00.000Z"
    ended = Ended(run_id="a-1", database="cases", started_at=moment, ended_at=moment, outcome="failed", exit_code=10)
    refused = judged_last(ended, objects_stay=True)
    assert refused.result == "warning" and refused.found.startswith("a-1 failed with exit code 10")
    assert refused.fix == "Fix the setting that its log names."
    broken = replace(ended, exit_code=12, uploaded_bytes=5)
    assert judged_last(broken, objects_stay=True).fix == (
        "See its log for the cause. Its finished parts are kept: the next run continues from them."
    )
    assert judged_last(broken, objects_stay=False).fix == "See its log for the cause."


def test_a_stopped_run_is_told_as_stopped() -> None:
    moment = "2026-11-24T01:00:00.000Z"
    ended = Ended(
        run_id="a-1",
        database="cases",
        started_at=moment,
        ended_at=moment,
        outcome="stopped",
        exit_code=143,
        uploaded_bytes=5,
        chunks=1204,
        chunks_done=312,
    )
    told = judged_last(ended, objects_stay=True)
    assert told.found == f"a-1 was stopped with exit code 143 at {moment}"
    assert told.fix == (
        "A signal ended it. Start the next run. Its finished parts are kept: the next run continues from them."
    )
    assert judged_left([ended]).found == (
        f"left by a-1 (stopped at {moment}, 312 of 1,204 chunks done); the next run continues from them"
    )


def test_sqlite_s_journal_mode_gets_advice_for_sqlite(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.executescript("PRAGMA journal_mode = DELETE; CREATE TABLE t (id)")
    environ = {"FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/a.db", "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    (found,) = (one for one in examine(Flags(), environ) if one.check == "snapshot")
    assert found.result == "warning" and "journal mode is delete" in found.found
    assert "PRAGMA journal_mode = WAL" in (found.fix or "") and "PG" not in (found.fix or "")


@pytest.mark.parametrize(
    ("url", "found", "fix"),
    [
        ("sqlite:///{}/none.db", "SQLITE_CANTOPEN", "Check the address"),
        ("nonesuch://u:{canary}@h/db", "no SQLAlchemy dialect of this name", "spelling"),
        ("mysql+cymysql://u:{canary}@h/db", "this driver is not supported", "PyMySQL"),
    ],
)
def test_a_source_that_can_not_be_opened_is_the_database_s_problem(
    tmp_path: Path, url: str, found: str, fix: str
) -> None:
    source = url.format(tmp_path, canary=CANARY)
    environ = {"FLOODMARK_SOURCE": source, "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    told = {one.check: one for one in examine(Flags(), environ)}
    require_none(repr(told).encode())
    assert told["database"].result == "problem" and told["database"].exit_code in (10, 12)
    assert found in told["database"].found and fix in (told["database"].fix or "")
    assert told["tables"].result == "unknown"


def test_a_file_that_can_be_read_is_told(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.executescript("CREATE TABLE t (id)")
    environ = {"FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/a.db", "FLOODMARK_DESTINATION": str(tmp_path / "lake")}
    told = {one.check: one for one in examine(Flags(), environ)}
    assert f"sqlite:///{tmp_path}/a.db answers: SQLite 3." in told["database"].found


def test_a_rule_that_expires_data_is_seen_wherever_its_prefix_stands() -> None:
    abort: dict[str, Any] = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}, "Status": "Enabled"}

    def judged(prefix: str, **rule: Any) -> str:
        return judged_rules(
            "c", [abort, {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": prefix}, **rule}], "lake/"
        ).result

    expiring = {"Expiration": {"Days": 30}}
    assert [judged(prefix, **expiring) for prefix in ("", "lake/", "lake/data/", "other/")] == ["warning"] * 3 + ["ok"]
    assert (
        judged("", Expiration={"ExpiredObjectDeleteMarker": True}) == judged("", **expiring, Status="Disabled") == "ok"
    )
    assert judged_rules("c", [], "lake/").result == "warning"


def test_a_landing_zone_s_names_and_sizes() -> None:
    settings = load(Flags(), BASE)
    (zone,) = landing_zones(settings)
    for schema in ("public", "cases"):
        said = f"keys begin with data/database_name=cases_{schema}/ (for schema {schema})"
        assert check_database_name("cases", zone, schema).found == said

    def table(by_block: bool) -> TableInfo:
        part = Part("1", TableName("public", "t"), 1, 1, 4 * 1024**3, by_block, None if by_block else "a view")
        return TableInfo(
            table=part.table, oid=1, kind="table", columns=(Column("a", "text", True),), parts=(part,),
            fingerprint=Fingerprint("s", "c"),
        )  # fmt: skip

    most = 5 * 1024**3 - 1
    assert [next(iter(check_sizes([table(cut)], most, 64 << 20))).result for cut in (True, False)] == ["ok", "warning"]


NUMERIC = ["numeric", "numeric(19,0)", "numeric(38,0)", "numeric(20,-2)"]
TEXT = [
    "text",
    "citext",
    "name",
    "bpchar",
    "character varying",
    "character varying(20)",
    "character(20)",
    "json",
    "jsonb",
]
TEXT += ["bit varying", "bit(21)"]
NEITHER = [
    "numeric(18,0)",
    "numeric(30,2)",
    "numeric[]",
    "text[]",
    "bigint",
    "double precision",
    "uuid",
    "date",
    "bytea",
]
NEITHER += ["character varying(19)", "character(1)", '"char"', "bit(20)", "inet", "money", "int8range", "interval"]


def told_of_integers(types: Sequence[str], text: str, tmp_path: Path, place: str = "s3://moj-reg-x/y") -> Finding:
    return told_of(tuple(Column(f"c{number}", name, True) for number, name in enumerate(types)), text, tmp_path, place)


def told_of(columns: tuple[Column, ...], text: str, tmp_path: Path, place: str) -> Finding:
    name = TableName("public", "t")
    table = TableInfo(
        table=name, oid=1, kind="table", columns=columns, parts=(), fingerprint=Fingerprint("s", "c")
    )  # fmt: skip
    (tmp_path / "f.yaml").write_text(text)
    environ = {**BASE, "FLOODMARK_DESTINATION": place, "FLOODMARK_MASK_KEY": "k" * 32}
    settings = load(Flags(config=tmp_path / "f.yaml"), environ)
    return next(one for one in check_landing([table], "cases", settings, "public") if one.check == "landing: integers")


def test_a_domain_holds_the_numbers_of_what_lies_beneath(tmp_path: Path) -> None:
    domains = (Column("c0", "public.d", True, "numeric(12,2)"), Column("c1", "public.d", True, "numeric(30,0)"))
    for text in ("{}", "destination: {format: csv}"):
        found = told_of(domains, text, tmp_path, "s3://moj-reg-x/y")
        assert found.result == "warning" and re.findall(r"public\.t\.c(\d+)", found.found) == ["1"]


@pytest.mark.parametrize("place", ["s3://moj-reg-x/y", "s3://lake/cases"])
def test_in_csv_digits_of_any_type_are_told_of_and_what_helps(place: str, tmp_path: Path) -> None:
    text = "destination: {format: csv}\n"
    if place == "s3://lake/cases":
        text += "deliver: [{name: moj, url: s3://moj-reg-x/y, numbers: quote-large}]"
    found = told_of_integers([*NUMERIC, *NEITHER], text, tmp_path, place)
    assert found.result == "warning" and re.findall(r"public\.t\.c(\d+)", found.found) == list("0123")
    assert "quote-large" in found.fix and "jsonl" in found.fix and "mask" in found.fix  # type: ignore[operator]
    assert "--text" not in str(found)
    words = told_of_integers([*NEITHER, *TEXT], text, tmp_path, place)
    assert words.result == "unknown" and "the types don't show" in words.found and words.fix == found.fix
    named = [int(number) - len(NEITHER) for number in re.findall(r"public\.t\.c(\d+)", words.found)]
    assert named == list(range(10)) and "and 1 more" in words.found
    both = told_of_integers(["text", "numeric"], text, tmp_path, place)
    assert both.result == "warning" and re.findall(r"\.c(\d)", both.found) == ["1", "0"]
    assert told_of_integers(NEITHER, text, tmp_path, place).result == "ok"


def test_in_csv_what_is_masked_is_not_told_of(tmp_path: Path) -> None:
    rule = "tables: {rules: {t: {columns: {mask: {c0: hash}}}}}\ndestination: {format: csv}"
    assert told_of_integers(["text"], rule, tmp_path).result == "ok"
    assert re.findall(r"\.c(\d)", told_of_integers(["text", "text"], rule, tmp_path).found) == ["1"]


def test_in_json_lines_text_is_no_number(tmp_path: Path) -> None:
    found = told_of_integers([*NEITHER, *TEXT], "", tmp_path)
    assert found.result == "warning" and re.findall(r"\.c(\d+)", found.found) == ["1", "2"]
    assert told_of_integers(TEXT, "", tmp_path).result == "ok"


def test_free_space_is_enough_or_not() -> None:
    sizes = ReadingSizes(10**9, 64 * 1024**2, 4)
    assert judged_spool("/tmp", 10**6, replace(sizes, largest=SPOOL_MEMORY), 1).result == "ok"
    enough = judged_spool("/tmp", 268_435_456, sizes, 1)
    assert enough.result == "ok" and enough.found == "268 MB are free in /tmp; 4 objects at once can need 268 MB"
    assert judged_spool("/tmp", 268_435_455, sizes, 1).result == "warning"
    assert "805 MB" in judged_spool("/tmp", 10**8, sizes, 3).found and "TMPDIR" in (
        judged_spool("/tmp", 10**8, sizes, 3).fix or ""
    )
    assert [judged_folder("c", "/lake", free, 10**9).result for free in (10**9, 10**9 - 1)] == ["ok", "warning"]
    parts = (Part("1", TableName("s", "t"), 1, 10, 5_000_000, True), Part("2", TableName("s", "u"), 1, 0, 900, False))
    info = TableInfo(
        table=TableName("s", "t"), oid=1, kind="table", columns=(), parts=parts, fingerprint=Fingerprint("s", "c")
    )
    assert reading_sizes([info, replace(info, denied="no")], 4096, 2) == ReadingSizes(5_000_900, 4096, 2)
    assert reading_sizes([replace(info, parts=parts[1:])], 100, 2) == ReadingSizes(900, 900, 2)


def test_the_largest_object_of_a_large_table_is_one_of_its_larger_chunks() -> None:
    size = 100 * 1024**3
    part = Part("1", TableName("s", "t"), 1, size // 8192, size, True)
    info = TableInfo(
        table=TableName("s", "t"), oid=1, kind="table", columns=(), parts=(part,), fingerprint=Fingerprint("s", "c")
    )
    chunk = 64 * 1024**2
    assert reading_sizes([info], chunk, 2, grows=True).largest == 8 * chunk
    assert reading_sizes([info], chunk, 2).largest == chunk


def test_a_sample_of_json_tells_of_columns_and_not_of_values() -> None:
    assert judged_json([], 2, 0).result == "unknown" and "could not be sampled" not in judged_json([], 2, 0).found
    many = judged_json([f"t.c{n}" for n in range(12)], 12, 3)
    assert many.result == "warning" and "t.c9 and 2 more: integers" in many.found


EVIL = 'a "b" \n# c: [\x85\u2028\x1b'


def test_a_check_s_name_has_less_room_on_a_narrow_terminal() -> None:
    wide = _lines(Finding(check="head", result="ok", found="a finding"), None)
    assert wide == [f"{'head':28}  a finding"]
    assert _lines(Finding(check="head", result="ok", found="a finding"), 80) == [f"{'head':22}  a finding"]
    assert _lines(Finding(check="destination: database name", result="ok", found="a finding"), 80) == [
        "destination: database name",
        f"{'':35}a finding",
    ]


@pytest.mark.parametrize(
    ("source", "variable"),
    [
        ("postgresql://u@h/d", "PGPASSWORD"),
        ("mariadb://u@h/d", "MYSQL_PWD"),
        ("mysql+pymysql://u@h/d", "MYSQL_PWD"),
        ("mssql+pyodbc://u@h/d", "FLOODMARK_SOURCE"),
        ("sqlite:///x.db", None),
    ],
)
def test_the_template_names_the_variable_for_the_password(source: str, variable: str | None) -> None:
    text = template_text(TemplateChoices(source=source, destination="/a"))
    named = {name for name in ("PGPASSWORD", "MYSQL_PWD", "PGHOST", "FLOODMARK_SOURCE") if name in text}
    assert named == ({variable, "FLOODMARK_SOURCE"} if variable else set())


def test_what_init_writes_is_accepted_with_and_without_its_suggestions(tmp_path: Path) -> None:
    wanted = TemplateChoices(
        destination="s3://a/b", found=[EVIL], suggestions={'public."a b"': {"email": "redact", "x: #": "null"}}
    )
    text = template_text(wanted)
    for content in (text, re.sub(r"^  # (rules:|  \")", r"  \1", text, flags=re.MULTILINE)):
        (tmp_path / "f.yaml").write_text(content)
        settings = load(Flags(config=tmp_path / "f.yaml"), {"FLOODMARK_SOURCE": "sqlite:///a.db"})
        assert settings.destination.url == "s3://a/b" and settings.source.wait_seconds == 600
    assert settings.selection.rules['public."a b"'].columns.mask == {"email": "redact", "x: #": "null"}
    assert yaml.safe_load(yaml_scalar(EVIL)) == EVIL and len(yaml_scalar(EVIL).splitlines()) == 1
    full = template_text(TemplateChoices(source="postgresql://u@h/d", destination="/a", state="/b", layout="plain"))
    assert re.findall(r"^ *\w+: \S", full, re.MULTILINE), full
    for number, line in enumerate(lines := full.splitlines()):
        if re.match(r"  \w", line):
            assert lines[number - 1].startswith("  #"), f"{line} is not explained"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.executescript(f"CREATE TABLE person (id, email, notes); INSERT INTO person VALUES (1, '{CANARY}', 1)")
    return tmp_path


def test_init_takes_flags_where_no_one_can_be_asked(folder: Path) -> None:
    job = Floodmark(folder, {})
    assert "no destination is given" in job("init", code=2).err and not (folder / "floodmark.yaml").exists()
    told = job("init", "--source", "sqlite:///a.db", "--destination", "./lake").out
    assert "1 column might hold personal data" in told and "Next: floodmark doctor" in told
    text = (folder / "floodmark.yaml").read_text()
    assert '#   main.person: {columns: {mask: {"email": "hash"}}}' in text.replace('"main.person"', "main.person")
    require_none(text)
    assert "the configuration file already exists" in job("init", "--destination", "./x", code=2).err
    assert (folder / "floodmark.yaml").read_text() == text
    job("doctor")
    job("run")
    password = ("init", "--source", f"postgresql://u:{CANARY}@h/d", "--destination", "./x", "--config", "b.yaml")
    assert "a password on the command line is refused" in job(*password, code=10).err
    gone = job("init", "--source", "postgresql://u@127.0.0.1:1/d", "--destination", "./x", "--config", "b.yaml")
    assert "could not be inspected" in gone.err and "no server listens" in gone.err
    assert "can't be written" in job("init", "--destination", "./x", "--config", "none/c.yaml", code=2).err
    secret = {"FLOODMARK_SOURCE": f"postgresql://u:{CANARY}@127.0.0.1:1/d"}
    job("init", "--destination", "./x", "--config", "d.yaml", environment=secret)
    require_none(folder / "d.yaml")


def asked(folder: Path, answers: Mapping[str, str]) -> tuple[int, str]:
    """Run `init` on a terminal, and answer each question by what stands in it."""
    ours, theirs = pty.openpty()
    job = Floodmark(folder, {})
    process = Child(job.command("init"), stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=job.environment)
    os.close(theirs)
    said, waiting = "", ""
    try:
        while data := os.read(ours, 4096):
            said += data.decode()
            waiting += data.decode()
            for question, answer in answers.items():
                if question in waiting and waiting.rstrip(" ").endswith(":"):
                    os.write(ours, f"{answer}\n".encode())
                    waiting = ""
    except OSError:  # the terminal's other end is gone
        pass
    os.close(ours)
    return process.wait(60), said


def test_init_asks_on_a_terminal(folder: Path) -> None:
    code, said = asked(folder, {"Database": "sqlite:///a.db", "Destination": "./lake", "State": ""})
    assert code == 0, said
    settings = load(Flags(config=folder / "floodmark.yaml"), {})
    assert settings.source.url is not None and settings.source.url.reveal() == "sqlite:///a.db"
    assert settings.destination.url == "./lake" and settings.state_url == "./lake/_floodmark/"


def test_channels_are_checked_without_a_message_and_their_variables_are_known(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        """
notify:
  - {to_env: FLOODMARK_SLACK, on: [succeeded]}
  - {to_env: CHAT, on: [stopped]}
  - {to: "https://hooks.example.org/x", secret_env: FLOODMARK_SECRET, on: [partial]}
"""
    )
    environ = {
        "FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/a.db",
        "FLOODMARK_DESTINATION": str(tmp_path / "out"),
        "FLOODMARK_SLACK": f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr{CANARY}z9",
        "FLOODMARK_SECRET": CANARY,
        "CHAT": f"nosuchservice://{CANARY}",
    }
    found = {one.check: one for one in examine(Flags(config=file), environ) if one.check.startswith(("notify", "conf"))}
    assert {name: one.result for name, one in found.items()} == {
        "configuration": "ok",
        "notify: slack": "ok",
        "notify: nosuchservice": "problem",
        "notify: hooks.example.org": "ok",
        "notify": "warning",
    }
    assert "notify test" in found["notify: hooks.example.org"].found
    assert "no channel is told of failed runs" in found["notify"].found
    require_none(str(found))


# WAL summaries

OFFER = WalOffer(True, False, False, True, True)


@pytest.mark.parametrize(
    ("offer", "wait", "result", "told"),
    [
        (OFFER, 30, "ok", "waits up to 30 s, and can make a checkpoint"),
        (replace(OFFER, may_checkpoint=False), 30, "ok", 'GRANT pg_checkpoint TO "fl";'),
        (OFFER, 0, "ok", "limits.wal_summary_wait is 0"),
        (replace(OFFER, summarize=False), 30, "ok", "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();"),
        (replace(OFFER, summarize=False, minimal=True), 30, "ok", "wal_level = replica, a restart"),
        (replace(OFFER, in_recovery=True), 30, "ok", "not used on a standby"),
        (replace(OFFER, readable=False), 30, "warning", "the role may not read them"),
    ],
)
def test_what_the_server_offers_of_wal_summaries(offer: WalOffer, wait: int, result: str, told: str) -> None:
    finding = judged_offer(offer, '"fl"', wait)
    assert (finding.check, finding.result) == ("wal summaries", result)
    assert told in finding.found
