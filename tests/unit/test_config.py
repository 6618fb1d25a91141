"""Settings: what file, environment and flags make together, and how each wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.pretty import pretty_repr

from floodmark.config import Flags, Guards, Secret, Settings, load
from floodmark.errors import ConfigError

CANARY = "c4n4ry-hunter2"
BASE = {"FLOODMARK_SOURCE": "postgresql://u@h/db", "FLOODMARK_DESTINATION": "s3://mine/lake"}
LANDING = {"FLOODMARK_SOURCE": "postgresql://u@h/db", "FLOODMARK_DESTINATION": "s3://moj-reg-dev/landing/x"}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def from_file(text: str, environ: dict[str, str] | None = None, **flags: object) -> Settings:
    Path("floodmark.yaml").write_text(text, encoding="utf-8")
    return load(Flags(**flags), BASE if environ is None else environ)  # type: ignore[arg-type]


def refusal(text: str | None, environ: dict[str, str] | None = None, **flags: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        if text is None:
            load(Flags(**flags), BASE if environ is None else environ)  # type: ignore[arg-type]
        else:
            from_file(text, environ, **flags)
    assert caught.value.exit_code == 10
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("detect: journal", "detect (floodmark.yaml)"),
        ("tables: {rules: {public.a: {detect: journal}}}", "tables.rules.public.a.detect (floodmark.yaml)"),
        ("tables: {rules: {public.a: {detect: column, column: c}}}", "tables.rules.public.a.detect (floodmark.yaml)"),
    ],
)
def test_some_ways_of_detection_are_for_postgresql(text: str, on: str) -> None:
    found = refusal(text, {**BASE, "FLOODMARK_SOURCE": "sqlite:///file.db"})
    assert found.on == on and found.why is not None and found.why.endswith("works on PostgreSQL only")
    assert from_file(text).selection


def test_defaults_need_only_a_source_and_a_destination() -> None:
    settings = load(Flags(), BASE)
    assert settings.source.url == Secret("postgresql://u@h/db")
    assert settings.destination.url == "s3://mine/lake"
    assert (settings.destination.layout, settings.destination.compression) == ("plain", "gzip")
    assert settings.destination.acl is None and settings.destination.sse is None
    assert settings.state_url == "s3://mine/lake/_floodmark/"
    assert settings.selection.include == ("*.*",)
    assert settings.selection.detect == "exact"
    assert settings.chunk_bytes == 64 * 1024**2
    assert (settings.limits.connections, settings.limits.max_snapshot_age) == (4, 14400)
    assert (settings.limits.statement_timeout, settings.limits.lock_timeout) == (3600, 60)
    assert settings.audit_share == 0.5 and settings.audit
    assert not settings.full and not settings.adopt_source


def test_every_key_arrives() -> None:
    settings = from_file(
        """
        source: {url: "postgresql://u:pw@h:5433/db", wait_seconds: 600}
        destination:
          url: s3://mine/lake
          layout: plain
          format: jsonl
          compression: zstd
          database_name: svc_db
          acl: private
          sse: aws:kms
          kms_key_id: alias/k
          resend_after_days: 3
          allow_unconditional_writes: true
        state: {url: s3://mine/state}
        tables:
          include: ["public.*", 'audit."a.b"']
          exclude: ["*.history"]
          new: fail
          rules:
            public.person: {columns: {exclude: [notes], mask: {nino: hash, phone: redact}}, where: "not test_data"}
            public.log: {detect: column, column: updated_at}
            public.all: {detect: always}
        chunk_size: 8KiB
        detect: exact
        limits: {connections: 2, max_snapshot_age: 1h30m, statement_timeout: 90, lock_timeout: 5s}
        audit: {share: 0.25%}
        """,
        {"FLOODMARK_MASK_KEY": "k"},
    )
    assert settings.source.url == Secret("postgresql://u:pw@h:5433/db")
    assert settings.source.wait_seconds == 600
    chosen = settings.destination
    assert (chosen.compression, chosen.database_name, chosen.acl, chosen.sse) == (
        "zstd",
        "svc_db",
        "private",
        "aws:kms",
    )
    assert (chosen.kms_key_id, chosen.resend_after_days, chosen.allow_unconditional_writes) == ("alias/k", 3, True)
    assert settings.state_url == "s3://mine/state"
    assert settings.selection.include == ("public.*", 'audit."a.b"')
    assert settings.selection.exclude == ("*.history",)
    assert settings.selection.new == "fail"
    rules = settings.selection.rules
    assert rules["public.person"].columns.exclude == ("notes",)
    assert rules["public.person"].columns.mask == {"nino": "hash", "phone": "redact"}
    assert rules["public.person"].where == "not test_data"
    assert (rules["public.log"].detect, rules["public.log"].column) == ("column", "updated_at")
    assert rules["public.all"].detect == "always"
    assert settings.selection.mask_key == Secret("k")
    assert settings.chunk_bytes == 8192
    assert (settings.limits.connections, settings.limits.max_snapshot_age) == (2, 5400)
    assert (settings.limits.statement_timeout, settings.limits.lock_timeout) == (90, 5)
    assert settings.audit_share == 0.25


def test_flags_win_over_the_environment_and_that_over_the_file() -> None:
    text = """
    source: {url: sqlite:///file.db}
    destination: {url: s3://file/d}
    state: {url: s3://file/s}
    limits: {connections: 7}
    """
    settings = from_file(text, {})
    assert settings.source.url == Secret("sqlite:///file.db")
    assert (settings.destination.url, settings.state_url) == ("s3://file/d", "s3://file/s")
    assert settings.limits.connections == 7
    environ = {
        "FLOODMARK_SOURCE": "sqlite:///env.db",
        "FLOODMARK_DESTINATION": "s3://env/d",
        "FLOODMARK_STATE": "s3://env/s",
    }
    settings = from_file(text, environ)
    assert settings.source.url == Secret("sqlite:///env.db")
    assert (settings.destination.url, settings.state_url) == ("s3://env/d", "s3://env/s")
    flags = {"source": Secret("sqlite:///flag.db"), "destination": "s3://flag/d", "state": "s3://flag/s"}
    settings = from_file(text, environ, **flags, connections=9)
    assert settings.source.url == Secret("sqlite:///flag.db")
    assert (settings.destination.url, settings.state_url) == ("s3://flag/d", "s3://flag/s")
    assert settings.limits.connections == 9


def test_switches_and_tables_of_the_command_line_arrive() -> None:
    settings = from_file(
        "tables: {exclude: [a.b]}",
        full=True,
        adopt_source=True,
        allow_unconditional_writes=True,
        tables=("public.x",),
        exclude=("public.y",),
    )
    assert settings.full and settings.adopt_source and settings.destination.allow_unconditional_writes
    assert (settings.selection.only, settings.selection.skip) == (("public.x",), ("public.y",))
    assert settings.selection.exclude == ("a.b",)


def test_s3_destination_is_understood_and_gives_way() -> None:
    old = {"FLOODMARK_SOURCE": "sqlite:///a.db", "S3_DESTINATION": "s3://old/x"}
    assert load(Flags(), old).destination.url == "s3://old/x"
    assert load(Flags(), {**old, "FLOODMARK_DESTINATION": "s3://new/x"}).destination.url == "s3://new/x"


def test_an_empty_variable_counts_as_not_set() -> None:
    environ = {"FLOODMARK_SOURCE": "", "FLOODMARK_DESTINATION": "", "FLOODMARK_STATE": ""}
    settings = from_file("source: {url: sqlite:///a.db}\ndestination: {url: /data/out}", environ)
    assert settings.source.url == Secret("sqlite:///a.db")
    assert settings.state_url == "/data/out/_floodmark/"


@pytest.mark.parametrize("variable", ["PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"])
def test_libpq_variables_stand_in_for_a_url(variable: str) -> None:
    settings = load(Flags(destination="/data"), {variable: "./x"})
    assert settings.source.url is None


def test_reading_the_state_needs_no_source_and_no_destination() -> None:
    settings = load(Flags(state="s3://mine/state"), {}, state_only=True)
    assert settings.state_url == "s3://mine/state" and settings.destination.url == ""
    assert load(Flags(destination="./out"), {}, state_only=True).state_url == "./out/_floodmark/"
    with pytest.raises(ConfigError, match=r"destination\.url"):
        load(Flags(), {}, state_only=True)


def test_reading_the_state_needs_no_mask_key() -> None:
    text = "tables: {rules: {public.a: {columns: {mask: {b: hash}}}}}"
    Path("floodmark.yaml").write_text(text)
    assert load(Flags(), BASE, state_only=True).state_url == "s3://mine/lake/_floodmark/"


@pytest.mark.parametrize(
    ("text", "size"),
    [("8KiB", 8192), ("64MiB", 67108864), ("1GiB", 1024**3), ("16384", 16384), ("20000 B", 20000)],
)
def test_sizes(text: str, size: int) -> None:
    assert from_file(f"chunk_size: {text}").chunk_bytes == size


@pytest.mark.parametrize(("text", "time"), [("90", 90), ("90s", 90), ("15m", 900), ("4h", 14400), ("1d12h", 129600)])
def test_durations(text: str, time: int) -> None:
    assert from_file(f"limits: {{statement_timeout: {text}}}").limits.statement_timeout == time


def test_a_file_may_be_empty_and_sections_too() -> None:
    assert from_file("") == load(Flags(), BASE)
    assert from_file("tables:\nlimits:\n  connections:\n") == load(Flags(), BASE)


def test_mask_null_is_understood_as_yaml_reads_it() -> None:
    text = "tables: {rules: {public.a: {columns: {mask: {b: null, c: 'null', d: redact}}}, public.empty: }}"
    rules = from_file(text).selection.rules
    assert rules["public.a"].columns.mask == {"b": "null", "c": "null", "d": "redact"}
    assert rules["public.empty"].where is None


def test_anchors_and_merges_are_no_duplicates() -> None:
    text = """
    tables:
      rules:
        public.a: &rule {where: "x > 1", detect: always}
        public.b: *rule
        public.c: {<<: *rule, where: "y > 1"}
    """
    rules = from_file(text).selection.rules
    assert rules["public.a"] == rules["public.b"]
    assert (rules["public.c"].where, rules["public.c"].detect) == ("y > 1", "always")


# --- layouts ---------------------------------------------------------------------------------------------------


def test_a_landing_zone_is_recognised_and_its_demands_are_met() -> None:
    settings = load(Flags(), LANDING)
    chosen = settings.destination
    assert (chosen.layout, chosen.compression) == ("moj-landing", "none")
    assert (chosen.acl, chosen.sse) == ("bucket-owner-full-control", "AES256")
    assert settings.state_url is None


def test_a_landing_zone_with_state_elsewhere() -> None:
    assert load(Flags(state="s3://mine/state"), LANDING).state_url == "s3://mine/state"


def test_a_layout_that_is_set_wins_over_the_buckets_name() -> None:
    settings = from_file("destination: {layout: plain}", LANDING)
    assert (settings.destination.layout, settings.destination.compression) == ("plain", "gzip")
    assert settings.state_url == "s3://moj-reg-dev/landing/x/_floodmark/"
    assert from_file("destination: {layout: moj-landing}").destination.compression == "none"


def test_a_landing_zone_in_a_folder_gets_no_s3_settings() -> None:
    settings = from_file("destination: {url: ./out, layout: moj-landing}", {"PGHOST": "h"})
    assert (settings.destination.acl, settings.destination.sse, settings.state_url) == (None, None, None)


def test_own_acl_and_sse_win_over_the_layouts() -> None:
    chosen = from_file("destination: {acl: private, sse: aws:kms, kms_key_id: k}", LANDING).destination
    assert (chosen.acl, chosen.sse, chosen.kms_key_id) == ("private", "aws:kms", "k")


@pytest.mark.parametrize(
    ("text", "environ", "parts"),
    [
        ("destination: {compression: gzip}", LANDING, ["destination.compression", "contradicts", "moj-landing"]),
        ("destination: {compression: zstd}", LANDING, ["destination.compression", "contradicts", "moj-landing"]),
        ("destination: {database_name: mydb}", LANDING, ["destination.database_name", "underscore"]),
        ("state: {url: s3://moj-reg-dev/other}", LANDING, ["state.url", "receiver moves", "FLOODMARK_STATE"]),
        ("state: {url: s3://moj-reg-prod/other}", LANDING, ["state.url", "receiver moves", "FLOODMARK_STATE"]),
        (
            "destination: {layout: moj-landing}",
            {**BASE, "FLOODMARK_STATE": "s3://mine/elsewhere"},
            ["FLOODMARK_STATE", "receiver moves"],
        ),
        (
            "destination: {layout: moj-landing, url: ./out}\nstate: {url: ./out/state}",
            {"PGHOST": "h"},
            ["state.url", "receiver moves"],
        ),
        ("tables: {new: fail}", LANDING, ["tables.new", "fail needs a state", "FLOODMARK_STATE"]),
    ],
)
def test_what_contradicts_a_landing_zone(text: str, environ: dict[str, str], parts: list[str]) -> None:
    message = str(refusal(text, environ))
    assert all(part in message for part in parts), message


# --- the file --------------------------------------------------------------------------------------------------

WRONG_FILES = [
    # unknown keys
    ("sorce: {url: x}", ["sorce", "unknown key", "Did you mean source?"]),
    ("source: {ulr: x}", ["source.ulr", "unknown key", "Did you mean url?", "wait_seconds"]),
    ("guards: {tables_gone: off}", ["guards.tables_gone", "a percentage such as 50%, or accept, not true or false"]),
    ("guards: {rows_removed: 101%}", ["guards.rows_removed", "a percentage such as 50%, or accept", "0% to 100%"]),
    ("guards: {rows_removed: most}", ["guards.rows_removed", "a percentage"]),
    ("guards: {first_run_empty: acept}", ["guards.first_run_empty", "Did you mean accept?"]),
    ("destination: {layuot: plain}", ["destination.layuot", "Did you mean layout?"]),
    ("tables: {includes: [a]}", ["tables.includes", "Did you mean include?"]),
    ("tables: {rules: {public.a: {wear: x}}}", ["tables.rules.public.a.wear", "Did you mean where?"]),
    ("tables: {rules: {public.a: {columns: {masks: {}}}}}", ["tables.rules.public.a.columns.masks", "mask?"]),
    ("limits: {conections: 3}", ["limits.conections", "Did you mean connections?"]),
    ("audit: {chunks: 3}", ["audit.chunks", "chunks_per_run"]),
    ("audit: {chunks_per_run: 3}", ["audit.chunks_per_run", "a share of the proven bytes", "audit: {share: 0.5%}"]),
    ("audit: {chunks_per_run: 0, share: 1%}", ["audit.chunks_per_run", "remove the key"]),
    ("audit: {share: 101%}", ["audit.share", "a percentage such as 2% or 0.5%", "0% to 100%"]),
    ("audit: {share: most}", ["audit.share", "a percentage"]),
    ("audit: {share: 0.0001}", ["audit.share"]),
    ("zzz:", ["zzz", "unknown key", "The file takes: source, destination"]),
    # wrong types
    ("- a\n- b", ["top level", "expected keys, not a list"]),
    ("just text", ["top level", "expected keys, not text"]),
    ("source: sqlite:///x.db", ["source", "expected keys, not text"]),
    ("source: {url: 5}", ["source.url", "expected text, not a whole number", "quotes"]),
    ("source: {wait_seconds: '5'}", ["source.wait_seconds", "a whole number from 0", "not text"]),
    ("source: {wait_seconds: -1}", ["source.wait_seconds", "a whole number from 0"]),
    ("source: {wait_seconds: true}", ["source.wait_seconds", "not true or false"]),
    ("source: {wait_seconds: 1.5}", ["source.wait_seconds", "not a fraction"]),
    ("audit: {share: 0.5}", ["audit.share", "a percentage such as 0.5%, not a fraction"]),
    ("destination: {resend_after_days: 0}", ["destination.resend_after_days", "not a smaller one"]),
    ("destination: {allow_unconditional_writes: 1}", ["destination.allow_unconditional_writes", "true or false"]),
    ("tables: {include: public.*}", ["tables.include", "expected a list, not text", "include: ["]),
    ("tables: {include: [public.a, 7]}", ["tables.include[1]", "expected text", "quotes"]),
    ("tables: {exclude: {a: b}}", ["tables.exclude", "expected a list"]),
    ("tables: {rules: [public.a]}", ["tables.rules", "expected keys, not a list"]),
    ("tables: {rules: {1: {}}}", ["tables.rules", "a key is a whole number, not text", "quotes"]),
    ("tables: {rules: {public.a: {where: true}}}", ["tables.rules.public.a.where", "expected text", "quotes"]),
    ("tables: {rules: {public.a: {columns: {exclude: [no]}}}}", ["public.a.columns.exclude[0]", "quotes"]),
    ("tables: {rules: {public.a: {columns: {mask: {null: hash}}}}}", ["public.a.columns.mask", "quotes"]),
    ("limits: {connections: 0}", ["limits.connections", "from 1 to 128, not a smaller one"]),
    ("limits: {connections: 129}", ["limits.connections", "from 1 to 128, not a larger one"]),
    ("audit: {chunks_per_run: -1}", ["audit.chunks_per_run", "from 0"]),
    # words
    ("destination: {layout: plian}", ["destination.layout", "Did you mean plain?", "plain or moj-landing"]),
    ("destination: {compression: bzip2}", ["destination.compression", "gzip, zstd or none"]),
    ("destination: {acl: public-read}", ["destination.acl", "bucket-owner-full-control"]),
    ("destination: {sse: aes256}", ["destination.sse", "AES256"]),
    ("tables: {new: exclude}", ["tables.new", "Did you mean include?", "include or fail"]),
    ("detect: exactly", ["detect", "Did you mean exact?"]),
    ("tables: {rules: {public.a: {detect: sometimes}}}", ["tables.rules.public.a.detect", "exact"]),
    ("tables: {rules: {public.a: {columns: {mask: {nino: hsh}}}}}", ["public.a.columns.mask.nino", "hash?"]),
    # later
    ("destination: {format: parquet}", ["destination.format", "jsonl or csv"]),
    # deliveries
    ("deliver: [{name: moj}]", ["deliver[0].url", "the url is missing"]),
    ("deliver: [{url: s3://zone/x}]", ["deliver[0].name", "letters, digits"]),
    ("deliver: [{name: a/b, url: s3://zone/x}]", ["deliver[0].name", "letters, digits"]),
    ("deliver: {name: a}", ["deliver", "expected a list"]),
    ("deliver: [moj]", ["deliver[0]", "expected keys"]),
    ("deliver: [{name: a, url: s3://z/x, resend_after_days: 0}]", ["resend_after_days", "not a smaller one"]),
    ("deliver: [{nme: moj}]", ["deliver[0].nme", "name?"]),
    ("deliver: [{name: a, url: s3://z/x}, {name: a, url: s3://y/x}]", ["deliver", "two deliveries are named a"]),
    (
        "deliver: [{name: a, url: s3://z/x}, {name: b, url: s3://z/x/}]",
        ["deliver", "a and another write to the same place"],
    ),
    (
        "deliver: [{name: a, url: s3://moj-reg-x/x, compression: keep}]",
        ["deliver[0].compression", "uncompressed files"],
    ),
    ("deliver: [{name: a, url: s3://moj-reg-x/x, database_name: b}]", ["deliver[0].database_name", "underscore"]),
    ("deliver: [{name: a, url: /x, acl: private}]", ["deliver[0].acl", "a local folder"]),
    ("deliver: [{name: a, url: s3://z/x, kms_key_id: k}]", ["deliver[0].kms_key_id", "aws:kms"]),
    ("deliver: [{name: a, url: s3://mine/lake/x}]", ["deliver", "a and the destination overlap"]),
    ("destination: {layout: moj-landing}\ndeliver: [{name: a, url: s3://z/x}]", ["deliver", "itself a landing zone"]),
    # sizes and durations
    ("chunk_size: 64MB", ["chunk_size", "expected a size", "MiB"]),
    ("chunk_size: large", ["chunk_size", "expected a size"]),
    ("chunk_size: 4KiB", ["chunk_size", "out of range", "8KiB"]),
    ("chunk_size: 8191", ["chunk_size", "out of range"]),
    ("chunk_size: 5GiB", ["chunk_size", "out of range", "4GiB"]),
    ("chunk_size: 1.5", ["chunk_size", "not a fraction"]),
    ("limits: {max_snapshot_age: 4 hours}", ["limits.max_snapshot_age", "expected a duration", "4h"]),
    ("limits: {max_snapshot_age: 25h}", ["limits.max_snapshot_age", "out of range", "1s to 24h"]),
    ("limits: {max_snapshot_age: 0}", ["limits.max_snapshot_age", "out of range"]),
    ("limits: {statement_timeout: 25d}", ["limits.statement_timeout", "out of range", "24d"]),
    ("limits: {lock_timeout: -5}", ["limits.lock_timeout", "expected a duration"]),
    # contradictions
    ("tables: {include: []}", ["tables.include", "no table would be extracted"]),
    ("tables: {include: ['']}", ["tables.include", "a pattern is empty"]),
    ("tables: {include: [a.b, c.d], exclude: [c.d]}", ["tables.include and tables.exclude", "contradict", "c.d"]),
    ("detect: column", ["detect", "tables.rules.<schema.table>"]),
    ("tables: {rules: {public.a: {detect: column}}}", ["tables.rules.public.a.column", "needs a column", "updated_at"]),
    ("tables: {rules: {public.a: {column: u}}}", ["tables.rules.public.a.column", "contradicts detect: exact"]),
    (
        "tables: {rules: {public.a: {columns: {exclude: [n], mask: {n: redact}}}}}",
        ["tables.rules.public.a.columns.mask", "columns.exclude leaves out n"],
    ),
    (
        "tables: {rules: {public.a: {columns: {mask: {n: hash}}}}}",
        ["tables.rules.public.a.columns.mask", "FLOODMARK_MASK_KEY"],
    ),
    ("destination: {kms_key_id: k}", ["destination.kms_key_id", "aws:kms"]),
    ("destination: {kms_key_id: k, sse: AES256}", ["destination.kms_key_id", "aws:kms"]),
    ("destination: {database_name: ''}", ["destination.database_name", "empty"]),
]


@pytest.mark.parametrize(("text", "parts"), WRONG_FILES, ids=[text[:60] for text, _ in WRONG_FILES])
def test_a_wrong_file_is_told_by_key_file_and_hint(text: str, parts: list[str]) -> None:
    message = str(refusal(text))
    assert "floodmark.yaml" in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("field", ["acl: private", "sse: AES256", "sse: aws:kms"])
def test_s3_settings_contradict_a_folder(field: str) -> None:
    message = str(refusal(f"destination: {{url: ./out, {field}}}", {"PGHOST": "h"}))
    assert f"destination.{field.split(':')[0]}" in message and "local folder" in message


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("''", "empty"),
        ('"  "', "empty"),
        ('"a; drop table b"', "semicolon"),
        ('"a -- b"', "comment"),
        ('"a /* b */"', "comment"),
        ('"a */ b"', "comment"),
        ('"(a"', "has no closing one"),
        ('"a)"', "has no opening one"),
        ('"a) or (b"', "has no opening one"),
        ('"a = \'b"', "literal does not end"),
        ("'a = \"b'", "quoted name does not end"),
        ('"a = $$b$$"', "dollar"),
        ('"a = $1"', "dollar"),
        ("\"a = E'\\\\'b'\"", "backslash before a quote"),
    ],
)
def test_a_filter_that_is_not_one_condition(condition: str, why: str) -> None:
    message = str(refusal(f"tables: {{rules: {{public.a: {{where: {condition}}}}}}}"))
    assert "tables.rules.public.a.where" in message and why in message


@pytest.mark.parametrize(
    "condition",
    [
        "not test_data",
        "(a = 1 or b = 2) and c in (1, 2)",
        "a = ';' and b = '--' and c = '/*' and d = '('",
        "a = 'it''s (' ",
        '"odd (name; --" = 1',
        '"a""b(" is null',
        "a$b > 1",
        "a\n> 1",
        "price - -1 > 0",
        "path = 'C:\\dir'",
    ],
)
def test_a_filter_that_may_be_one(condition: str) -> None:
    indented = condition.replace("\n", "\n          ")
    text = f"tables:\n  rules:\n    public.a:\n      where: |-\n          {indented}\n"
    assert from_file(text).selection.rules["public.a"].where == condition


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"source:\n  url: {CANARY}: x: y\n", "line 2, column"),
        (f"source: {{url: *{CANARY}}}", "line 1, column"),
        (f"source: {{url: !{CANARY} x}}", "line 1, column"),
        (f"source: {{url: !!python/object:{CANARY} x}}", "line 1, column"),
        (f"source: {{url: '{CANARY}", "line 1, column"),
        (f"source: [{CANARY}", "line 1, column"),
        (f"source:\n\turl: {CANARY}\n", "line 2, column"),
        (f"{CANARY}\n---\n{CANARY}\n", "line 2, column"),
        (f"a: 1\nurl: %{CANARY}\n", "line 2, column"),
        (f'url: "\\q{CANARY}"', "line 1, column"),
        (f"a: 1\nurl: {CANARY}\x07\n", "line 2, column 20"),
        (f"limits: {{connections: 2026-13-45}}\n# {CANARY}", "ValueError"),
        ("[" * 3000 + CANARY, "RecursionError"),
        (f"? [{CANARY}]\n: 1", "line 1, column"),
    ],
)
def test_broken_yaml_is_told_by_its_place_and_never_quoted(text: str, place: str) -> None:
    error = refusal(text)
    assert place in str(error) and "floodmark.yaml" in str(error)
    assert CANARY not in str(error)
    assert error.__cause__ is None and error.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        "detect: exact\ndetect: always",
        'detect: exact\n"detect": always',
        "source: {url: a}\nlimits: {connections: 1}\nsource: {url: b}",
        "tables:\n  rules:\n    public.a: {}\n    public.a: {}",
        "tables: {rules: {public.a: {columns: {mask: {b: hash, b: redact}}}}}",
    ],
)
def test_a_key_that_appears_twice_is_an_error(text: str) -> None:
    message = str(refusal(text))
    assert "appears twice" in message and "floodmark.yaml, line" in message


def test_a_value_is_never_repeated() -> None:
    secret = f"postgresql://u:{CANARY}@h/db"
    wrong = [
        f"{{source: {{'{secret}': }}}}",
        f"source: {{url: x, '{secret}': 1}}",
        f"'{secret}': 1",
        f"'{secret}': 1\n'{secret}': 2",
        f"source: '{secret}'",
        f"source: {{wait_seconds: '{secret}'}}",
        f"destination: {{layout: '{secret}'}}",
        f"destination: {{url: '{secret}'}}",
        f"state: {{url: '{secret}'}}",
        f"chunk_size: '{secret}'",
        f"limits: {{lock_timeout: '{secret}'}}",
        f"tables: {{include: '{secret}'}}",
        f"tables: {{rules: {{public.a: {{where: 'x = ''{CANARY}'' --'}}}}}}",
        f"source: {{url: 'mysql://u:{CANARY}@h/db'}}",
        f"source: {{url: 'postgresql://u:{CANARY}@h:port/db'}}",
        f"source: {{url: 'postgresql://u:x@{CANARY}@h/db'}}",
        f"source: {{url: 'postgresql://u/x:{CANARY}@h/db'}}",
        f"source: {{url: 'host=h password={CANARY}'}}",
    ]
    for text in wrong:
        message = str(refusal(text, {"FLOODMARK_DESTINATION": "s3://mine/x"} if "postgres" in text else {}))
        assert CANARY not in message, text


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\xff\xfe", "byte 0 is not UTF-8"), (b"detect: \xe9\n", "byte 8 is not UTF-8")],
)
def test_a_file_in_another_encoding(content: bytes, why: str) -> None:
    Path("floodmark.yaml").write_bytes(content)
    assert why in str(refusal(None))


def test_a_byte_order_mark_does_no_harm() -> None:
    Path("floodmark.yaml").write_bytes(b"\xef\xbb\xbfdetect: always\n")
    assert load(Flags(), BASE).selection.detect == "always"


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    message = str(refusal(None, config=Path("other.yaml")))
    assert "other.yaml" in message and "does not exist" in message
    assert "can't be read" in str(refusal(None, config=tmp_path))
    Path("other.yaml").write_text("detect: always")
    assert load(Flags(config=Path("other.yaml")), BASE).selection.detect == "always"


# --- places and flags ------------------------------------------------------------------------------------------


def test_no_source_names_the_three_ways_to_give_one() -> None:
    message = str(refusal(None, {"FLOODMARK_DESTINATION": "s3://mine/x"}))
    assert all(part in message for part in ("--source", "FLOODMARK_SOURCE", "PGHOST"))


def test_no_destination_names_the_ways_to_give_one() -> None:
    message = str(refusal(None, {"PGHOST": "h"}))
    assert all(part in message for part in ("--destination", "FLOODMARK_DESTINATION"))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{CANARY}@h/db",
        f"postgres://:{CANARY}@h/db",
        f"postgresql+psycopg://u:{CANARY}@h/db",
        f"postgresql://u:a/b{CANARY}@h/db",
        f"postgresql://u:a?b{CANARY}@h/db",
        f"postgresql://u@h/db?password={CANARY}",
        f"postgresql://u@h/db?p%61ssword={CANARY}",
        f"postgresql://u@h/db?sslmode=require&sslpassword={CANARY}",
        f"postgresql:///db?Password={CANARY}",
        f" postgresql://u:{CANARY}@h/db",
        f"mysql://u:{CANARY}@h/db",
        f"mysql+pymysql://u@h/db?password={CANARY}",
        f"mssql+pyodbc://?odbc_connect=PWD%3d{CANARY}",
    ],
)
def test_a_password_in_the_flag_is_refused_and_elsewhere_taken(url: str) -> None:
    error = refusal(None, source=Secret(url))
    assert CANARY not in str(error)
    assert "--source" in str(error) and "FLOODMARK_SOURCE" in str(error)
    assert ("PGPASSWORD" in str(error)) == url.strip().startswith("postgres")
    assert ("MYSQL_PWD" in str(error)) == url.startswith("mysql")
    assert load(Flags(), {**BASE, "FLOODMARK_SOURCE": url}).source.url == Secret(url.strip())
    assert from_file(f"source: {{url: '{url}'}}", {"FLOODMARK_DESTINATION": "./x"}).source.url == Secret(url.strip())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:a@b@h/db", "an @ too many"),
        ("mysql://h:port/db", "not a database URL"),
        ("mysql+pymysql:/h/db", "not a database URL"),
        ("duckdb://file.db", "DuckDB has no host"),
        ("duckdb:///:memory:", "names no file"),
        ("postgresql+psycopg2://h/db", "not supported yet"),
        ("sqlite+pysqlcipher:///x", "not supported yet"),
        ("", "not a database URL"),
        ("db", "not a database URL"),
        ("/var/lib/x.db", "not a database URL"),
        ("postgresql:/h/db", "not a database URL"),
        ("host=h dbname=d", "not a database URL"),
        ("postgresql://h:port/db", "its port is not a number"),
        ("postgresql://u:a@b@h/db", "an @ too many"),
        ("sqlite://file.db", "SQLite has no host"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_wrong_source(url: str, why: str) -> None:
    assert why in str(refusal(None, source=Secret(url)))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/db",
        "postgresql://user@tenant@h/db",
        "postgres://u@h:5432/db",
        "postgresql+psycopg://u@[::1]:5432/db",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://",
        "sqlite:///a.db",
        "sqlite:////data/a@b.db",
        "duckdb:///a.db",
        "mysql://u@h/db?charset=utf8mb4",
        "mariadb+pymysql://u@h:3306/db",
        "oracle+oracledb://h/db",
        "some_other+driver://u@h/db",
    ],
)
def test_a_right_source(url: str) -> None:
    assert load(Flags(source=Secret(url), destination="./x"), {}).source.url == Secret(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "empty"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3:bucket", "names no bucket"),
        (f"s3://key:{CANARY}@bucket/x", "credentials"),
        ("s3://bucket:9000/x", "credentials or a port"),
        ("s3://bucket/x?endpoint=y", "parameters"),
        ("gs://bucket/x", "not supported"),
        ("https://bucket.s3.amazonaws.com/x", "not supported"),
        ("file://data", "it is not file://"),
        ("my-lake/old", "Write s3://my-lake/old for a bucket, or ./my-lake/old for a folder."),
        ("S3://bucket/x", "not supported"),
        ("~/out", "~ means nothing"),
        ("out\n", "control characters"),
    ],
)
def test_a_wrong_place(url: str, why: str) -> None:
    for flag in ("destination", "state"):
        message = str(refusal(None, **{flag: url}))
        assert f"--{flag}" in message and why in message
        assert CANARY not in message


def test_a_wrong_place_is_named_by_where_it_was_given() -> None:
    assert "S3_DESTINATION" in str(refusal(None, {"PGHOST": "h", "S3_DESTINATION": "gs://x"}))
    assert "FLOODMARK_STATE" in str(refusal(None, {**BASE, "FLOODMARK_STATE": "gs://x"}))
    assert "state.url (floodmark.yaml)" in str(refusal("state: {url: gs://x}"))


@pytest.mark.parametrize("flag", ["tables", "exclude"])
def test_an_empty_pattern_on_the_command_line(flag: str) -> None:
    name = {"tables": "--table", "exclude": "--exclude"}[flag]
    assert name in str(refusal(None, **{flag: ("public.a", "")}))


def test_connections_out_of_range() -> None:
    assert "--connections" in str(refusal(None, connections=1000))


def test_secrets_print_as_stars() -> None:
    environ = {**BASE, "FLOODMARK_SOURCE": f"postgresql://u:{CANARY}@h/db", "FLOODMARK_MASK_KEY": CANARY}
    settings = load(Flags(), environ)
    for text in (repr(settings), str(settings), f"{settings.source.url}", pretty_repr(settings), repr(settings.source)):
        assert CANARY not in text
        assert "***" in text


@pytest.mark.parametrize(
    ("text", "guards"),
    [
        ("", Guards(50, 90, "fail")),
        ("guards: {tables_gone: 20%, rows_removed: 5 %}", Guards(20, 5, "fail")),
        ("guards: {tables_gone: 0, rows_removed: '100'}", Guards(0, 100, "fail")),
        ("guards: {tables_gone: accept, rows_removed: accept, first_run_empty: accept}", Guards(None, None, "accept")),
    ],
)
def test_guards(text: str, guards: Guards) -> None:
    assert from_file(text).guards == guards
    assert from_file(text, accept_loss=True).guards == Guards(None, None, "accept")
