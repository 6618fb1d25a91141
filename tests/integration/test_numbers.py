"""`numbers: quote-large`, as its users have it: at a destination, and on the way to a landing zone."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from isal import igzip
from jsonschema import Draft202012Validator

from fix_command import CHUNKS, Floodmark, entry_of
from fix_postgres import PgDatabase
from floodmark.reader.reader import open as open_landed
from floodmark.state.manifest import Manifest

SERVICE = """
    CREATE TABLE account (
        id int PRIMARY KEY, n numeric, fixed numeric(30,2), doc jsonb, raw json, list numeric[], f float8, i bigint,
        t text
    ) WITH (autovacuum_enabled = off);
    INSERT INTO account VALUES
      (1, 12345678901234567890123, -9223372036854775809.50, '{"a": [1, {"b": 99999999999999999999}]}',
       '[1e300, -1234567890123456789012]', '{1,10000000000000000000,NULL}', 1e30, 9223372036854775807,
       '12345678901234567890123'),
      (2, 9223372036854775807, 9223372036854775808.25,
       '{"12345678901234567890123": "\\" 12345678901234567890123"}', 'null', '{}', 'NaN', -9223372036854775808, NULL),
      (3, 'NaN', NULL, '1e30', NULL, NULL, NULL, NULL, E'a "12345678901234567890123" \\\\');
    INSERT INTO account (id, n, t) SELECT i, i, repeat('x', 200) FROM generate_series(10, 1500) i;
    CREATE TABLE visit (id int); INSERT INTO visit VALUES (1)"""
# As they stand in the lines; jsonb spells 1e30 out.
LARGE = (
    "12345678901234567890123", "-9223372036854775809.50", "99999999999999999999", "-1234567890123456789012",
    "10000000000000000000", "9223372036854775808.25", f"1{'0' * 30}",
)  # fmt: skip


@pytest.fixture
def floodmark(pg: PgDatabase, tmp_path: Path) -> Floodmark:
    pg.execute(SERVICE)
    made = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "FLOODMARK_DESTINATION": str(tmp_path / "lake")})
    made.configure(CHUNKS)
    return made


def lines_of(lake: Path, manifest: Manifest) -> list[bytes]:
    objects = entry_of(manifest, "public.account").objects
    raw = b"".join(igzip.decompress((lake / one.key).read_bytes()) for one in objects)
    return raw.splitlines(keepends=True)


def quoted(line: bytes) -> bytes:
    """By what the rows are known to hold: a number follows a colon, a bracket or a comma."""
    text = line.decode()
    for number in LARGE:
        for before in (":", ": ", "[", ", ", ","):
            for after in (",", "}", "]"):
                text = text.replace(f"{before}{number}{after}", f'{before}"{number}"{after}')
    return text.encode()


def test_at_a_destination(floodmark: Floodmark, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    first = floodmark.run().manifest
    plain = lines_of(lake, first)
    changed = floodmark.run("--numbers", "quote-large")
    assert changed.outcomes["public.account"] == ("extracted", "config_changed")
    assert entry_of(changed.manifest, "public.account").encoding.numbers == "quote-large"  # type: ignore[union-attr]
    lines = lines_of(lake, changed.manifest)
    assert lines == [quoted(line) for line in plain] and sum(map(len, lines)) == sum(map(len, plain)) + 2 * len(LARGE)

    floodmark.configure(f"{CHUNKS}destination: {{numbers: quote-large}}\naudit: {{share: 100%}}\n")
    again = floodmark.run()
    assert {code for _, code in again.outcomes.values()} == {"unchanged"} and "mismatch" not in again.err
    floodmark("verify", "--deep", "--against-source")
    assert "numbers" not in json.dumps(floodmark("show", first.run_id, "--output", "json").json)


def test_floodmarks_own_readers_read_them_as_the_numbers_they_are(floodmark: Floodmark, tmp_path: Path) -> None:
    def read() -> list[object]:
        table, columns = open_landed(str(tmp_path / "lake")).latest()["public.account"], ["id", "n", "fixed", "i"]
        rows = [{name: row[name] for name in columns} for row in table.rows()]
        arrow = [row for batch in table.batches(text=["n"]) for row in batch.select(columns).to_pylist()]
        return [sorted(rows, key=lambda row: row["id"]), sorted(arrow, key=lambda row: row["id"])]

    floodmark("run")
    before = read()
    floodmark("run", "--numbers", "quote-large")
    after = read()
    assert str(after) == str(before) and isinstance(before[0][0]["n"], Decimal)  # type: ignore[index]
    schema = floodmark("schema", "--format", "json-schema", "--table", "public.account").json
    valid = Draft202012Validator(schema)
    lines = lines_of(tmp_path / "lake", floodmark("show", "--output", "json").manifest)
    assert all(valid.is_valid(json.loads(line)) for line in lines)
    assert not valid.is_valid({**json.loads(lines[0]), "n": "12"})


@pytest.mark.parametrize(("layout", "suffix"), [("moj-landing", ".jsonl"), ("plain", ".jsonl.gz")])
def test_on_the_way_to_a_landing_zone(floodmark: Floodmark, tmp_path: Path, layout: str, suffix: str) -> None:
    manifest, zone = floodmark.run().manifest, tmp_path / "zone"
    to = ("deliver", "--to", str(zone), "--layout", layout, "--output", "json")
    floodmark(*to)
    as_is = arrived(zone, suffix)
    assert b"".join(as_is) == b"".join(lines_of(tmp_path / "lake", manifest))
    sent = floodmark(*to, "--numbers", "quote-large").json["deliveries"][0]["tables"]
    assert {table["status"] for table in sent} == {"delivered"}, "another form is sent again"
    assert arrived(zone, suffix)[len(as_is) :] == [quoted(line) for line in as_is]
    again = floodmark(*to, "--numbers", "quote-large").json["deliveries"][0]["tables"]
    assert {table["status"] for table in again} == {"unchanged"}
    floodmark.configure(
        f"{CHUNKS}deliver: [{{name: moj, url: '{tmp_path}/other', layout: {layout}, numbers: quote-large}}]\n"
    )
    floodmark("deliver")
    assert arrived(tmp_path / "other", suffix) == [quoted(line) for line in as_is]


def arrived(zone: Path, suffix: str) -> list[bytes]:
    """The lines of `account`, in the order in which they came."""
    files = sorted(zone.glob("data/*/table_name=account/*/*"), key=lambda path: (path.parent.name, path.name))
    assert files and all(path.name.endswith(suffix) for path in files)
    data = [path.read_bytes() for path in files]
    return b"".join(map(igzip.decompress, data) if suffix.endswith(".gz") else data).splitlines(keepends=True)


def test_bad_input(floodmark: Floodmark, tmp_path: Path) -> None:
    assert "CSV has text, no numbers" in floodmark("run", "--format", "csv", "--numbers", "quote-large", code=10).err
    floodmark("run", "--numbers", "big", code=2)
    floodmark("run", "--format", "csv")
    floodmark("deliver", "--to", str(tmp_path / "zone"), "--numbers", "quote-large")
    rows = b"".join(path.read_bytes() for path in (tmp_path / "zone").rglob("account-*.csv*"))
    assert rows.startswith(b"\x1f\x8b"), "what is no number stays as it is stored"
    floodmark.configure(f"{CHUNKS}deliver: [{{name: moj, url: '{tmp_path}/other'}}]\n")
    refused = floodmark("deliver", "--numbers", "quote-large", code=10)
    assert "--numbers needs --to" in refused.err
